"""`insitu why`: the story of a blob, also of one that did nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from insitu.commands.books import open_books
from insitu.errors import UsageError
from insitu.options import json_option, project_option, site_option


@click.command()
@click.argument("blob")
@click.option("--model", help="Ask for one model only.  [default: every model that the blob is for]")
@site_option
@json_option
@project_option
def why(project: Path, blob: str, model: str | None, site: str, as_json: bool) -> None:
    """Tell what became of BLOB (its name in the container): rule, batch, claim, run, verdict, or what it waits for."""
    from insitu.lineage import Records
    from insitu.triggers.story import story, takers

    place, books = open_books(project, site, (model,) if model else ())
    for_it = takers([book.model for book in books], blob)
    records = Records(place.state)
    stories = [
        story(book, place.data(book.model.data.container), blob, records.of_model(book.model.name))
        for book in books
        if book.model in for_it
    ]
    if not stories:
        patterns = ", ".join(f"{book.model.name}: {book.model.data.blobs}" for book in books)
        raise UsageError(
            f"no model takes {blob!a}",
            found=patterns or "no models",
            wanted="a name that fits data.blobs of a model, without the container",
        )
    click.echo(json.dumps(stories, indent=1) if as_json else "\n".join(line for one in stories for line in _lines(one)))


def _lines(told: Mapping[str, Any]) -> Iterator[str]:
    from insitu.triggers.story import seconds

    yield f"{told['model']}: {ascii(told['blob'])[1:-1]}: {told['says']}"
    parts = [value if key == "rule" else f"{key} {value}" for key, value in told["rule"].items() if value is not None]
    yield f"  {'rule':<9}{', '.join(parts)}"
    for batch in told["batches"]:
        reason = f": {batch['reason']}" if batch["reason"] else ""
        found = f"found {seconds(batch['found'])}, because {batch['why']}"
        yield f"  {'batch':<9}{batch['batch'][:12]} {batch['state']}{reason}; {found}"
        for work in batch["works"]:
            yield f"  {'work':<9}{_work(work)}"
    if told["runs"]:
        first, last = told["runs"][0], told["runs"][-1]
        newest = f"; the last of {len(told['runs'])}: {_run(last)}" if last is not first else ""
        yield f"  {'run':<9}{_run(first)}{newest}"
    if told["looked"]:
        yield f"  {'looked':<9}{seconds(told['looked']['at'])} by {told['looked']['owner']}"


def _run(run: Mapping[str, Any]) -> str:
    from insitu.triggers.story import seconds

    version = f", version {run['version']}" if run["version"] else ""
    return f"{run['run_key'][:12]} {run['state']}{version}, {seconds(run['finished'])}"


def _work(work: Mapping[str, Any]) -> str:
    outcome = work.get("outcome") or {}
    parts = [work["work"][:12], work["state"]]
    if "owner" in work:
        parts.append(f"by {work['owner']}, epoch {work['epoch']}")
    parts += [
        f"{key} {str(outcome[key])[:36]}" for key in ("state", "run_key", "version", "flow_run") if outcome.get(key)
    ]
    if error := outcome.get("error"):
        parts.append(str(error["what"]))
    return "; ".join(parts)
