"""Publish an image: what the target lacks, then the manifest, then the tags."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from insitu.errors import PublishFailed
from insitu.images.manifest import parts_of
from insitu.ports import Descriptor, ImageRegistry


@dataclass(frozen=True)
class Sent:
    """One thing that went to a registry."""

    what: str
    destination: str
    size_bytes: int
    sha256: str

    def to_json(self) -> dict[str, Any]:
        """Return the entry as the run record has it."""
        return {
            "what": self.what,
            "destination": self.destination,
            "bytes": self.size_bytes,
            "sha256": self.sha256,
        }


@dataclass(frozen=True)
class Publication:
    """An image in a registry; *sent* is what had to be sent for it."""

    reference: str
    digest: str
    sent: tuple[Sent, ...]


def publish_image(
    digest: str,
    source: ImageRegistry,
    target: ImageRegistry,
    tags: Sequence[str],
    on_send: Callable[[Sent], None] = lambda _: None,
    moving: Sequence[str] = ("latest",),
) -> Publication:
    """Copy the image to *target* and point *tags* at it; the first tag names the publication.

    Interrupted anywhere, it can be repeated: the tags move last, and only after the manifest was read
    back. A repetition sends what is not there yet, so nothing when all is. *on_send* is told of each
    object before it goes. Only the tags in *moving* are taken from another image; the others are locked,
    where the registry can do that.

    Raises:
        PublishFailed: *source* lacks the image, *target* refuses it or returns another one, or a tag
            names another image already.
        BackendUnavailable: No answer.
    """
    descriptor, manifest = _found(source, digest)
    sent: list[Sent] = []

    def note(kind: str, one: Descriptor) -> None:
        sent.append(Sent(kind, target.name, one.size_bytes, one.digest.removeprefix("sha256:")))
        on_send(sent[-1])

    if source.name != target.name and target.resolve(digest) is None:
        for kind, part in _parts(manifest):
            if not target.has_blob(part.digest):
                note(kind, part)
                _copy(part, source, target)
        note("image manifest", descriptor)
        target.put_manifest(descriptor, manifest)
    _found(target, digest)
    for tag in tags:
        there = target.resolve(tag)
        if there is not None and there[0].digest != digest and tag not in moving:
            raise PublishFailed(
                f"{target.reference(tag)} names another image already",
                found=there[0].digest,
                wanted=digest,
                next_action="whose image is it? Remove that tag, or publish to another registry",
            )
        if there is None or there[0].digest != digest:
            target.tag(tag, descriptor, manifest)
        if tag not in moving:
            target.lock(tag)
    return Publication(target.reference(tags[0] if tags else digest), digest, tuple(sent))


def _found(images: ImageRegistry, digest: str) -> tuple[Descriptor, bytes]:
    found = images.resolve(digest)
    if found is None:
        raise PublishFailed(f"{images.name} does not have the image", wanted=digest, next_action="run again")
    return found


def _parts(manifest: bytes) -> list[tuple[str, Descriptor]]:
    config, layers = parts_of(manifest)
    return [*(("image layer", layer) for layer in layers), ("image configuration", config)]


def _copy(part: Descriptor, source: ImageRegistry, target: ImageRegistry) -> None:
    if path := source.local_blob(part.digest):
        target.put_blob(part, path)
        return
    with tempfile.TemporaryDirectory(prefix="insitu-") as scratch:
        path = Path(scratch) / "blob"
        source.fetch_blob(part, path)
        target.put_blob(part, path)
