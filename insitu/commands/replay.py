"""`insitu replay`: a batch once more."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from insitu.commands.books import open_books
from insitu.errors import UsageError
from insitu.options import json_option, project_option, site_option


@click.command()
@click.argument("batch")
@click.option("--model", help="Whose batch it is.  [default: looked for in all models]")
@site_option
@json_option
@project_option
def replay(project: Path, batch: str, model: str | None, site: str, as_json: bool) -> None:
    """Let the run of BATCH (6 or more digits of its key) happen once more, on the same blobs.

    A watcher starts it. A run that was done and whose code and settings are the same answers "nothing new".
    """
    from insitu.triggers.orders import replay as order
    from insitu.triggers.story import find_batch

    _, books = open_books(project, site, (model,) if model else ())
    for book in books:
        try:
            entry = order(book, find_batch(book, batch))
        except UsageError:
            if book is books[-1]:
                raise
            continue
        told = {"model": book.model.name, **asdict(entry)}
        click.echo(
            json.dumps(told, indent=1) if as_json else f"{book.model.name}: batch {entry.key[:12]} waits for its run"
        )
        return
