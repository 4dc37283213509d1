"""`insitu verify`: what is proved about a published image, for people."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from insitu.commands.bundle import key_option
from insitu.options import json_option, maybe_project_option, site_option

if TYPE_CHECKING:
    from insitu.ports import ImageRegistry
    from insitu.verifying import Verified
    from insitu.wiring import Site


@click.command()
@click.argument("image", metavar="IMAGE|BUNDLE")
@key_option
@click.option("--quick", is_flag=True, help="Leave the layers unread: signatures, decision and provenance alone.")
@site_option
@json_option
@maybe_project_option
def verify(project: Path | None, image: str, keys: tuple[Path, ...], quick: bool, site: str, as_json: bool) -> None:
    """Check a published image or a bundle against the keys that are trusted, and say what that proves.

    IMAGE is what publications are called: oci:FOLDER:TAG, oci:FOLDER@sha256:..., HOST/NAME:TAG or HOST/NAME@sha256:...
    Every byte is hashed; SBOM, provenance, decision and model signature must be signed and agree with what is there.
    Nothing but the place of the image is asked, and no project is needed: name --key then.

    Exit codes: 0 all of it holds, 1 something does not and is named, 2 bad usage.
    """
    from insitu.commands.trusting import site_of, trusted_keys
    from insitu.verifying import verify_image

    place = site_of(project, site)
    trusted = trusted_keys(keys, place)
    with _opened(image, place, quick) as (images, digest):
        found = verify_image(images, digest, trusted, quick=quick)
    _require_version(image, found)
    click.echo(json.dumps(found.to_json(), indent=1) if as_json else "\n".join(_lines(image, found)))


def _require_version(image: str, found: Verified) -> None:
    """Raise `SignatureRefused` where a tag that is a version names the image of another one."""
    from insitu.errors import SignatureRefused
    from insitu.images.references import split_reference

    tag = "" if Path(image).is_file() else split_reference(image)[1]
    if tag.isdecimal() and found.facts.get("version") != tag:
        raise SignatureRefused(
            f"{image} names the image of another version",
            found=f"version {found.facts.get('version')} of {found.facts.get('model')}, which is well signed",
            wanted=f"version {tag}",
            next_action="somebody has moved the tag: take the image by its digest, and find out who",
        )


@contextmanager
def _opened(image: str, site: Site | None, quick: bool) -> Iterator[tuple[ImageRegistry, str]]:
    """Yield where the image is, and its digest; raise `UsageError` for a name that is none or names nothing."""
    from insitu.errors import UsageError
    from insitu.images.bundle_file import open_bundle
    from insitu.images.references import split_reference
    from insitu.wiring import open_images

    if _is_file(image):
        with open_bundle(Path(image)) as bundle:
            if not quick:
                bundle.require_intact()
            yield bundle, bundle.bundle.digest
        return
    place, tag = split_reference(image)
    images = open_images(place, site.settings if site else None)
    found = images.resolve(tag)
    if found is None:
        raise UsageError(
            f"{images.name} has no image {tag}",
            found=f"tags {', '.join(images.tags()) or '(none)'}",
            next_action="take publication.reference from `insitu show MODEL --json`",
        )
    yield images, found[0].digest


def _is_file(image: str) -> bool:
    """Tell whether a file is meant, there or not: what has a suffix and neither a host nor a tag is no repository."""
    path = Path(image)
    named = ":" not in image and (path.suffix == ".bundle" or ("/" not in image and path.suffix != ""))
    return path.is_file() or image.startswith(("/", "./", "../")) or named


def _lines(image: str, found: Verified) -> Iterator[str]:
    facts = found.facts
    yield f"{image}: verified"
    yield f"  {'image':<11}{found.digest}"
    yield f"  {'model':<11}{facts.get('model', '?')} version {facts.get('version', '?')}, run {facts['run_key'][:12]}"
    for label, name in (("batch", "batch_fingerprint"), ("code", "code"), ("git commit", "revision"), ("base", "base")):
        if name in facts:
            yield f"  {label:<11}{facts[name]}"
    yield f"  {'signed by':<11}{', '.join(found.keys)}"
    yield f"  {'hashed':<11}{found.hashed_bytes:,} bytes"
    yield from (f"  {'proved':<11}{line}" for line in found.proved)
    yield from (f"  {'NOT proved':<11}{line}" for line in found.unproved)
    yield from (f"  {'ignored':<11}{line}" for line in found.others)
