"""`insitu audit`: what left the site with a model, who looked, and what proves it; for people."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from insitu.options import json_option, model_argument, project_option, site_option

if TYPE_CHECKING:
    from insitu.auditing import Audit

_COLOURS = {"proved": "green", "estimated": "cyan", "open": "yellow", "broken": "red"}


@click.command()
@model_argument
@click.argument("version", default="latest", metavar="[VERSION|RUN_KEY]")
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Write it as a page to this file, too.")
@site_option
@json_option
@project_option
def audit(project: Path, model: str, version: str, html: Path | None, site: str, as_json: bool) -> None:
    """Show what left the site with a version of MODEL (default: latest) or any run, and what proves the rest.

    Reads the egress ledger, the record, and the published image with its signed statements; changes nothing. A
    question is proved, estimated, open (nobody has looked, or what would prove it is gone), or broken: something is
    not as it was written.

    Exit codes: 0 nothing is broken, 1 something is, 2 bad usage.
    """
    from insitu.auditing import audit as audited
    from insitu.auditpage import page
    from insitu.errors import UsageError, naming_write_errors
    from insitu.settings import load_site
    from insitu.wiring import open_site

    if html and not html.parent.is_dir():
        raise UsageError(f"there is no folder {html.parent} to write the page into")
    found = audited(open_site(project, load_site(project, site, os.environ)), model, version)
    if html:
        with naming_write_errors(html):
            html.write_text(page(found))
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=1))
    else:
        click.echo("\n".join([*_lines(found), *([f"page: {html}"] if html else [])]))
    sys.exit(0 if found.holds else 1)


def _lines(found: Audit) -> Iterator[str]:
    title = f"version {found.version}" if found.version else f"run {found.run_key[:12]}"
    yield f"{found.model} {title}, run {found.run_key[:12]} at {found.site}: {found.state}"
    for one in found.findings:
        yield f"  {click.style(f'{one.status:<9}', fg=_COLOURS[one.status])} {one.question}"
        yield f"            {one.found}"
    yield f"what left, {len(found.left)} objects:"
    for destination, total in found.by_destination.items():
        yield f"  {total['objects']:>4} objects {total['bytes']:>14,} bytes  to {destination}"
    for entry in found.left:
        yield f"  {entry['when']}  {entry['bytes']:>12,} bytes  {entry['what']}  ({entry['clearance']})"
    yield "what nobody claims:"
    yield from (f"  absence of {one}" for one in found.not_checked)
