"""`insitu init`: a model that runs, from a sample of its data."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from insitu.errors import UsageError
from insitu.options import DEFAULT_SITE, json_option, project_option, site_option

if TYPE_CHECKING:
    from insitu.scaffolding.start import Begun
    from insitu.scaffolding.target import Question


@click.command()
@click.argument("name")
@click.option("--data", required=True, help="Folder, file, or container of the site (its URL, or CONTAINER/PREFIX).")
@click.option("--target", help="Column that is predicted.  [default: where one is called target, label, ...]")
@click.option("--task", type=click.Choice(["classification", "regression"]), help="What kind of prediction.")
@click.option("--positive", help="Class that is told from all others; without it three or more are all predicted.")
@click.option("--key", "keys", multiple=True, help="Column that names a row; several together, one option each.")
@click.option(
    "--template",
    type=click.Choice(["sklearn", "lightgbm", "pytorch"]),
    default="sklearn",
    show_default=True,
    help="What train.py learns with.",
)
@site_option
@json_option
@project_option
def init(
    project: Path,
    name: str,
    data: str,
    target: str | None,
    task: Any,
    positive: str | None,
    keys: tuple[str, ...],
    template: Any,
    site: str,
    as_json: bool,
) -> None:
    """Begin the model NAME: look at a sample of its data, write what retrains it.

    Written are models/NAME (model.toml, train.py), a starter suite data_checks/NAME.json and an entry in
    prefect.yaml. Nothing is overwritten. Data from elsewhere on this machine is copied to the site; one
    file alone becomes two blobs, since the latest is never trained on. `insitu retrain NAME` then works.
    """
    from insitu.scaffolding.start import begin
    from insitu.scaffolding.target import Wishes
    from insitu.settings import load_site
    from insitu.wiring import open_site

    place = open_site(project, load_site(project, site, os.environ))

    def ask(question: Question) -> str:
        return _asked(question, as_json=as_json)

    quiet = click.get_current_context().params.get("quiet", False)

    def tell(text: str) -> None:
        if not quiet:
            click.echo(text, err=True)

    begun = begin(place, name, data, Wishes(target, task, positive), template, keys, ask, tell)
    if as_json:
        click.echo(json.dumps(begun.to_json(place), indent=1, ensure_ascii=False))
    else:
        _print(begun, begun.to_json(place), site)


def _asked(question: Question, *, as_json: bool) -> str:
    """Ask on a terminal; elsewhere show the choices and raise `UsageError`, which holds no value of the data."""
    if not as_json and sys.stdin.isatty() and sys.stderr.isatty():
        answer: str = click.prompt(
            question.text, type=click.Choice(question.choices), err=True, show_choices=len(question.choices) < 30
        )
        return answer
    if not as_json:
        click.echo(f"{question.text}\n  {', '.join(question.choices)}", err=True)
    raise UsageError(
        f"it is not clear from the data: {question.text}",
        wanted=f"the answer with {question.option}",
        next_action=f"start it again with {question.option}, or on a terminal, where it asks",
    )


def _print(begun: Begun, told: dict[str, Any], site: str) -> None:
    data, draft = told["data"], begun.draft
    seen = data["looked_at"]
    rows = f"{'all ' if seen['all'] else ''}{seen['rows']:,} rows of {seen['blobs']} of {len(begun.source.blobs)} blobs"
    click.echo(f"{draft.target.task} of {draft.target.column.name}, from a look at {rows}\n")
    for file in told["files"]:
        click.echo(f"  {file}")
    click.echo(f"  data: {data['place']}, {data['blobs']}{' (copied)' if data['copied'] else ''}")
    if draft.holdout.share:
        kept = f"{draft.holdout.share:.0%}"
        click.echo(f"        one file, dealt at random: {kept} of its rows are the holdout, {data['copied'][-1]}")
    if data["ignored"]:
        click.echo(f"        {data['ignored']} other files there were left alone")
    if codes := [name for name, kind in draft.reading.types.items() if kind == "text"]:
        click.echo(f"        read as text, since leading zeros make it look like a code: {', '.join(codes)}")
    click.echo(f"\nlearned from: {', '.join([*draft.features.numbers, *draft.features.texts])}")
    for name, why in draft.features.left_out.items():
        click.echo(f"  not {name}: {why}")
    click.echo(
        f"\nThe suite has {begun.expectations} expectations; model.toml and suite name ends of columns and frequent\n"
        "categories, no rows: they belong to the site, read them before they go elsewhere.\n\nnext:"
    )
    if begun.missing:
        click.echo(f"  uv pip install {' '.join(begun.missing)}    # into the environment of insitu")
    at = "" if site == DEFAULT_SITE else f" --site {site}"
    click.echo(f"  insitu plan {draft.name}{at}       # what a run would do")
    click.echo(f"  insitu retrain {draft.name}{at}")
    click.echo(f"  insitu score {draft.name}{at}      # ask the published image")
    click.echo("New data: another blob beside these, with a name that sorts after them.")
    if begun.entry:
        click.echo(f"\nFor the Prefect UI, add to the deployments of prefect.yaml:\n{begun.entry}")
