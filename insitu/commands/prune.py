"""`insitu prune`: what nothing needs any more is shown, and taken away when one says so."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import click

from insitu.commands.bundle import told_size
from insitu.options import json_option, project_option, site_option

if TYPE_CHECKING:
    from insitu.removal import Item, Stay


@click.command()
@click.argument("model", required=False)
@click.option("--keep", type=click.IntRange(min=1), help="How many published versions stay.  [default: keep_versions]")
@click.option("--apply", "do_it", is_flag=True, help="Take it away. Without this, nothing is changed.")
@site_option
@json_option
@project_option
def prune(project: Path, model: str | None, keep: int | None, do_it: bool, site: str, as_json: bool) -> None:
    """Show what nothing needs any more of MODEL (default: of all, and what they share), and why the rest stays.

    Needed is what is deployed, has an alias or a tag of its own, is under way or waits for a person, what a rollback
    would go back to, the newest versions, and whatever is younger than [retention] keep_days of the site. Of the
    rest go images, model versions, what jobs left, journals; records and decisions stay. Of an interrupted prune
    the next one does the rest.
    """
    from insitu.pruning import prune as pruned
    from insitu.settings import load_site
    from insitu.wiring import open_site

    place = open_site(project, load_site(project, site, os.environ))
    rules = place.settings.retention
    if keep is not None:
        rules = rules.model_copy(update={"keep_versions": keep})
    going, staying = pruned(place, model, rules, datetime.now(UTC), do_it=do_it)
    if not as_json:
        click.echo("\n".join(_lines(going, staying, do_it)))
        return
    told = {"going": [item.to_json() for item in going], "staying": [stay.to_json() for stay in staying]}
    size = sum(item.size_bytes for item in going)
    click.echo(json.dumps({"applied": do_it, "bytes": size, **told}, indent=1))


def _lines(items: Sequence[Item], staying: Sequence[Stay], do_it: bool) -> Iterator[str]:
    for stay in staying:
        yield f"stays  {stay.model} {stay.of} ({told_size(stay.size_bytes)}): {'; '.join(stay.why)}"
    for of, group in groupby(items, key=lambda item: (item.model, item.of, item.why)):
        parts = list(group)
        title = f"{of[0]} {of[1]}" if of[0] else f"{len(parts)} x {parts[0].kind}"
        yield f"{'went' if do_it else 'goes'}   {title} ({told_size(sum(part.size_bytes for part in parts))}): {of[2]}"
        for part in parts if of[0] else ():
            yield f"         {part.kind} {part.name}, {told_size(part.size_bytes)}"
    freed = told_size(sum(item.size_bytes for item in items))
    if not items:
        yield "nothing to prune"
    else:
        yield f"{freed} freed" if do_it else f"{freed} would be freed; nothing was changed: --apply does it"
