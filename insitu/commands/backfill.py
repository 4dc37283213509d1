"""`insitu backfill`: runs of the past, one per prefix."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from insitu.commands.books import open_books
from insitu.options import json_option, model_argument, project_option, site_option


@click.command()
@model_argument
@click.option("--from", "first", required=True, help="The first prefix, such as month=04.")
@click.option("--to", "last", required=True, help="The last prefix.")
@site_option
@json_option
@project_option
def backfill(project: Path, model: str, first: str, last: str, site: str, as_json: bool) -> None:
    """Let MODEL be retrained for each prefix in between, oldest first: each run uses the batches up to its prefix.

    A watcher starts them, one after the other.
    """
    from insitu.triggers.orders import backfill as order

    _, (book,) = open_books(project, site, (model,))
    entries = order(book, first, last)
    if as_json:
        click.echo(json.dumps([asdict(entry) for entry in entries], indent=1))
    else:
        click.echo("\n".join(f"{model}: a run up to {entry.prefix} waits" for entry in entries))
