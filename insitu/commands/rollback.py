"""`insitu rollback`: back to an earlier published version."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from insitu.options import json_option, model_argument, project_option, site_option

_NO_REASON = "no reason given"


@click.command()
@model_argument
@click.option("--to", metavar="VERSION", help="A published version.  [default: the one that the champion has replaced]")
@click.option("--reason", default=_NO_REASON, show_default=True, help="Why. It goes on record.")
@click.option("--name", "who", help="Who decides. Nobody checks it: it goes on record.  [default: the user's name]")
@site_option
@json_option
@project_option
def rollback(project: Path, model: str, to: str | None, reason: str, who: str | None, site: str, as_json: bool) -> None:
    """Go back to an earlier published version of MODEL: alias, tag latest and every deployment, at once.

    The version that gives way is not published again by itself, and the next challenger meets the one that took its
    place. Given again, the command goes back no further, and sees to what did not follow the first time; `--to` goes
    to any published version, also forward again.
    """
    from insitu.acts import Act
    from insitu.commands.deciding import open_place
    from insitu.rollback import roll_back

    place, settings = open_place(project, site, model)
    act = Act("rollback", who or _user(), reason)
    outcome = roll_back(place, settings, to, act)
    if outcome.order and outcome.reason != act.reason and reason != _NO_REASON:
        held = f"{outcome.who}, {outcome.when}: {outcome.reason}"
        click.echo(f"your reason is not put on record: the order that holds has its own ({held})", err=True)
    click.echo(json.dumps(asdict(outcome), indent=1) if as_json else told(asdict(outcome)))


def told(outcome: dict[str, Any]) -> str:
    """Return what was brought about, in lines for people."""
    done = f"from version {outcome['was']} to" if outcome["was"] else "nothing to roll back, the champion is"
    lines = [f"{outcome['model']}: {done} version {outcome['to']}, {outcome['seconds']:.1f} s"]
    lines.append(f"  {'published':<10}{outcome['reference']}, {outcome['digest'][:19]}")
    for one in outcome["deployment"]:
        before = "ran it already" if one["was"] == one["digest"] else f"ran {(one['was'] or 'nothing')[:19]}"
        lines.append(f"  {'deployed':<10}{one['name']} at {one['address']}, {before}, {one['seconds']:.1f} s")
    lines += [f"  {'left':<10}{name}: {why}" for name, why in outcome["left"].items()]
    if outcome["order"]:
        lines.append(f"  {'on record':<10}{outcome['order']}: {outcome['who']}, {outcome['when']}: {outcome['reason']}")
    return "\n".join(lines)


def _user() -> str:
    """Return the name of the user of this machine."""
    import getpass

    return getpass.getuser()
