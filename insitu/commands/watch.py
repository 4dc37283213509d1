"""`insitu watch`: from new blobs to runs."""

from __future__ import annotations

import json
import logging
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from insitu.errors import InsituError
from insitu.options import json_option, project_option, site_option


@click.command()
@click.argument("models", nargs=-1, metavar="[MODEL...]")
@click.option("--once", is_flag=True, help="Look once, do what is due, and end.")
@click.option("--here", is_flag=True, help="Run the flow in processes of this machine, also beside a Prefect server.")
@site_option
@json_option
@project_option
def watch(project: Path, models: tuple[str, ...], site: str, once: bool, here: bool, as_json: bool) -> None:
    """Turn new blobs into batches and batches into runs, exactly once, for MODELs (default: all) until Ctrl-C.

    Any number of watchers may run: each batch becomes one run. What a killed one has begun, another one
    finishes. With --json each event is one JSON value on a line of its own.
    """
    _require_models(project, models)
    from flows.running.watching import watching
    from insitu.triggers.service import go_on, look_once

    logging.getLogger("prefect").setLevel(logging.WARNING)
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    def say(model: str, event: str, said: Mapping[str, Any]) -> None:
        click.echo(json.dumps({"model": model, "event": event, **said}) if as_json else told(model, event, said))

    with watching(project, site, models, say, here=here, warm=not once) as rounds:
        if once:
            look_once(rounds)
            return
        try:
            go_on(rounds)
        except KeyboardInterrupt:
            click.echo("stopped; what was under way is taken over by another watcher, or by the next", err=True)


def _batches(number: int) -> str:
    return f"{number:,} batch{'' if number == 1 else 'es'}"


def told(model: str, event: str, said: Mapping[str, Any]) -> str:
    """Return an event as one line for people."""
    from insitu.lineage import counted

    match event.rpartition(".")[2]:
        case "ready":
            return f"{model}: batch {said['batch'][:12]} of {_prefix(said)} is complete"
        case "quarantined":
            return f"{model}: {_prefix(said)} is in quarantine: {said['reason']}   (insitu quarantine list {model})"
        case "started":
            what = f"{_batches(said['batches'])}, {counted(said['blobs'], 'blob')} in all"
            return f"{model}: work {said['work'][:12]} begins: {what}, attempt {said['attempt']}"
        case "ended":
            error = (said.get("error") or {}).get("what")
            return (
                f"{model}: work {said['work'][:12]} ended: {said.get('state')}"
                + (f", {error}" if error else "")
                + _again(said)
            )
        case "closed":
            resumed = f"; {said['resumed_by']} goes on with it" if said["resumed_by"] else ""
            return f"{model}: flow run {said['flow_run']} is {said['now']}: {said['why']}{resumed}"
        case "problem":
            return f"{model}: {InsituError.from_json(said).render()}"
    return f"{model}: {_status(said)}"


def _again(said: Mapping[str, Any]) -> str:
    return "; it is tried again after a pause" if said.get("claim") == "failed" else ""


def _status(said: Mapping[str, Any]) -> str:
    parts = []
    if said["batches"]:
        parts.append(f"{_batches(said['batches'])} in work or waiting, the oldest for {said['oldest_s']:.0f} s")
    for prefix, waits in list(said["incomplete"].items())[:5]:
        parts.append(f"{prefix or 'the container'} waits for {waits}")
    if len(said["incomplete"]) > 5:
        parts.append(f"{len(said['incomplete']) - 5} more prefixes are incomplete")
    if said["quarantined"]:
        parts.append(f"{said['quarantined']} in quarantine")
    return "; ".join(parts) or "nothing waits"


def _prefix(said: Mapping[str, Any]) -> str:
    return str(said["prefix"] or "the container")


def _require_models(project: Path, models: tuple[str, ...]) -> None:
    """Fail early and with advice, as long as that is cheap."""
    from insitu.settings import load_model

    for name in models:
        load_model(project, name, os.environ)
