"""What `insitu approve` and `insitu override` have in common: which run is meant, and what comes next."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote
from typing import Any

import click

from insitu.capacity import over_limits
from insitu.decisions import Kept, Story, standing
from insitu.errors import InsituError, UsageError
from insitu.files import replace_file
from insitu.journal import Journal
from insitu.leases import is_over, look, of_model
from insitu.lineage import Records
from insitu.options import DEFAULT_SITE
from insitu.rulings import ledger_of, note_outcome
from insitu.runs import open_run
from insitu.settings import ModelSettings, load_settings
from insitu.training import INPUTS
from insitu.wiring import Site, open_site

_SHORTEST_KEY = 8
_GO_ON = ("Approved", "Overridden", "AwaitingApproval")  # the last: what was decided does not name a limit passed since


def open_place(project: Path, site: str, model: str) -> tuple[Site, ModelSettings]:
    """Return the site and the model's settings."""
    settings, of_model = load_settings(project, site, model, os.environ)
    return open_site(project, settings), of_model


def find_story(site: Site, model: str, run: str | None) -> Story:
    """Return what was decided about the run that is meant: by key or version, else the one that asks.

    Raises:
        UsageError: There is no such run, the gate has not judged it, or it is not clear which one asks.
    """
    keys = sorted({name.split("/")[2] for name in site.state.names(f"decisions/{model}/")})
    if run is None:
        return _the_one_that_asks(site, model, keys)
    found = [key for key in keys if len(run) >= _SHORTEST_KEY and key.startswith(run)]
    key = found[0] if len(found) == 1 else Records(site.state).of_version(model, run)["run_key"]
    if story := ledger_of(site, model, key).newest():
        return story
    raise UsageError(
        f"no decision about run {key[:12]} of {model} is on record",
        next_action=f"start it again, so that the gate judges it: insitu retrain {model}",
    )


def _the_one_that_asks(site: Site, model: str, keys: list[str]) -> Story:
    now = datetime.now(UTC)
    asked = [(s, s.question.record) for key in keys if (s := ledger_of(site, model, key).newest()) and s.question]
    asking = [story for story, question in asked if not story.answer and not question.is_over(now)]
    if len(asking) > 1:
        raise UsageError(
            f"{len(asking)} runs of {model} ask",
            found=", ".join(story.gate.record.run_key[:12] for story in asking),
            wanted="the key of one of them",
        )
    if not asked:
        raise _nobody_asks(model, Records(site.state).of_model(model))
    return asking[0] if asking else max(asked, key=lambda one: one[1].when)[0]


def _nobody_asks(model: str, records: list[dict[str, Any]]) -> UsageError:
    """Return the error that says how the latest run ended, and what would let its model be published."""
    what, wanted = (
        f"no run of {model} asks for approval",
        'a run that ended AwaitingApproval (gate.approval = "always")',
    )
    if not records:
        return UsageError(what, found="no runs yet", wanted=wanted, next_action=f"start one: insitu retrain {model}")
    latest = records[-1]
    key, outcome = latest["run_key"][:12], (latest["decision"] or {}).get("outcome") or latest["state"]
    then = {
        "Promoted": "nothing: the gate has promoted it without asking",
        "Rejected": f"see why: insitu show {model} {key}; insitu override publishes it where the site allows",
    }
    return UsageError(
        what,
        found=f"the latest run, {key}, is {outcome}",
        wanted=wanted,
        next_action=then.get(outcome, f"see why: insitu show {model} {key}"),
    )


def tell(place: Site, settings: ModelSettings, kept: Kept, as_json: bool) -> None:
    """Let the run's record tell the decision, and print it with what to do next."""
    about, now = kept.record, datetime.now(UTC)
    story = ledger_of(place, about.model, about.run_key).story(about.evidence)
    assert story
    over = over_limits(place, settings, about.run_key)
    stands = standing(story, settings.gate.approval, place.settings.gate.allow_override, now, over)
    note_outcome(place, about.model, about.run_key, stands)
    then = _next(place, about.model, about.run_key) if stands.outcome in _GO_ON else ""
    told = {"model": about.model, "run_key": about.run_key, "outcome": stands.outcome, **kept.told(), "next": then}
    if as_json:
        click.echo(json.dumps(told, indent=1))
        return
    until = f", until {about.expires}" if about.expires else ""
    click.echo(f"{about.model} run {about.run_key[:12]}: {about.kind} by {about.who}{until}: {stands.outcome}")
    for reason in about.reasons if about.kind == "override" else ():
        click.echo(f"  although  {reason}")
    click.echo(f"on record: {kept.name}" + (f"\nnext: {then}" if then else ""))


def _next(place: Site, model: str, run_key: str) -> str:
    """Return how the run goes on: by itself where it waits, else by a start with its own batch."""
    lease = of_model(model)
    held = look(place.state, lease)
    if held and held.work == run_key and not is_over(place.state, lease, held):
        return "nothing: the run that waits goes on"
    if version := _published_as(place, model, run_key):
        return f"nothing: it is published as version {version}"
    journal = Journal(place.state, model, run_key)
    params = (journal.entry(INPUTS) or {}).get("settings", {}).get("train", {}).get("params", {})
    _, now = load_settings(place.project, place.name, model, os.environ)
    own = {name: value for name, value in params.items() if now.train.params.get(name) != value}
    command = "".join(f"INSITU_MODEL__TRAIN__PARAMS__{name}={quote(str(value))} " for name, value in own.items())
    command += f"insitu retrain {model}" + ("" if place.name == DEFAULT_SITE else f" --site {place.name}")
    if _key(place, model, None, own) == run_key:
        return command
    snapshot = journal.entry("snapshot")
    if snapshot is None:
        return command
    file = place.settings.compute.work / "batches" / f"{run_key[:12]}.json"
    replace_file(file, json.dumps(snapshot["value"]["batch"], indent=1).encode())
    command += f" --batch {quote(str(file))}"  # there are newer blobs: those would be another run
    if _key(place, model, file, own) == run_key:
        return command
    return f"put code, settings and insitu back as they were, since a start is a run of its own now; then {command}"


def _published_as(place: Site, model: str, run_key: str) -> str | None:
    records = (one for one in Records(place.state).of_model(model) if one["run_key"] == run_key and one["publication"])
    return next((str(one["model_version"]["version"]) for one in records), None)


def _key(place: Site, model: str, batch: Path | None, params: Mapping[str, Any]) -> str | None:
    try:
        return open_run(place.project, model, place.name, batch, params).key
    except InsituError:
        return None
