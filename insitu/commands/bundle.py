"""`insitu bundle`: published images carried by hand, to where no network leads."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from insitu.options import json_option, maybe_project_option, model_argument, project_option, site_option

if TYPE_CHECKING:
    from insitu.images.bundle import Bundle
    from insitu.images.bundle_file import Progress
    from insitu.ports import ImageRegistry
    from insitu.wiring import Site

key_option = click.option(
    "--key",
    "keys",
    multiple=True,
    type=click.Path(path_type=Path),
    help="PEM file of a public key whose signatures count; may be repeated.  [default: those that the site trusts]",
)


@click.group()
def bundle() -> None:
    """Carry published images by hand: one file with image, attestations and tags.

    \b
    Here:                  insitu bundle export flights -o flights.bundle
    Where it is needed:    insitu bundle import flights.bundle --to oci:/srv/images/flights --key signing.pub
    Next time, less:       insitu bundle list --in oci:/srv/images/flights --json > have.json   (there)
                           insitu bundle export flights -o flights.bundle --without have.json   (here)
    """


@bundle.command()
@model_argument
@click.argument("version", default="latest")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path, dir_okay=False), help="File to write.")
@click.option(
    "--without",
    multiple=True,
    help="What the receiver has: what `insitu bundle list --json` said there, an earlier bundle, or the name of an"
    " image. Layers in it are left out. May be repeated.",
)
@site_option
@json_option
@project_option
def export(
    project: Path, model: str, version: str, output: Path, without: tuple[str, ...], site: str, as_json: bool
) -> None:
    """Write VERSION of MODEL (default: latest) into one file.

    The same image gives the same bytes. It is an OCI layout as a tar: skopeo reads it as oci-archive:FILE:VERSION.
    """
    from insitu.bundles import LATEST, export_bundle, holder_of, layers_at
    from insitu.egress import Door, sign_ledger
    from insitu.errors import UsageError
    from insitu.journal import Journal
    from insitu.lineage import Records
    from insitu.settings import load_settings
    from insitu.wiring import open_site

    settings, _ = load_settings(project, site, model, os.environ)
    place = open_site(project, settings)
    record = Records(place.state).of_version(model, version)
    if not record["publication"] or "pruned" in record:
        found = f"pruned at {record['pruned']}" if "pruned" in record else record["state"]
        raise UsageError(f"run {record['run_key'][:12]} of {model} has no image", found=found)
    digest, number = record["publication"]["digest"], record["model_version"]["version"]
    published = place.registry(model)
    named = published.resolve(LATEST)
    tags = (number, LATEST) if named and named[0].digest == digest else (number,)
    there = {layer for one in without for layer in layers_at(one, lambda name: _open(name, place))}
    with _progress("writing") as on_progress:
        images = holder_of(digest, place.layout(model), published)
        journal = Journal(place.state, model, record["run_key"])
        Door(journal, place.waivers(model)).published("bundle", str(output), images, digest)
        sign_ledger(journal, place.keys)
        made = export_bundle(images, digest, output, tags, there, on_progress)
    if as_json:
        click.echo(json.dumps({"file": str(output), "bytes": made.size_bytes, **_told(made)}, indent=1))
        return
    spared = told_size(sum(one.size_bytes for one in made.without))
    left = f", without {len(made.without)} layers ({spared})" if made.without else ""
    click.echo(f"{model} version {number}, {digest}: {output}, {told_size(made.size_bytes)}{left}")
    click.echo(f"{len(made.attestations)} attestations; see what they prove with `insitu verify {output}`")


@bundle.command(name="import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--to", metavar="PLACE", help="oci:FOLDER, or HOST/REPOSITORY.  [default: where the site publishes]")
@key_option
@site_option
@json_option
@maybe_project_option
def import_(project: Path | None, file: Path, to: str | None, keys: tuple[Path, ...], site: str, as_json: bool) -> None:
    """Verify FILE, then put its image where images are taken from; a second time sends nothing.

    Every byte of the file and the signatures are verified before anything is written. Works without a project:
    name --to and --key then.
    """
    from insitu.bundles import import_bundle
    from insitu.commands.trusting import site_of, trusted_keys
    from insitu.images.publish import Sent

    place, sent = site_of(project, site), list[Sent]()
    trusted = trusted_keys(keys, place)
    with _target(place, file, to) as (target, leave), _progress("verifying") as on_progress:
        done = import_bundle(file, target, trusted, on_progress, sent.append, leave)
    reference = target.reference(done.tags[0] if done.tags else done.digest)
    if as_json:
        told = {"place": target.name, "reference": reference, **_told(done), "sent": [one.to_json() for one in sent]}
        click.echo(json.dumps(told, indent=1))
        return
    size = sum(one.size_bytes for one in sent)
    click.echo(f"{done.model} version {done.version}, {done.digest}: verified, and at {reference}")
    click.echo(f"{len(sent)} objects written ({told_size(size)})" if sent else "everything was there already")


@bundle.command(name="list")
@click.argument("model", required=False)
@click.option("--in", "place", metavar="PLACE", help="oci:FOLDER, or HOST/REPOSITORY, instead of a model's images.")
@site_option
@json_option
@maybe_project_option
def list_(project: Path | None, model: str | None, place: str | None, site: str, as_json: bool) -> None:
    """Tell which images and layers are there, so that a bundle may leave them out."""
    from insitu.bundles import holdings
    from insitu.commands.trusting import site_of
    from insitu.errors import UsageError

    at = site_of(project, site)
    if place:
        images = _open(place, at)
    elif model and at and model in _models(at):
        images = at.registry(model)
    else:
        raise UsageError("whose images are meant?", wanted="a model of this project, or --in PLACE")
    told = holdings(images)
    if as_json:
        click.echo(json.dumps(told, indent=1))
        return
    click.echo(f"{told['place']}: {len(told['blobs'])} layers")
    for tag, digest in told["images"].items():
        click.echo(f"  {tag:<12} {digest}")


def _open(place: str, site: Site | None) -> ImageRegistry:
    from insitu.wiring import open_images

    return open_images(place, site.settings if site else None)


def _models(site: Site) -> set[str]:
    return {file.parent.name for file in site.project.glob("models/*/model.toml")}


@contextmanager
def _target(site: Site | None, file: Path, to: str | None) -> Iterator[tuple[ImageRegistry, tuple[str, ...]]]:
    """Yield what *to* names, else where the site publishes the model of the bundle, which nobody prunes meanwhile.

    And the tags that stay: where the site has a champion, `latest` is its own, and `insitu rollback` moves both.

    Raises:
        UsageError: It is not clear where that is.
    """
    from insitu.bundles import LATEST
    from insitu.errors import UsageError
    from insitu.images.bundle_file import open_bundle
    from insitu.wiring import CHAMPION

    if to:
        yield _open(to, site), ()
        return
    with open_bundle(file) as images:
        model = images.bundle.model
    if site is None or model not in _models(site):
        raise UsageError(
            "it is not clear where the image is to go",
            found=f"an image of {model!a}" + ("" if site else ", and no project"),
            wanted="--to oci:FOLDER or HOST/REPOSITORY, or the project that has this model",
        )
    from insitu.leases import alone_with

    with alone_with(site.state, f"champions/{model}"):
        yield site.registry(model), (LATEST,) if CHAMPION in site.models.aliases(model) else ()


def _told(made: Bundle) -> dict[str, Any]:
    said = made.to_json()
    about = {key: said[key] for key in ("model", "version", "tags", "attestations", "blobs", "without")}
    return {"digest": made.digest, **about}


def told_size(size_bytes: int) -> str:
    """Return a size for people."""
    return f"{size_bytes / 1e6:,.1f} MB" if size_bytes >= 1e6 else f"{size_bytes / 1e3:,.1f} kB"


@contextmanager
def _progress(what: str) -> Iterator[Progress]:
    """Yield what shows how far it came, on a terminal."""
    if not sys.stderr.isatty():
        yield lambda done, size: None
        return
    with click.progressbar(length=1, label=what, file=sys.stderr) as bar:

        def show(done: int, size: int) -> None:
            bar.length = size
            bar.update(done - bar.pos)

        yield show
