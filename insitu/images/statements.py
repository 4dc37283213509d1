"""What is said about an image, as in-toto statements: its parts, where it comes from, who let it out, its model.

Each is a function of the image and of what is on record, without times or random ids: said again, it is the same
bytes. No name of a blob and no value of the data is in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from insitu import __version__
from insitu.images.described import BASE_DIGEST, BASE_NAME, REVISION, Described
from insitu.images.inventory import Inventory
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


@dataclass(frozen=True)
class Statement:
    """A predicate about one subject, or about some that belong together.

    Attributes:
        digest: Hex sha256 of the subject.
        beside: Name and hex sha256 of each further one.
    """

    kind: str
    name: str
    digest: str
    predicate: Mapping[str, Any]
    beside: tuple[tuple[str, str], ...] = ()

    @property
    def payload(self) -> bytes:
        """The statement as it is signed."""
        subjects = [
            {"name": name, "digest": {"sha256": digest}} for name, digest in ((self.name, self.digest), *self.beside)
        ]
        parts = {"_type": STATEMENT_TYPE, "subject": subjects, "predicateType": self.kind}
        return canonical({**parts, "predicate": self.predicate})


def about_image(image: Described, kind: str, predicate: Mapping[str, Any]) -> Statement:
    """Return the statement about an image."""
    return Statement(kind, image.model_name, hex_of(image.manifest.digest), predicate)


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
    return hex_of(image.annotations.get(BASE_DIGEST, image.layers[0].digest))


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


def hex_of(digest: str | None) -> str:
    return (digest or "").removeprefix("sha256:")
