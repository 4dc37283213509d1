"""`insitu override`: a person publishes what was not promoted, where the site allows it."""

from __future__ import annotations

from datetime import UTC, datetime, time
from pathlib import Path

import click

from insitu.errors import UsageError
from insitu.options import json_option, model_argument, name_and_reason, project_option, site_option


@click.command()
@model_argument
@click.argument("run", metavar="RUN_KEY|VERSION")
@name_and_reason
@click.option(
    "--expires", required=True, help="Until when it may be published: 2030-12-31 (to its end, UTC) or a time."
)
@site_option
@json_option
@project_option
def override(
    project: Path, model: str, run: str, who: str, reason: str, expires: str, site: str, as_json: bool
) -> None:
    """Let MODEL's run be published although the gate or a person did not let it pass.

    The site must allow it: allow_override below [gate] in its settings. The override is signed and kept; the next
    `insitu retrain` goes on with the run, and refuses after the override has expired.
    """
    from insitu.acts import Act
    from insitu.capacity import over_limits
    from insitu.commands.deciding import find_story, open_place, tell
    from insitu.rulings import override as overrule

    until = moment(expires)
    place, settings = open_place(project, site, model)
    story = find_story(place, model, run)
    over = over_limits(place, settings, story.gate.record.run_key)
    tell(place, settings, overrule(place, story, Act("override", who, reason), until, over=over), as_json)


def moment(text: str) -> datetime:
    """Return the end of a day, or a time, UTC unless it says otherwise; raise `UsageError`."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!a} is no date", wanted="2030-12-31, or 2030-12-31T18:00+01:00") from None
    if len(text) <= len("2030-12-31"):
        found = datetime.combine(found.date(), time(23, 59, 59))
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
