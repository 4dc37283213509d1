"""Bills of materials (CycloneDX): one of an image and its model, and one of the software that its model stands on.

The second is about the layers below the model's, which stay as they are from one version to the next: it is signed
anew to the same bytes, so a registry that has it is not sent it again.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from insitu import __version__
from insitu.images.described import BASE_DIGEST, BASE_NAME, Described
from insitu.images.inventory import Inventory, Package
from insitu.images.statements import SBOM, Statement, about_image, hex_of
from insitu.ports import Descriptor

_RECORD, _LAYER = "insitu:record:sha256", "insitu:layer:"


def software_layers(image: Described) -> tuple[Descriptor, ...]:
    """Return the layers below the model's: equal in one version and the next, and of many models."""
    return image.layers[:-1]


def bill_of_software(image: Described, software: Inventory) -> Statement | None:
    """Return the CycloneDX document of the layers below the model's: packages and system libraries; None without any.

    It names neither model nor image, so it is the same bytes in each image with these layers, and is sent once.
    """
    if not software_layers(image):
        return None
    (digest, name), *beside = {hex_of(one.digest): title for title, one in _titled(image)[:-1]}.items()
    components = [
        *(_file(path, file) for path, file in software.system.items()),
        *(_package(one) for one in software.packages.values()),
    ]
    document = _document(_software_serial(image), {"type": "container", "name": "software"}, components)
    return Statement(SBOM, name, digest, document, tuple((title, other) for other, title in beside))


def subjects_of_software(image: Described) -> tuple[str, ...]:
    """Return the hex digests of what `bill_of_software` is about, each once, lowest first."""
    return tuple(dict.fromkeys(hex_of(one.digest) for one in software_layers(image)))


def bill_of_materials(image: Described, inside: Inventory) -> Statement:
    """Return the CycloneDX document of the image: base, layers and model; it links to that of its software, if any."""
    ours = {"type": "container", "name": image.model_name, "version": image.fact("version")}
    layers = [{"name": f"{_LAYER}{title}", "value": one.digest} for title, one in _titled(image)]
    about = {**ours, "hashes": _hashes(hex_of(image.manifest.digest)), "properties": layers}
    document = _document(_serial(image.manifest.digest), about, [*_base(image), _model(image, inside)])
    if software_layers(image):
        document["externalReferences"] = [{"type": "bom", "url": _link(image)}]
    return about_image(image, SBOM, document)


def _document(serial: uuid.UUID, about: Mapping[str, Any], components: list[dict[str, Any]]) -> dict[str, Any]:
    tools = {"components": [{"type": "application", "name": "insitu", "version": __version__}]}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {"component": about, "tools": tools},
        "components": components,
    }


def _serial(digests: str) -> uuid.UUID:
    return uuid.uuid5(uuid.NAMESPACE_URL, digests)


def _software_serial(image: Described) -> uuid.UUID:
    return _serial(",".join(one.digest for one in software_layers(image)))


def _link(image: Described) -> str:
    """Return how CycloneDX names another document: a BOM-Link."""
    return f"urn:cdx:{_software_serial(image)}/1"


def _titled(image: Described) -> list[tuple[str, Descriptor]]:
    """Return each layer with what it holds, as far as the image tells."""
    titles = (*image.titles, *[""] * len(image.layers))
    return [(title or "unnamed", layer) for title, layer in zip(titles, image.layers, strict=False)]


def _base(image: Described) -> list[dict[str, Any]]:
    digest, name = image.annotations.get(BASE_DIGEST), image.annotations.get(BASE_NAME, "base image")
    return [{"type": "container", "name": name, "hashes": _hashes(hex_of(digest))}] if digest else []


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


def software_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the software that a document claims, to be compared with `software_in`; raise `KeyError`, `TypeError`."""
    parts = document["components"]
    packages = [
        (one["name"], one["version"], next(p["value"] for p in one["properties"] if p["name"] == _RECORD))
        for one in parts
        if str(one.get("purl", "")).startswith("pkg:pypi/")
    ]
    files = (one for one in parts if one["type"] == "file")
    return {"packages": sorted(packages), "system libraries": dict(map(_claimed, files))}


def software_in(inside: Inventory) -> dict[str, Any]:
    """Return the software that layers hold, as `software_of` has it."""
    packages = sorted((one.name, one.version, one.record) for one in inside.packages.values())
    return {"packages": packages, "system libraries": dict(inside.system)}


def materials_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a bill of materials claims, to be compared with `materials_in`; raise `KeyError`, `TypeError`."""
    parts = document["components"]
    (model,) = (one for one in parts if one["type"] == "machine-learning-model")
    about = document["metadata"]["component"]
    return {
        "image": (about["name"], about["version"], _claimed(about)[1]),
        **software_of(document),
        "model files": dict(map(_claimed, model["components"])),
        "layers": [p["value"] for p in about["properties"] if p["name"].startswith(_LAYER)],
        "base": [_claimed(one)[1] for one in parts if one["type"] == "container"],
        "software": [one["url"] for one in document.get("externalReferences", ())],
    }


def materials_in(image: Described, inside: Inventory, *, linked: bool) -> dict[str, Any]:
    """Return what is in the image, as `materials_of` has it.

    Args:
        image: Which image.
        inside: What its layers hold, as far as no other document lists that.
        linked: Whether there is such a document.
    """
    base = image.annotations.get(BASE_DIGEST)
    return {
        "image": (image.model_name, image.fact("version"), hex_of(image.manifest.digest)),
        **software_in(inside),
        "model files": dict(inside.model),
        "software": [_link(image)] if linked else [],
        "layers": [one.digest for one in image.layers],
        "base": [hex_of(base)] if base else [],
    }


def _claimed(part: Mapping[str, Any]) -> tuple[str, str]:
    (digest,) = (one["content"] for one in part["hashes"] if one["alg"] == "SHA-256")
    return part["name"], digest


def _hashes(digest: str) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": digest}]
