"""Manifests that refer to another one: what a registry lists of them, and the list it lacks.

A registry without the referrers API keeps the list as an image index under the tag `sha256-HEX` of what is referred to
(OCI distribution, "Referrers Tag Schema").
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any

from insitu.errors import PublishFailed
from insitu.images.manifest import canonical, to_json
from insitu.ports import Descriptor

INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
MANIFEST_BYTES = 4 << 20
"""The largest manifest that registries are to take."""
_FALLBACK_TAG = re.compile(r"sha256-[0-9a-f]{64}")

Entry = Mapping[str, Any]
"""A descriptor as an image index has it."""


def fallback_tag(digest: str) -> str:
    """Return the tag that the list of what refers to *digest* has."""
    return digest.replace(":", "-")


def is_fallback_tag(tag: str) -> bool:
    """Tell whether *tag* names such a list, which is nobody's image."""
    return _FALLBACK_TAG.fullmatch(tag) is not None


def subject_of(manifest: bytes) -> str | None:
    """Return the digest that the manifest refers to; None when it refers to nothing, or is no manifest."""
    subject = _fields(manifest).get("subject")
    return str(subject.get("digest")) if isinstance(subject, dict) else None


def blobs_of(manifest: bytes) -> set[str]:
    """Return the digests of what the manifest is made of: layers, configuration, the manifests of an index."""
    value = _fields(manifest)
    parts = [value.get("config"), *(one for name in ("layers", "manifests") for one in value.get(name) or ())]
    return {str(part["digest"]) for part in parts if isinstance(part, dict) and "digest" in part}


def require_subject(subject: str, manifest: bytes) -> None:
    """Raise `PublishFailed` unless the manifest refers to *subject*."""
    if subject_of(manifest) != subject:
        raise PublishFailed(
            "a manifest is to be attached to what it does not refer to",
            found=subject_of(manifest) or "no subject",
            wanted=subject,
        )


def entry_of(descriptor: Descriptor, manifest: bytes) -> dict[str, Any]:
    """Return the entry that a list has for the manifest: with its type and its annotations."""
    value = _fields(manifest)
    config = value.get("config")
    kind = value.get("artifactType") or (config.get("mediaType", "") if isinstance(config, dict) else "")
    notes = {"annotations": value["annotations"]} if value.get("annotations") else {}
    return {**to_json(descriptor), "artifactType": kind, **notes}


def index_of(entries: Iterable[Entry]) -> tuple[Descriptor, bytes]:
    """Return the list of *entries*, each once, in digest order."""
    manifests = sorted({str(one["digest"]): one for one in entries}.values(), key=lambda one: str(one["digest"]))
    return described({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": manifests})


def described(index: Mapping[str, Any]) -> tuple[Descriptor, bytes]:
    """Return an index as it is stored, with its descriptor."""
    content = canonical(index)
    return Descriptor(INDEX_TYPE, f"sha256:{sha256(content).hexdigest()}", len(content)), content


def entries_of(index: bytes) -> list[Entry]:
    """Return what the list holds; raise `PublishFailed` when it is none."""
    try:
        entries = json.loads(index)["manifests"] or []
        descriptors_of(entries)
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise PublishFailed(
            "the registry's list of what refers to an image cannot be read",
            found=type(exc).__name__,
            wanted="an image index",
        ) from exc
    return list(entries)


def descriptors_of(entries: Iterable[Entry]) -> Sequence[Descriptor]:
    """Return the descriptors of *entries*, each once, in digest order."""
    found = {Descriptor(str(one["mediaType"]), str(one["digest"]), int(one["size"])) for one in entries}
    return sorted(found, key=lambda one: one.digest)


def _fields(manifest: bytes) -> dict[str, Any]:
    try:
        value = json.loads(manifest)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
