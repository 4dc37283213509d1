"""What is said about an image, as in-toto statements: its parts, where it comes from, who let it out, its model.

Each is a function of the image and of what is on record, without times or random ids: said again, it is the same
bytes. No name of a blob and no value of the data is in them.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from insitu import __version__
from insitu.images.described import BASE_DIGEST, BASE_NAME, REVISION, Described
from insitu.images.inventory import Inventory, Package
from insitu.images.manifest import canonical

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
SBOM = "https://cyclonedx.org/bom"
PROVENANCE = "https://slsa.dev/provenance/v1"
DECISION = "urn:insitu:decision:v1"
MODEL = "https://model_signing/signature/v1.0"
RESIDENCY = "urn:insitu:residency-clearance:v1"
"""What is said about records in the image."""

REQUIRED = {SBOM: "SBOM", PROVENANCE: "provenance", DECISION: "decision", MODEL: "model signature"}
TITLES = {**REQUIRED, RESIDENCY: "residency statement"}

BUILD_TYPE = "urn:insitu:retrain:v1"
PARAMETERS = ("model", "version", "batch_fingerprint", "code", "decision")
"""The labels of an image that its provenance repeats; that of the run key is the invocation's id."""

OWN_FILES = ("metadata.json", "model/MLmodel")
"""Files of the model's folder in an image that insitu writes itself; the others are as training left them."""

_RECORD, _LAYER = "insitu:record:sha256", "insitu:layer:"


@dataclass(frozen=True)
class Statement:
    """A predicate about one subject.

    Attributes:
        digest: Hex sha256 of the subject.
    """

    kind: str
    name: str
    digest: str
    predicate: Mapping[str, Any]

    @property
    def payload(self) -> bytes:
        """The statement as it is signed."""
        subject = {"name": self.name, "digest": {"sha256": self.digest}}
        parts = {"_type": STATEMENT_TYPE, "subject": [subject], "predicateType": self.kind}
        return canonical({**parts, "predicate": self.predicate})


def about_image(image: Described, kind: str, predicate: Mapping[str, Any]) -> Statement:
    """Return the statement about an image."""
    return Statement(kind, image.model_name, _hex(image.manifest.digest), predicate)


def bill_of_materials(image: Described, inside: Inventory) -> Statement:
    """Return the CycloneDX document of the image: base, packages, system libraries and model."""
    ours = {"type": "container", "name": image.model_name, "version": image.fact("version")}
    titles = (*image.titles, *[""] * len(image.layers))
    layers = [
        {"name": f"{_LAYER}{title or 'unnamed'}", "value": one.digest}
        for title, one in zip(titles, image.layers, strict=False)
    ]
    components = [
        *_base(image),
        *(_file(path, digest) for path, digest in inside.system.items()),
        *(_package(one) for one in inside.packages.values()),
        _model(image, inside),
    ]
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, image.manifest.digest)}",
        "version": 1,
        "metadata": {
            "component": {**ours, "hashes": _hashes(_hex(image.manifest.digest)), "properties": layers},
            "tools": {"components": [{"type": "application", "name": "insitu", "version": __version__}]},
        },
        "components": components,
    }
    return about_image(image, SBOM, document)


def _base(image: Described) -> list[dict[str, Any]]:
    digest, name = image.annotations.get(BASE_DIGEST), image.annotations.get(BASE_NAME, "base image")
    return [{"type": "container", "name": name, "hashes": _hashes(_hex(digest))}] if digest else []


def _file(path: str, digest: str) -> dict[str, Any]:
    return {"type": "file", "name": path, "hashes": _hashes(digest)}


def _package(package: Package) -> dict[str, Any]:
    purl = f"pkg:pypi/{package.name}@{package.version}"
    part = {"type": "library", "purl": purl, "name": package.name, "version": package.version}
    known = {"licenses": [{"expression": package.license}]} if package.license else {}
    return {**part, **known, "properties": [{"name": _RECORD, "value": package.record}]}


def _model(image: Described, inside: Inventory) -> dict[str, Any]:
    files = [_file(path, digest) for path, digest in inside.model.items()]
    part = {"type": "machine-learning-model", "name": image.model_name}
    return {**part, "version": image.fact("version"), "components": files}


def materials_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a bill of materials claims, to be compared with `materials_in`; raise `KeyError`, `TypeError`."""
    parts = document["components"]
    packages = [
        (one["name"], one["version"], next(p["value"] for p in one["properties"] if p["name"] == _RECORD))
        for one in parts
        if str(one.get("purl", "")).startswith("pkg:pypi/")
    ]
    (model,) = (one for one in parts if one["type"] == "machine-learning-model")
    about = document["metadata"]["component"]
    return {
        "image": (about["name"], about["version"], _claimed(about)[1]),
        "packages": sorted(packages),
        "system libraries": dict(map(_claimed, (one for one in parts if one["type"] == "file"))),
        "model files": dict(map(_claimed, model["components"])),
        "layers": [p["value"] for p in about["properties"] if p["name"].startswith(_LAYER)],
        "base": [_claimed(one)[1] for one in parts if one["type"] == "container"],
    }


def materials_in(image: Described, inside: Inventory) -> dict[str, Any]:
    """Return what is in the image, as `materials_of` has it."""
    base = image.annotations.get(BASE_DIGEST)
    return {
        "image": (image.model_name, image.fact("version"), _hex(image.manifest.digest)),
        "packages": sorted((one.name, one.version, one.record) for one in inside.packages.values()),
        "system libraries": dict(inside.system),
        "model files": dict(inside.model),
        "layers": [one.digest for one in image.layers],
        "base": [_hex(base)] if base else [],
    }


def provenance(image: Described, site: str, files: Mapping[str, str], batch: Mapping[str, int]) -> Statement:
    """Return where the image comes from, as SLSA describes a build.

    Args:
        image: Its labels say model, version, run key, batch, code and decision.
        site: The site that made it.
        files: What training left, by path (`model/...`, `model.onnx`), each with its hex sha256.
        batch: How many `blobs` and `bytes` the batch had; its fingerprint stands for their names.
    """
    base, revision = image.annotations.get(BASE_DIGEST), image.annotations.get(REVISION)
    made_of = [
        {**_material("base", base_of(image)), **({"uri": image.annotations.get(BASE_NAME, "")} if base else {})},
        {**_material("batch", image.fact("batch_fingerprint")), "annotations": dict(batch)},
        _material("code", image.fact("code")),
        *(_material(name, files[name]) for name in sorted(files)),
        *([{"name": "source", "digest": {"gitCommit": revision}}] if revision else []),
    ]
    predicate = {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {name: image.fact(name) for name in PARAMETERS},
            "internalParameters": {},
            "resolvedDependencies": made_of,
        },
        "runDetails": {
            "builder": {"id": builder_at(site), "version": {"insitu": __version__}},
            "metadata": {"invocationId": image.fact("run_key")},
        },
    }
    return about_image(image, PROVENANCE, predicate)


def builder_at(site: str) -> str:
    """Return what provenance calls a site that makes images."""
    return f"urn:insitu:site:{site}"


def base_of(image: Described) -> str:
    """Return the hex digest of the base image, or of the layer that is the base."""
    return _hex(image.annotations.get(BASE_DIGEST, image.layers[0].digest))


def decision(image: Described, envelope: bytes) -> Statement:
    """Return by which decision the image is published: the signed record itself, byte by byte."""
    told = {"digest": f"sha256:{sha256(envelope).hexdigest()}", "envelope": envelope.decode()}
    return about_image(image, DECISION, told)


def residency(image: Described, told: Mapping[str, Any]) -> Statement:
    """Return what is said about records in the image (`insitu.residency.statement`)."""
    return about_image(image, RESIDENCY, told)


def model_signature(image: Described, inside: Inventory) -> Statement:
    """Return the files of the model's folder in the image, as OpenSSF's model signing lists them.

    Its subject is the model, not the image: the digest over the files' digests, in the order of their names.
    """
    resources = [
        {"name": name, "algorithm": "sha256", "digest": digest} for name, digest in sorted(inside.model.items())
    ]
    serialization = {"method": "files", "hash_type": "sha256", "allow_symlinks": False, "ignore_paths": []}
    predicate = {"serialization": serialization, "resources": resources}
    return Statement(MODEL, image.model_name, model_digest(inside.model), predicate)


def model_digest(files: Mapping[str, str]) -> str:
    """Return the hex digest that stands for a model of *files*."""
    return sha256(b"".join(bytes.fromhex(digest) for _, digest in sorted(files.items()))).hexdigest()


def _material(name: str, digest: str) -> dict[str, Any]:
    return {"name": name, "digest": {"sha256": digest}}


def _claimed(part: Mapping[str, Any]) -> tuple[str, str]:
    (digest,) = (one["content"] for one in part["hashes"] if one["alg"] == "SHA-256")
    return part["name"], digest


def _hashes(digest: str) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": digest}]


def _hex(digest: str | None) -> str:
    return (digest or "").removeprefix("sha256:")
