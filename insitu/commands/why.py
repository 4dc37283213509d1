"""`insitu why`: the story of a blob, also of one that did nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
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
    click.echo(
        json.dumps(stories, indent=1) if as_json else "\n".join(line for one in stories for line in told_lines(one))
    )


def told_lines(told: Mapping[str, Any]) -> Iterator[str]:
    """Yield what `story` returned as lines for a person: the outcome first, then how it came to it."""
    from insitu.triggers.story import seconds

    yield f"{told['model']}: {ascii(told['blob'])[1:-1]}: {told['says']}"
    if told["runs"]:
        yield from _run(told["runs"])
    for batch in told["batches"]:
        reason = f": {batch['reason']}" if batch["reason"] else ""
        yield f"  {'batch':<9}{batch['batch'][:12]} {batch['state']}{reason}"
        yield f"  {'found':<9}{seconds(batch['found'])}, because {batch['why']}"
        for work in batch["works"]:
            yield f"  {'work':<9}{_work(work)}"
    parts = [value if key == "rule" else f"{key} {value}" for key, value in told["rule"].items() if value is not None]
    yield f"  {'rule':<9}{', '.join(parts)}"
    if told["looked"]:
        yield f"  {'looked':<9}{seconds(told['looked']['at'])} by {told['looked']['owner']}"


def _run(runs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield how the newest run ended and what to do, which is what most who ask want to know."""
    from insitu.triggers.story import seconds

    newest = runs[-1]
    version = f", version {newest['version']}" if newest["version"] else ""
    before = f"; before it {len(runs) - 1:,} more, the first {runs[0]['run_key'][:12]}" if runs[1:] else ""
    yield f"  {'run':<9}{newest['run_key'][:12]} {newest['state']}{version}, {seconds(newest['finished'])}{before}"
    for reason in filter(None, [newest["error"], *newest["reasons"]]):
        yield f"  {'because':<9}{reason}"
    if newest["next"]:
        yield f"  {'next':<9}{newest['next']}"


def _work(work: Mapping[str, Any]) -> str:
    """Return what came of one try of the watcher as a sentence."""
    outcome = work.get("outcome") or {}
    who = f" by {work['owner']} (epoch {work['epoch']})" if "owner" in work else ""
    version = f", version {outcome['version']}" if outcome.get("version") else ""
    ended = f"; ended {outcome['state']}{version}" if outcome.get("state") else ""
    run = f", run {outcome['run_key'][:12]}" if outcome.get("run_key") else ""
    why = f": {error['what']}" if (error := outcome.get("error")) else ""
    prefect = f"; flow run {outcome['flow_run']} of Prefect" if outcome.get("flow_run") else ""
    return f"{work['work'][:12]} {work['state']}{who}{ended}{run}{why}{prefect}"
