"""`insitu reproduce`: a recorded run once more."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from insitu.options import json_option, model_argument, project_option, site_option


@click.command()
@model_argument
@click.argument("version", metavar="VERSION|RUN_KEY")
@site_option
@json_option
@project_option
def reproduce(project: Path, model: str, version: str, site: str, as_json: bool) -> None:
    """Train VERSION of MODEL again from its recorded batch, code and parameters, and compare what comes out.

    Metrics and the digest of the image. Nothing that is recorded, registered or published is touched. Exit code 0
    when they are equal, else 1; what differs is named.
    """
    from insitu.joblog import LogRelay
    from insitu.reproducing import reproduce as again
    from insitu.settings import load_settings
    from insitu.wiring import open_site

    settings, wanted = load_settings(project, site, model, os.environ)
    relay = LogRelay(on_line=lambda line: click.echo(line, err=True), on_progress=lambda _: None)
    if not wanted.train.relay_output:
        relay.max_lines = 0
    told = again(open_site(project, settings), wanted, version, relay)
    click.echo(json.dumps(told, indent=1) if as_json else "\n".join(_lines(told)))
    sys.exit(0 if told["equal"] else 1)


def _lines(told: Mapping[str, Any]) -> Iterator[str]:
    verdict = (
        "equal" if told["equal"] else "DIFFERS" if told["ran"] else "NOT RUN: this is not what the run was made of"
    )
    yield f"{told['model']} version {told['version']} (run {told['run_key'][:12]}): {verdict}"
    for name, value in told["metrics"]["recorded"].items() if told["ran"] else ():
        yield f"  {name}: recorded {value}, now {told['metrics']['now'][name]}"
    if told.get("image"):
        yield f"  image: recorded {told['image']['recorded']}, now {told['image']['now']}"
    yield from (f"  differs: {what}" for what in told["differs"])
    if told["files"]:
        yield f"  files of other bytes, which some formats write each time: {', '.join(told['files'])}"
    yield from (f"  environment: {what}" for what in told["environment"])
