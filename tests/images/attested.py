"""A tiny image with everything that is said about it, made in milliseconds, and ways to alter it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from insitu.adapters.local.images import LayoutImages
from insitu.decisions import PAYLOAD_TYPE as DECISION_TYPE
from insitu.decisions import Record
from insitu.images.attest import BUNDLE_TYPE, PAYLOAD_TYPE, attach_statements, bundle_of, manifest_of
from insitu.images.bills import bill_of_materials, bill_of_software, software_layers
from insitu.images.blobs import BlobFolder
from insitu.images.described import describe
from insitu.images.inventory import inventory
from insitu.images.layers import Entry, Layer, write_layer
from insitu.images.manifest import CONFIG_TYPE, MANIFEST_TYPE, canonical, image_config, image_manifest
from insitu.images.statements import SBOM, Statement, decision, model_signature, provenance
from insitu.ports import Descriptor
from insitu.signing import PublicKey, SigningKey, sign

BATCH, CODE = "b" * 64, "c" * 64
COMMIT = "d" * 40
SOFTWARE = "SBOM of the software"
"""What the tests call the statement about the layers below the model's; it is of the kind `SBOM`, too."""

Change = Callable[[dict[str, Any]], object]


def _subjects(bundle: dict[str, Any]) -> list[str]:
    """Return the hex digests that a bundle's statement is about; a forged one may be about nothing."""
    try:
        statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
        return [one["digest"]["sha256"] for one in statement["subject"]]
    except (ValueError, KeyError, TypeError):
        return []


def new_key() -> SigningKey:
    key = SigningKey.from_pem(SigningKey.new_pem().encode())
    assert key
    return key


KEY, STRANGER = new_key(), new_key()
TRUSTED: tuple[PublicKey, ...] = (KEY.public,)


def record_of(version: str = "1", **changes: Any) -> Record:
    """Return the gate's promotion of the tiny model, with changes."""
    said = {"kind": "gate", "verdict": "promote", "who": "insitu", "when": "2026-11-30T12:00:00+00:00"}
    about = {"model": "tiny", "site": "local", "run_key": sha256(version.encode()).hexdigest(), "batch": BATCH}
    more = {"number": 1, "evidence": "sha256:" + "e" * 64, "champion": None, "reasons": ("good",)}
    return Record(**{**said, **about, **more, "settings": {"gate": {"approval": "never"}}, **changes})


def enveloped(record: Record, key: SigningKey = KEY) -> bytes:
    return sign(DECISION_TYPE, canonical(asdict(record)), key)


def package(name: str, version: str) -> list[Entry]:
    folder = f"opt/insitu/site-packages/{name}-{version}.dist-info"
    head = f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\nLicense-Expression: MIT\n\nAbout it.\n"
    return [Entry(f"{folder}/METADATA", head.encode()), Entry(f"{folder}/RECORD", f"{name}.py,sha256=x,1\n".encode())]


@dataclass(frozen=True)
class Attested:
    """An image in a layout."""

    images: LayoutImages
    image: Descriptor
    record: Record

    @property
    def digest(self) -> str:
        return self.image.digest

    def copy(self, root: Path) -> Attested:
        """Return the image, with what refers to it, in a layout of its own."""
        for path in self.images.root.rglob("*"):
            if path.is_file():
                target = root / path.relative_to(self.images.root)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(path.read_bytes())
        return replace(self, images=LayoutImages(root))

    @property
    def attached(self) -> dict[str, tuple[str, dict[str, Any]]]:
        """By the kind of statement: digest of its manifest, and the bundle."""
        found = {}
        for one in self.images.referrers(self.digest):
            resolved = self.images.resolve(one.digest)
            assert resolved
            manifest = json.loads(resolved[1])
            path = self.images.local_blob(manifest["layers"][0]["digest"])
            assert path
            kind = manifest["annotations"]["dev.sigstore.bundle.predicateType"]
            bundle = json.loads(path.read_bytes())
            if kind == SBOM and self.digest not in {f"sha256:{hex_}" for hex_ in _subjects(bundle)}:
                kind = SOFTWARE
            found[kind] = (one.digest, bundle)
        return found

    def statement(self, kind: str) -> dict[str, Any]:
        return dict(json.loads(base64.b64decode(self.attached[kind][1]["dsseEnvelope"]["payload"])))

    def drop(self, kind: str) -> None:
        self.images.delete(self.attached[kind][0])

    def attach(self, kind: str, bundle: bytes) -> None:
        """Attach a bundle, whatever is in it."""
        blobs = BlobFolder(self.images.root)
        blobs.add(bundle, BUNDLE_TYPE)
        blobs.add(b"{}", "application/vnd.oci.empty.v1+json")
        manifest = manifest_of(SBOM if kind == SOFTWARE else kind, bundle, self.image)
        digest = f"sha256:{sha256(manifest).hexdigest()}"
        self.images.attach(self.digest, (Descriptor(MANIFEST_TYPE, digest, len(manifest)), manifest))

    def exchange(
        self, kind: str, statement: Mapping[str, Any], key: SigningKey = KEY, of_type: str = PAYLOAD_TYPE
    ) -> None:
        """Put another signed statement in the place of the one of *kind*."""
        self.drop(kind)
        self.attach(kind, bundle_of(sign(of_type, canonical(statement), key), key.public))

    def forge(self, kind: str, change: Change) -> None:
        """Alter the bundle of *kind* as somebody without the key would."""
        bundle = self.attached[kind][1]
        self.drop(kind)
        change(bundle)
        self.attach(kind, canonical(bundle))

    def resign(self, kind: str, change: Change) -> None:
        """Alter the statement of *kind* and sign it with the site's key: what is said must be true, whoever says it."""
        statement = self.statement(kind)
        change(statement)
        self.exchange(kind, statement)


def tiny_image(root: Path, version: str = "1", record: Record | None = None, layers_from: int = 0) -> Attested:
    """Return an image of a few files in the layout *root*, attested by `KEY`; without the first of its four layers."""
    record = record or record_of(version)
    facts = {"model": record.model, "version": version, "run_key": record.run_key, "batch_fingerprint": record.batch}
    labels = {f"io.insitu.{key}": text for key, text in {**facts, "code": CODE, "decision": record.statement}.items()}
    labels |= {"org.opencontainers.image.version": version, "org.opencontainers.image.revision": COMMIT}
    blobs = BlobFolder(root)
    layers = _layers(blobs, version)[layers_from:]
    config = blobs.add(image_config(layers, facts, labels), CONFIG_TYPE)
    manifest = blobs.add(image_manifest(config, layers, labels), MANIFEST_TYPE)
    made = Attested(LayoutImages(root), manifest, record)
    attach_statements(made.images, manifest, statements_of(made, enveloped(record)), KEY)
    return made


def statements_of(made: Attested, envelope: bytes) -> list[Statement]:
    """Return what is said about the image."""
    image = describe(made.images, made.digest)
    inside = inventory(made.images, image.layers)
    files = {"model.onnx": inside.model["model.onnx"], "model/MLmodel": "f" * 64}
    software = bill_of_software(image, inventory(made.images, software_layers(image)))
    return [
        *([software] if software else []),
        bill_of_materials(image, inside),
        provenance(image, "local", files, {"blobs": 3, "bytes": 1000}),
        decision(image, envelope),
        model_signature(image, inside),
    ]


def _layers(blobs: BlobFolder, version: str) -> list[Layer]:
    held = {
        "base": [Entry("opt/python/bin/python3.11", b"python"), Entry("opt/python/lib/libz.so.1", b"libz")],
        "environment": [*package("numpy", "2.4.6"), *package("onnxruntime", "1.32.0")],
        "server": [Entry("opt/insitu/app/insitu_serving/__main__.py", b"serve()")],
        "model": [
            Entry("opt/insitu/model/metadata.json", b"{}"),
            Entry("opt/insitu/model/model.onnx", f"model {version}".encode()),
        ],
    }
    return [write_layer(title, entries, blobs) for title, entries in held.items()]
