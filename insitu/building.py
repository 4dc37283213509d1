"""From a model's files to an image in the site's layout: on the base, and through the daemon, that the site names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from insitu.errors import InsituError
from insitu.images.assemble import Image, ImageSpec, assemble_image
from insitu.images.bases import KEPT, Base, BaseReference, fetch_base, look_for_base
from insitu.ports import Check, ImageRegistry
from insitu.readiness import failed_check
from insitu.wiring import Site, open_images


def build_image(site: Site, model: str, spec: ImageSpec) -> Image:
    """Write the image into the layout of *model* and, where the site demands that, into its Docker daemon.

    Raises:
        ImageFailed: It cannot be assembled, has no base to stand on, or is another one in the daemon.
        NotReady, AccessRefused, BackendUnavailable: The daemon refuses it, or nobody answers.
        PublishFailed: The registry of the base gives other bytes than a digest names.
        StorageFull: No space.
    """
    image = assemble_again(site, spec, site.settings.images.root / model)
    if site.daemon:
        site.daemon.take(model, image.digest)
    return image


def assemble_again(site: Site, spec: ImageSpec, layout: Path) -> Image:
    """Write the image into any layout folder, and nowhere else; see `build_image`."""
    return assemble_image(replace(spec, base=_base(site)), layout, site.settings.images.root / ".cache")


def image_checks(site: Site) -> list[Check]:
    """Tell whether images of the site can be built as its settings say; fetches no layer, and never raises."""
    checks = [site.daemon.check()] if site.daemon else []
    named = site.settings.images.base
    if named is None:
        return checks
    try:
        reference, source = _named(named, site)
        base = look_for_base(reference, source, site.settings.images.root / KEPT)
    except InsituError as error:
        return [*checks, failed_check("base image", error, error.wanted or named)]
    lacking = sum(one.descriptor.size_bytes for one in base.layers if not base.kept.holds(one.descriptor))
    found = f"there; {lacking / 1e6:.1f} MB of it are fetched with the next image" if lacking else "kept here"
    return [*checks, Check("base image", True, found, named)]


def _base(site: Site) -> Base | None:
    named = site.settings.images.base
    return fetch_base(*_named(named, site), site.settings.images.root / KEPT) if named else None


def _named(text: str, site: Site) -> tuple[BaseReference, ImageRegistry]:
    reference = BaseReference.of(text)
    return reference, open_images(reference.place, site.settings)
