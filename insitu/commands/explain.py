"""`insitu explain`: what an error means, and what to do."""

from __future__ import annotations

import json
from collections.abc import Iterator

import click

from insitu.explanations import EXPLANATIONS, Explanation
from insitu.explanations import explain as explained
from insitu.options import json_option


@click.command()
@click.argument("code", required=False, metavar="[E-...]")
@json_option
def explain(code: str | None, as_json: bool) -> None:
    """Tell what an error means, what was kept, and what to do; without a code list all."""
    if code:
        entry = explained(code)
        click.echo(json.dumps(entry.to_json(), indent=1) if as_json else "\n".join(_lines(entry)))
    elif as_json:
        click.echo(json.dumps([entry.to_json() for entry in EXPLANATIONS], indent=1))
    else:
        click.echo("\n".join(f"{entry.code:<9} {entry.meaning}" for entry in EXPLANATIONS))


def _lines(entry: Explanation) -> Iterator[str]:
    yield f"{entry.code} ({entry.kind}): {entry.meaning}"
    for label, texts in (("causes", entry.causes), ("kept", (entry.kept,)), ("to do", entry.to_do)):
        yield f"  {label}:"
        yield from (f"    - {text}" for text in texts)
