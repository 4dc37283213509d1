"""`insitu approve`: a person decides over a model."""

from __future__ import annotations

from pathlib import Path

import click

from insitu.options import json_option, model_argument, name_and_reason, project_option, site_option


@click.command()
@model_argument
@click.argument("run", required=False, metavar="[RUN_KEY|VERSION]")
@name_and_reason
@click.option("--reject", is_flag=True, help="Decide against it.")
@site_option
@json_option
@project_option
def approve(
    project: Path, model: str, run: str | None, who: str, reason: str, reject: bool, site: str, as_json: bool
) -> None:
    """Approve the run of MODEL that awaits approval, or with --reject decide against it.

    The first answer counts, here or in the Prefect UI, and is signed and kept. A run that waits goes on; one that
    has ended goes on at the next `insitu retrain`.
    """
    from insitu.acts import Act
    from insitu.commands.deciding import find_story, open_place, tell
    from insitu.rulings import answer

    place, settings = open_place(project, site, model)
    act = Act("rejection" if reject else "approval", who, reason)
    tell(place, settings, answer(place, find_story(place, model, run), act), as_json)
