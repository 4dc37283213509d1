"""`insitu compare`: two versions on the same rows, for people."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from insitu.options import json_option, model_argument, project_option, site_option


@click.command()
@model_argument
@click.argument("one", metavar="A")
@click.argument("other", metavar="B")
@click.option(
    "--batch",
    help="JSON manifest of pinned blobs, or digits of a run key or batch.  [default: holdout of the younger version]",
)
@site_option
@json_option
@project_option
def compare(project: Path, model: str, one: str, other: str, batch: str | None, site: str, as_json: bool) -> None:
    """Score the versions A and B of MODEL on the same rows, next to the data, and tell how B differs from A.

    Changes nothing and decides nothing: what it says is exploratory, and takes nothing of the holdout's error budget.
    """
    from insitu.comparing import compare as compared
    from insitu.settings import load_settings
    from insitu.wiring import open_site

    settings, wanted = load_settings(project, site, model, os.environ)
    told = compared(open_site(project, settings), wanted, one, other, batch)
    click.echo(json.dumps(told, indent=1) if as_json else "\n".join(_lines(told)))


def _lines(told: Mapping[str, Any]) -> Iterator[str]:
    one, other = told["versions"]
    yield f"{told['model']}: version {other} against version {one}, on {told['batch']['what']}: {told['rows']:,} rows"
    for name, value in told["metrics"][one].items():
        yield f"  {name:<18} v{one} {_number(value):<10} v{other} {_number(told['metrics'][other][name])}"
    yield f"  {'gain of v' + other:<18} {_gain(told)}"
    for entry in told["slices"]:
        ends = " to ".join(_number(entry["difference"][end]) for end in ("low", "high"))
        yield f"  {entry['column']}={entry['slice']} ({entry['rows']:,} rows): v{other} minus v{one} {ends}"
    yield f"  {'answers moved':<18} psi {_number(told['score_psi'])}"
    for version, blobs in told["trained_on"].items():
        if blobs:
            there = f"{blobs} of these {told['batch']['blobs']} blobs"
            yield f"  v{version} was trained on {there}: it looks better than it is"
    yield told["note"]


def _gain(told: Mapping[str, Any]) -> str:
    seen, difference = told["gain"], told["difference"]
    if seen is None:
        return f"{difference['metric']} cannot be compared on these rows"
    interval = f"{1 - 2 * difference['error']:.4g} interval {seen['low']:+.4g} to {seen['high']:+.4g}"
    return f"{difference['metric']} {seen['estimate']:+.4g}, {interval} ({difference['method']})"


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4g}"
