"""A bundle: one image with its attestations in one file, for places that no network reaches.

It is a plain tar of an OCI image layout (skopeo reads it as `oci-archive:FILE:TAG`) with a page of its own in front,
which names every blob. All other bytes of the file follow from that page and from the blobs, and a reader compares each
of them: nothing can be changed, left out, added, doubled or put elsewhere without being seen.

    insitu-bundle.json    what it holds: image, attestations, tags, blobs, and the blobs that the receiver has
    oci-layout
    index.json            tags and attestations; names the digest of the page in front
    blobs/sha256/HEX      manifest and configuration of the image, attestations, layers
"""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from typing import Any

from insitu.errors import BundleRefused, ImageFailed
from insitu.images.layers import EPOCH_S
from insitu.images.manifest import canonical, parts_of, to_json
from insitu.images.referrers import INDEX_TYPE
from insitu.ports import Descriptor, ImageRegistry

FRONT = "insitu-bundle.json"
END = bytes(2 * tarfile.BLOCKSIZE)
_KIND, _FORMAT = "insitu bundle", 1
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_TAG = "org.opencontainers.image.ref.name"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_TAG_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True)
class Bundle:
    """What a bundle holds.

    Attributes:
        model: What the image says that it is; empty when it says nothing.
        version: Of the model, likewise.
        made_by: Which insitu wrote it.
        attestations: Manifests about the image.
        tags: What the receiver is to call it.
        blobs: What lies in the file, in this order.
        without: Layers of the image that do not, for the receiver has them.
    """

    model: str
    version: str
    made_by: str
    image: Descriptor
    attestations: tuple[Descriptor, ...]
    tags: tuple[str, ...]
    blobs: tuple[Descriptor, ...]
    without: tuple[Descriptor, ...] = ()

    @property
    def digest(self) -> str:
        """Digest of the image."""
        return self.image.digest

    @cached_property
    def front(self) -> bytes:
        """The page in front, byte for byte."""
        return canonical(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """Return what the page in front says, as JSON values."""
        return {
            "kind": _KIND,
            "format": _FORMAT,
            **{name: getattr(self, name) for name in ("model", "version", "made_by")},
            "tags": list(self.tags),
            "image": to_json(self.image),
            **{name: [*map(to_json, getattr(self, name))] for name in ("attestations", "blobs", "without")},
        }

    @property
    def entries(self) -> Iterator[tuple[str, int, str, bytes | None]]:
        """Yield what is in the file: name, size, digest, and the content of what is no blob."""
        index = canonical(self._index)
        for name, content in ((FRONT, self.front), ("oci-layout", _LAYOUT), ("index.json", index)):
            yield name, len(content), digest_of(content), content
        for blob in self.blobs:
            yield blob_name(blob.digest), blob.size_bytes, blob.digest, None

    @property
    def size_bytes(self) -> int:
        """How long the file is."""
        sizes = (tarfile.BLOCKSIZE + size + len(padding(size)) for _, size, _, _ in self.entries)
        return sum(sizes) + len(END)

    @property
    def _index(self) -> dict[str, Any]:
        named = [to_json(self.image) | {"annotations": {_TAG: tag}} for tag in self.tags]
        return {
            "annotations": {"io.insitu.bundle": digest_of(self.front)},
            "manifests": [*(named or [to_json(self.image)]), *map(to_json, self.attestations)],
            "mediaType": INDEX_TYPE,
            "schemaVersion": 2,
        }


def plan_bundle(images: ImageRegistry, digest: str, tags: Sequence[str], made_by: str) -> Bundle:
    """Return the bundle of an image with nothing left out; raise `BundleRefused` when *images* lack a manifest."""
    image, manifest = found(images, digest)
    config, layers = parts_of(manifest)
    attestations = tuple(images.referrers(digest))
    blobs = [image, config]
    for one in attestations:
        about, inside = parts_of(found(images, one.digest)[1])
        blobs += [one, about, *inside]
    says = json.loads(manifest).get("annotations") or {}
    return Bundle(
        model=str(says.get("io.insitu.model", "")),
        version=str(says.get("io.insitu.version", "")),
        made_by=made_by,
        image=image,
        attestations=attestations,
        tags=tuple(dict.fromkeys(tags)),
        blobs=tuple({one.digest: one for one in [*blobs, *layers]}.values()),
    )


def leave_out(bundle: Bundle, layers: Sequence[Descriptor], there: frozenset[str]) -> Bundle:
    """Return *bundle* without those of the image's *layers* that are *there*."""
    without = {one.digest for one in layers} & there
    return replace(
        bundle,
        blobs=tuple(one for one in bundle.blobs if one.digest not in without),
        without=tuple(one for one in bundle.blobs if one.digest in without),
    )


def parse_front(content: bytes) -> Bundle:
    """Return what the page in front says; raise `BundleRefused` when it is not as insitu writes it."""
    try:
        value = json.loads(content)
        bundle = Bundle(
            model=str(value["model"]),
            version=str(value["version"]),
            made_by=str(value["made_by"]),
            image=_descriptor(value["image"]),
            attestations=tuple(map(_descriptor, value["attestations"])),
            tags=tuple(map(str, value["tags"])),
            blobs=tuple(map(_descriptor, value["blobs"])),
            without=tuple(map(_descriptor, value["without"])),
        )
        is_ours = bundle.front == content  # no other key, kind, format, type or way of writing it
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        is_ours = False
    if not is_ours or not all(map(_TAG_NAME.fullmatch, bundle.tags)):
        raise _unreadable(content)
    return bundle


def _unreadable(content: bytes) -> BundleRefused:
    """Return why the page in front is refused: one of another format is whole, any other was changed."""
    newer = re.search(rb'"format":([0-9]{1,4}),"image"', content)
    if newer and int(newer[1]) != _FORMAT:
        return BundleRefused(
            "this is not a bundle that this insitu can read",
            found=f"format {int(newer[1])}",
            wanted=f"format {_FORMAT}",
            next_action="read it with the insitu that wrote it, or a newer one; if that cannot, it was changed",
        )
    return BundleRefused(
        f"the bundle was changed: {FRONT}",
        found="bytes that insitu does not write there",
        wanted=f"the page in front, as format {_FORMAT} has it",
        next_action="have it exported and carried over once more; if that does not help, look where it is changed",
    )


def found(images: ImageRegistry, digest: str) -> tuple[Descriptor, bytes]:
    """Return a manifest of *images*; raise `BundleRefused` when it is not there, or is none of an image."""
    there = images.resolve(digest)
    if there is None:
        raise BundleRefused(f"{images.name} lacks a manifest", wanted=digest)
    try:
        parts_of(there[1])
    except ImageFailed as exc:
        raise BundleRefused(f"{digest} is no manifest of an image or attestation", found=exc.what) from exc
    return there


def header(name: str, size_bytes: int) -> bytes:
    """Return the header of a file in the tar."""
    info = tarfile.TarInfo(name)
    info.size, info.mtime = size_bytes, EPOCH_S
    return info.tobuf(tarfile.GNU_FORMAT)


def padding(size_bytes: int) -> bytes:
    """Return what follows a file in the tar."""
    return bytes(-size_bytes % tarfile.BLOCKSIZE)


def blob_name(digest: str) -> str:
    """Return what a blob is called in the tar."""
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"


def digest_of(content: bytes) -> str:
    """Return the digest of bytes."""
    return f"sha256:{sha256(content).hexdigest()}"


def _descriptor(value: Any) -> Descriptor:
    digest, size_bytes = str(value["digest"]), int(value["size"])
    if not _DIGEST.fullmatch(digest) or size_bytes < 0:
        raise ValueError("no descriptor")
    return Descriptor(str(value["mediaType"]), digest, size_bytes)
