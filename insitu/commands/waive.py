"""`insitu waive`, `insitu waivers`: people let records leave in a model, where the site allows it, or take it back."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from insitu.errors import DecisionRefused, UsageError
from insitu.options import json_option, model_argument, name_and_reason, project_option, site_option

if TYPE_CHECKING:
    from insitu.waivers import Known
    from insitu.wiring import Site

_NARROWER = "--file, --estimator, --column, --unopened or --capacity"


@click.command()
@model_argument
@click.option("--file", help="Records in this file, or part of one, as the error names it: model/model.pkl.")
@click.option("--estimator", help="Records in this estimator, as the error names it: KNeighborsClassifier.")
@click.option("--column", "columns", multiple=True, help="Records of this column alone; again for each further one.")
@click.option("--most", type=click.IntRange(1), help="At most so many records.")
@click.option("--unopened", help="This file, or part of one, cannot be opened and may leave; with --digest.")
@click.option("--capacity", type=click.IntRange(1), metavar="ROWS", help="The model may have room for so many rows.")
@click.option("--digest", help="Only while the file has this sha256; the error names it of what cannot be opened.")
@name_and_reason
@click.option("--until", required=True, help="When it ends: 2030-12-31 (at its end, UTC) or a time.")
@site_option
@json_option
@project_option
def waive(
    project: Path,
    model: str,
    file: str | None,
    estimator: str | None,
    columns: tuple[str, ...],
    most: int | None,
    unopened: str | None,
    capacity: int | None,
    digest: str | None,
    who: str,
    reason: str,
    until: str,
    site: str,
    as_json: bool,
) -> None:
    """Let what a scan found in MODEL leave the site: the records that are named here and no others, until a date.

    The site must allow it: allow_waivers below [gate] in its settings. A waiver is signed and kept, and told in every
    record, statement and audit of a model that leaves by it. The next `insitu retrain` goes by it.
    """
    from insitu.acts import Act
    from insitu.commands.override import moment
    from insitu.residency.waivers import Kind, Scope
    from insitu.rulings import require_approver

    records = bool(file or estimator or columns)
    if records + (unopened is not None) + (capacity is not None) != 1:
        raise UsageError("a waiver is about records, what cannot be opened, or room: one of them", wanted=_NARROWER)
    if not records and (most or (digest and not unopened)):
        raise UsageError("--most narrows records, and --digest a file", wanted="--file, --estimator or --column")
    if unopened and not digest:
        raise UsageError(
            "a waiver over what nobody can look into is over these bytes alone",
            wanted="--digest, the sha256 of the file that holds it, which the error names",
        )
    kind: Kind = "records" if records else "unopened" if unopened else "capacity"
    scope = Scope(kind, file or unopened, estimator, columns, _digest(digest), capacity or most)
    place, act, ends = _site(project, site, model), Act("waiver", who, reason), moment(until)
    if not place.settings.gate.allow_waivers:
        raise DecisionRefused(
            f"site {place.name} lets nobody waive what a scan finds",
            wanted=f"allow_waivers = true below [gate] in deployments/sites/{place.name}.toml",
            next_action="ask whoever owns the site; or train a model that keeps no rows",
        )
    require_approver(place, who)
    given = place.waivers(model).give(scope, act, ends, datetime.now(UTC))
    _tell(given, as_json, f"next: insitu retrain {model}")


@click.group()
def waivers() -> None:
    """What people let leave in a model although the scan does not: see it, and take it back."""


@waivers.command("list")
@model_argument
@site_option
@json_option
@project_option
def show(project: Path, model: str, site: str, as_json: bool) -> None:
    """List the waivers of MODEL, and whether they count."""
    found = _site(project, site, model).waivers(model).all(datetime.now(UTC))
    if as_json:
        click.echo(json.dumps([one.to_json() for one in found], indent=1))
        return
    for one in found:
        click.echo(one.render() + (f" ({one.waiver.reason})" if one.waiver else ""))
    if not found:
        click.echo(f"nothing is waived for {model}")


@waivers.command()
@model_argument
@click.argument("number", type=click.IntRange(1))
@name_and_reason
@site_option
@json_option
@project_option
def revoke(project: Path, model: str, number: int, who: str, reason: str, site: str, as_json: bool) -> None:
    """Take waiver NUMBER of MODEL back: from now on it does not count. What left by it has left."""
    from insitu.acts import Act
    from insitu.rulings import require_approver

    place = _site(project, site, model)
    require_approver(place, who)
    _tell(place.waivers(model).revoke(number, Act("revocation", who, reason), datetime.now(UTC)), as_json)


def _tell(known: Known, as_json: bool, then: str = "") -> None:
    if as_json:
        click.echo(json.dumps(known.to_json(), indent=1))
        return
    click.echo(known.render())
    click.echo(f"on record: {known.name}" + (f"\n{then}" if then else ""))


def _site(project: Path, site: str, model: str) -> Site:
    from insitu.settings import load_settings
    from insitu.wiring import open_site

    return open_site(project, load_settings(project, site, model, os.environ)[0])


def _digest(text: str | None) -> str | None:
    """Return the hex digits; raise `UsageError` for anything else."""
    digits = text and text.lower().removeprefix("sha256:")
    if digits and (len(digits) != 64 or set(digits) - set("0123456789abcdef")):
        raise UsageError("--digest is no sha256", found=f"{len(digits)} characters", wanted="64 hex digits")
    return digits
