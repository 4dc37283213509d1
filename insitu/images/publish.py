"""Publish an image: what the target lacks, then the manifest, what is attached to it, then the tags."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from insitu.errors import BackendUnavailable, PublishFailed
from insitu.images.manifest import parts_of
from insitu.images.referrers import blobs_of
from insitu.images.transfer import Progress as Progress
from insitu.images.transfer import Sent as Sent
from insitu.images.transfer import Transfer
from insitu.ports import Descriptor, ImageRegistry

_AT_ONCE = 3
_ATTEMPTS = 3

Found = tuple[Descriptor, bytes]


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
    on_progress: Callable[[Progress], None] = lambda _: None,
    at_once: int = _AT_ONCE,
) -> Publication:
    """Copy the image and what is attached to it to *target*, and point *tags* at it; the first names the publication.

    Interrupted anywhere, it can be repeated: the tags move last, and only after the manifest was read
    back. A repetition sends what is not there yet, so nothing when all is. *on_send* is told of each
    object before it goes. Only the tags in *moving* are taken from another image; the others are locked,
    where the registry can do that.

    Raises:
        PublishFailed: *source* lacks the image, *target* refuses it or returns another one, or a tag
            names another image already.
        BackendUnavailable: No answer.
    """
    image = _found(source, digest)
    transfer = Transfer(source, target, on_send, on_progress, at_once)
    named = {tag: target.resolve(tag) for tag in dict.fromkeys((*tags, *moving))}
    _require_free([tag for tag in tags if tag not in moving], named, digest, target)
    if source.name != target.name:
        held = [there for there in named.values() if there]
        if not any(descriptor.digest == digest for descriptor, _ in held):
            _send_image(image, held, transfer)
        _attach_all(digest, transfer, _attached([there.digest for there, _ in held], source))
    for tag in tags:
        there = named[tag]
        if there is None or there[0].digest != digest:
            target.tag(tag, *image)
        if tag not in moving:
            target.lock(tag)
    return Publication(target.reference(tags[0] if tags else digest), digest, tuple(transfer.sent))


def _require_free(tags: Sequence[str], named: Mapping[str, Found | None], digest: str, target: ImageRegistry) -> None:
    """Raise `PublishFailed` when one of *tags* names another image: before anything is sent."""
    for tag in tags:
        there = named[tag]
        if there and there[0].digest != digest:
            raise PublishFailed(
                f"{target.reference(tag)} names another image already",
                found=there[0].digest,
                wanted=digest,
                next_action="whose image is it? Remove that tag, or publish to another registry",
            )


def _found(images: ImageRegistry, digest: str) -> Found:
    found = images.resolve(digest)
    if found is None:
        raise PublishFailed(f"{images.name} does not have the image", wanted=digest, next_action="run again")
    return found


def _send_image(image: Found, held: Sequence[Found], transfer: Transfer) -> None:
    """Send an image that no tag names; of those that tags name the registry has all parts."""
    (descriptor, manifest), target = image, transfer.target
    known = {part for _, other in held for part in blobs_of(other)}
    config, _ = parts_of(manifest)
    lacking = _lacking("image", [manifest], {config.digest, *known}, target)
    if config.digest not in known and not target.local_blob(config.digest):
        lacking.append(("image configuration", config))  # 2 kB, and new with each run: sent rather than asked for
    if not lacking and target.resolve(descriptor.digest):
        return
    transfer.copy(lacking)
    transfer.note("image manifest", descriptor)
    try:
        target.put_manifest(descriptor, manifest)
    except PublishFailed:  # what a tag names may have lost a part meanwhile
        lacking = _lacking("image", [manifest], set(), target)
        if not lacking:
            raise
        transfer.copy(lacking)
        target.put_manifest(descriptor, manifest)
    _found(target, descriptor.digest)


def _lacking(
    what: str, manifests: Sequence[bytes], known: set[str], target: ImageRegistry
) -> list[tuple[str, Descriptor]]:
    """Return the parts that *target* lacks, nor can take over from a repository beside it; in order, each once."""
    parts: dict[str, tuple[str, Descriptor]] = {}
    for config, layers in map(parts_of, manifests):
        parts |= {layer.digest: (f"{what} layer", layer) for layer in layers}
        parts.setdefault(config.digest, (f"{what} configuration", config))
    return [(name, part) for name, part in parts.values() if part.digest not in known and not target.mount_blob(part)]


def _attached(images: Sequence[str], source: ImageRegistry) -> set[str]:
    """Return what the attestations of other images are made of: a tag moved to those after they were attached."""
    manifests = (source.resolve(one.digest) for image in images for one in source.referrers(image))
    return {blob for found in manifests if found for blob in blobs_of(found[1])}


def _attach_all(subject: str, transfer: Transfer, known: set[str]) -> None:
    """Attach to *subject* what is attached to it in the source, and to that what is attached to that.

    Args:
        subject: Digest of a manifest.
        transfer: From where, and to where.
        known: Blobs that the target had when a tag was moved last: it is only looked whether they are still there,
            for not every registry refuses a manifest without its blobs.
    """
    source, target, attempts = transfer.source, transfer.target, _ATTEMPTS
    wanted = source.referrers(subject)
    while missing := _missing(wanted, target, subject):
        if not (attempts := attempts - 1):
            raise BackendUnavailable(
                f"{target.name} does not list what was attached to an image",
                wanted=", ".join(one.digest for one in missing),
                next_action="run again: others may change the list",
            )
        manifests = [(one, _found(source, one.digest)[1]) for one in missing]
        parts = set[str]().union(*(blobs_of(manifest) for _, manifest in manifests))
        held = set(filter(target.has_blob, known & parts))
        transfer.copy(_lacking("attestation", [manifest for _, manifest in manifests], held, target))
        for one in missing:
            transfer.note("attestation manifest", one)
        target.attach(subject, *manifests)  # all at once: a list that the registry does not keep is written once
    for one in wanted:
        _attach_all(one.digest, transfer, known)


def _missing(wanted: Sequence[Descriptor], target: ImageRegistry, subject: str) -> list[Descriptor]:
    there = {one.digest for one in target.referrers(subject)} if wanted else set()
    return [one for one in wanted if one.digest not in there]
