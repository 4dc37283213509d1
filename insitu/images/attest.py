"""Attestations: signed statements, attached to an image in its registry as what refers to it.

Each is an artifact manifest with the image as its `subject` and one blob: a DSSE envelope in a Sigstore bundle, as
cosign stores it (https://github.com/sigstore/cosign/blob/main/specs/BUNDLE_SPEC.md).
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from insitu.errors import ImageFailed, PublishFailed, SignatureRefused
from insitu.images.manifest import MANIFEST_TYPE, canonical, parts_of, to_json
from insitu.images.reading import read_document
from insitu.images.referrers import subject_of
from insitu.images.statements import STATEMENT_TYPE, TITLES, Statement
from insitu.ports import Descriptor, ImageRegistry
from insitu.signing import PublicKey, SigningKey, sign, verify

PAYLOAD_TYPE = "application/vnd.in-toto+json"
BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
KIND_NOTE = "dev.sigstore.bundle.predicateType"
_EMPTY_TYPE, _EMPTY = "application/vnd.oci.empty.v1+json", b"{}"


@dataclass(frozen=True)
class Attested:
    """A statement that a trusted key has signed.

    Attributes:
        manifest: Digest of the manifest that attaches it.
        key: Id of the key.
        subjects: Hex sha256 of each thing that it is about; empty for one of which it does not say that.
    """

    manifest: str
    key: str
    kind: str
    subjects: tuple[str, ...]
    predicate: Mapping[str, Any]

    @property
    def title(self) -> str:
        """What people call it."""
        return TITLES.get(self.kind, self.kind)


@dataclass(frozen=True)
class Foreign:
    """What refers to the image and proves nothing: of another type, or signed by a key that is not trusted."""

    manifest: str
    kind: str
    why: str

    def __str__(self) -> str:
        return f"{TITLES.get(self.kind, self.kind)} {self.manifest[:19]}: {self.why}"


def attach_statements(
    images: ImageRegistry, image: Descriptor, statements: Iterable[Statement], key: SigningKey
) -> None:
    """Sign each statement and attach it to *image*; what is attached already stays as it is.

    Raises:
        PublishFailed: *images* refuse it.
        StorageFull: No space.
    """
    there = {one.digest for one in images.referrers(image.digest)}
    attached = []
    for one in statements:
        content = bundle_of(sign(PAYLOAD_TYPE, one.payload, key), key.public)
        manifest = manifest_of(one.kind, content, image)
        descriptor = _descriptor(MANIFEST_TYPE, manifest)
        if descriptor.digest not in there:
            for kind, data in ((BUNDLE_TYPE, content), (_EMPTY_TYPE, _EMPTY)):
                _put(images, _descriptor(kind, data), data)
            attached.append((descriptor, manifest))
    if attached:
        images.attach(image.digest, *attached)


def bundle_of(envelope: bytes, key: PublicKey) -> bytes:
    """Return *envelope* as a Sigstore bundle that *key* verifies.

    Whose key it is stands beside the envelope: cosign does not look at signatures that name a key in another way than
    its own.
    """
    parts = json.loads(envelope)
    signatures = [{"sig": one["sig"]} for one in parts["signatures"]]
    return canonical(
        {
            "mediaType": BUNDLE_TYPE,
            "verificationMaterial": {"publicKey": {"hint": key.id}},
            "dsseEnvelope": {**parts, "signatures": signatures},
        }
    )


def manifest_of(kind: str, content: bytes, image: Descriptor) -> bytes:
    """Return the manifest that attaches a bundle with a statement of *kind* to *image*."""
    return canonical(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "artifactType": BUNDLE_TYPE,
            "annotations": {"dev.sigstore.bundle.content": "dsse-envelope", KIND_NOTE: kind},
            "config": to_json(_descriptor(_EMPTY_TYPE, _EMPTY)),
            "layers": [to_json(_descriptor(BUNDLE_TYPE, content))],
            "subject": to_json(image),
        }
    )


def attestations(images: ImageRegistry, digest: str, trusted: Collection[PublicKey]) -> Iterator[Attested | Foreign]:
    """Yield what refers to the image *digest*, in digest order.

    Raises:
        SignatureRefused: One refers to something else, is not what its trusted key has signed, or is not as its
            manifest says.
        PublishFailed: A part of one is missing, or has other bytes than its digest names.
    """
    for one in images.referrers(digest):
        found = images.resolve(one.digest)
        if found is None:
            raise PublishFailed(f"{images.name} lists an attestation that it does not have", wanted=one.digest)
        yield _attestation(images, digest, one.digest, found[1], trusted)


def _attestation(
    images: ImageRegistry, image: str, name: str, manifest: bytes, trusted: Collection[PublicKey]
) -> Attested | Foreign:
    if (subject := subject_of(manifest)) != image:
        raise SignatureRefused(f"attestation {name[:19]} refers to another image", found=str(subject), wanted=image)
    says = json.loads(manifest)
    if says.get("artifactType") != BUNDLE_TYPE:
        return Foreign(name, str(says.get("artifactType") or "artifact"), "not of a type that insitu reads")
    notes = says.get("annotations")
    kind = str(notes.get(KIND_NOTE, "statement")) if isinstance(notes, dict) else "statement"
    try:
        signer, envelope = _envelope(images, manifest)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, ImageFailed):
        if kind in TITLES:
            raise SignatureRefused(f"the {TITLES[kind]} ({name[:19]}) is no DSSE envelope in a bundle") from None
        return Foreign(name, kind, "no DSSE envelope in it")
    key = next((one for one in trusted if one.id == signer), None)
    if key is None:
        return Foreign(name, kind, f"signed by a key that is not trusted: {ascii(signer[:12])[1:-1] or 'unnamed'}")
    return _opened(name, kind, envelope, key)


def _envelope(images: ImageRegistry, manifest: bytes) -> tuple[str, bytes]:
    """Return who says to have signed the only blob of an attestation, and the envelope in it."""
    _, (blob,) = parts_of(manifest)
    bundle = json.loads(read_document(images, blob))
    signer = (bundle.get("verificationMaterial") or {}).get("publicKey") or {}
    return str(signer.get("hint", "")), json.dumps(dict(bundle["dsseEnvelope"])).encode()


def _opened(name: str, kind: str, envelope: bytes, key: PublicKey) -> Attested:
    what = f"the {TITLES.get(kind, kind)} ({name[:19]})"
    try:
        payload = verify(envelope, PAYLOAD_TYPE, [key])
    except SignatureRefused as exc:
        raise SignatureRefused(
            f"{what} is not trusted: {exc.what}",
            found=exc.found,
            wanted=exc.wanted,
            next_action="somebody has altered it: take the image from where it was published, and find out who",
        ) from None
    try:
        statement = json.loads(payload)
        says, subjects = (statement["_type"], statement["predicateType"]), statement["subject"]
        about = tuple(str(dict(one["digest"]).get("sha256", "")) for one in subjects)
        predicate = dict(statement["predicate"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise SignatureRefused(f"{what} holds no in-toto statement") from None
    if says != (STATEMENT_TYPE, kind):
        raise SignatureRefused(
            f"{what} holds another statement than its manifest says", found=", ".join(map(str, says)), wanted=kind
        )
    return Attested(name, key.id, kind, about, predicate)


def _descriptor(kind: str, content: bytes) -> Descriptor:
    return Descriptor(kind, f"sha256:{sha256(content).hexdigest()}", len(content))


def _put(images: ImageRegistry, descriptor: Descriptor, content: bytes) -> None:
    if images.has_blob(descriptor.digest):
        return
    with tempfile.TemporaryDirectory(prefix="insitu-") as scratch:
        path = Path(scratch) / "blob"
        path.write_bytes(content)
        images.put_blob(descriptor, path)
