"""Images carried by hand: exported into one file, and imported where no network leads.

What is written into a registry at the other end was verified before: every byte of the file, and that a trusted key
has signed what is said about the image.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from insitu import __version__
from insitu.errors import BundleRefused, ImageFailed, UsageError
from insitu.images.bundle import Bundle, found, leave_out, plan_bundle
from insitu.images.bundle_file import Progress, is_bundle, open_bundle, write_bundle
from insitu.images.manifest import parts_of
from insitu.images.publish import Sent, publish_image
from insitu.images.references import split_reference
from insitu.ports import ImageRegistry
from insitu.signing import PublicKey
from insitu.verifying import verify_image

LATEST = "latest"


def _quiet(_done: int, _size: int) -> None:
    """Tell nobody."""


def export_bundle(
    images: ImageRegistry,
    digest: str,
    path: Path,
    tags: Sequence[str],
    without: Collection[str] = (),
    on_progress: Progress = _quiet,
) -> Bundle:
    """Write an image with its attestations to *path*, over what was there, and return what is in it.

    The same image gives the same bytes. Layers whose digests are in *without* are left out.

    Raises:
        BundleRefused: *images* lack the image, or a manifest about it.
        PublishFailed: They lack a layer, or hold other bytes.
        StorageFull: No space for it.
    """
    whole = plan_bundle(images, digest, tags, f"insitu {__version__}")
    layers = parts_of(found(images, digest)[1])[1]
    bundle = leave_out(whole, layers, frozenset(without))
    write_bundle(bundle, images, path, on_progress)
    return bundle


def import_bundle(
    path: Path,
    target: ImageRegistry,
    trusted: Collection[PublicKey],
    on_progress: Progress = _quiet,
    on_send: Callable[[Sent], None] = lambda _: None,
    leave: Collection[str] = (),
) -> Bundle:
    """Publish what is in the bundle to *target* and return what that is; repeating it sends nothing.

    The tags in *leave* stay where they are. Nothing is written before every byte of the file and the signatures have
    been verified.

    Raises:
        UsageError: The file cannot be read.
        BundleRefused: It is not as it was written, lacks a layer that *target* lacks, or may not be used any more.
        SignatureRefused: No trusted key has signed what is said about the image.
        PublishFailed: *target* refuses it, or one of its tags names another image already.
    """
    with open_bundle(path, target) as images:
        images.require_intact(on_progress)
        bundle = images.bundle
        _require_own_tags(bundle)
        _require_base(bundle, target)
        if ended := verify_image(images, bundle.digest, trusted).ended:
            raise BundleRefused(
                f"{path} holds an image that may not be used any more",
                found=f"the override that let it be published ended at {ended}",
                wanted="an image that the gate promoted, a person approved, or whose override still counts",
                next_action="bring a later version, or have people decide anew where it was made",
            )
        publish_image(bundle.digest, images, target, [tag for tag in bundle.tags if tag not in leave], on_send)
    return bundle


def holdings(images: ImageRegistry) -> dict[str, Any]:
    """Return what *images* hold, as JSON values: for the other end, which leaves that out of a bundle."""
    tagged, blobs = {}, set[str]()
    for tag in images.tags():
        if (there := images.resolve(tag)) is None:
            continue
        tagged[tag] = there[0].digest
        with suppress(ImageFailed):  # an index of images is none
            blobs |= {one.digest for one in parts_of(there[1])[1]}
    return {"place": images.name, "images": tagged, "blobs": sorted(blobs)}


def holder_of(digest: str, *places: ImageRegistry) -> ImageRegistry:
    """Return the first of *places* that has all of the image, or the last."""
    for images in places[:-1]:
        with suppress(BundleRefused):
            if all(images.has_blob(one.digest) for one in plan_bundle(images, digest, (), "").blobs):
                return images
    return places[-1]


def layers_at(text: str, open_images: Callable[[str], ImageRegistry]) -> set[str]:
    """Return the digests that *text* stands for: a file, see `read_holdings`, or the name of an image.

    Raises:
        UsageError: It is neither.
    """
    if Path(text).is_file():
        return read_holdings(Path(text))
    place, tag = split_reference(text)
    there = open_images(place).resolve(tag)
    if there is None:
        raise UsageError(f"there is no image {text}, and no such file")
    return {one.digest for one in parts_of(there[1])[1]}


def read_holdings(path: Path) -> set[str]:
    """Return the digests that a file names: what `holdings` said, a bundle that was imported, or one digest a line.

    Raises:
        UsageError: It is none of them.
        BundleRefused: It begins like a bundle, and is none.
    """
    if is_bundle(path):
        with open_bundle(path) as images:
            return {one.digest for one in (*images.bundle.blobs, *images.bundle.without)}
    try:
        text = path.read_text("utf-8")
        digests = set(map(str, json.loads(text)["blobs"] if text.lstrip().startswith("{") else text.split()))
    except OSError as exc:
        raise UsageError(f"{path} cannot be read", found=exc.strerror) from exc
    except (ValueError, KeyError, TypeError) as exc:
        raise UsageError(f"{path} does not tell what the receiver has", found=type(exc).__name__) from exc
    if wrong := sorted(one for one in digests if not one.startswith("sha256:")):
        raise UsageError(
            f"{path} does not tell what the receiver has",
            found=ascii(wrong[0][:80]),
            wanted="what `insitu bundle list --json` prints there, an earlier bundle, or a digest on each line",
        )
    return digests


def _require_own_tags(bundle: Bundle) -> None:
    """Raise `BundleRefused` for a tag that nothing signed speaks of: the image says its version."""
    if foreign := [tag for tag in bundle.tags if tag not in (bundle.version, LATEST)]:
        raise BundleRefused(
            "the bundle would move a tag that is not its image's",
            found=", ".join(foreign),
            wanted=f"{bundle.version or 'a version'} or {LATEST}",
        )


def _require_base(bundle: Bundle, target: ImageRegistry) -> None:
    """Raise `BundleRefused` when *target* lacks what was left out."""
    if missing := [one for one in bundle.without if not target.has_blob(one.digest)]:
        raise BundleRefused(
            f"the bundle was made without {len(missing)} layers that {target.name} lacks",
            found="no " + ", ".join(one.digest for one in missing),
            wanted="the image whose layers were left out, imported before",
            next_action="have it exported again, without --without or with what `insitu bundle list --json` says here",
        )
