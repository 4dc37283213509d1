"""The watchers of a site, ready to look: who starts runs, and who is told of events.

Prefect is not imported before `prepare` has been called, and only where there is a server.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from flows.running.environment import prepare
from flows.running.reconcile import Closed, reconciling
from flows.running.runners import DeploymentRunner, WarmRunner
from insitu.settings import load_settings, load_site
from insitu.triggers.book import Book
from insitu.triggers.claims import StateClaims
from insitu.triggers.service import Hints, Round, Say
from insitu.triggers.watcher import Watcher
from insitu.triggers.work import Runner
from insitu.wiring import Site, open_site

_EMITTED = ("insitu.batch.", "insitu.work.")
"""How the events begin that automations may wait for; they may get lost, what they tell of does not."""


@contextmanager
def watching(
    project: Path, site: str, models: Sequence[str], say: Say, *, here: bool = False, warm: bool = False
) -> Iterator[Sequence[Round]]:
    """Yield a watcher for each model, ready to look.

    Args:
        project: The project's folder.
        site: The site's name.
        models: Names of models; all when it is empty.
        say: Is told what happens.
        here: Runs happen in processes of this machine, also beside a Prefect server.
        warm: Such a process waits, with everything imported, for the next run.

    Raises:
        SettingsError: Of the site or of a model.
    """
    prepare(project)
    place = open_site(project, load_site(project, site, os.environ))
    runner = runner_for(project, place, here=here, warm=warm)
    emits = "PREFECT_API_URL" in os.environ
    said = partial(_say_closed, say)
    rounds = [
        round_of(place, name, runner, partial(_say_and_emit, say) if emits else say)
        for name in models or model_names(project)
    ]
    try:
        with reconciling(place, said) if emits else nullcontext():
            yield rounds
    finally:
        if isinstance(runner, WarmRunner):
            runner.close()


def model_names(project: Path) -> list[str]:
    """Return the names of all models of the project."""
    return sorted(file.parent.name for file in project.glob("models/*/model.toml"))


def runner_for(project: Path, place: Site, *, here: bool, warm: bool) -> Runner:
    """Return who starts runs: the Prefect server's workers where there is a server, else this machine."""
    folder = place.settings.compute.work / "triggers"
    if "PREFECT_API_URL" in os.environ and not here:
        return DeploymentRunner(project, place.name, folder)
    return WarmRunner(project, place.name, folder, keeps_warm=warm)


def round_of(place: Site, name: str, runner: Runner, say: Say) -> Round:
    """Return the watcher of one model."""
    _, model = load_settings(place.project, place.name, name, os.environ)
    book, owner = Book(place.state, model), f"{socket.gethostname()}-{os.getpid()}"
    trigger = model.trigger
    claims = StateClaims(place.state, f"{book.folder}claims/", owner, trigger.lease_s, trigger.retry_s)
    watcher = Watcher(book, place.data(model.data.container), claims, runner, partial(say, name), owner)
    return Round(watcher, say, Hints(place.state, name))


def _say_closed(say: Say, closed: Closed) -> None:
    say(closed.model, "insitu.run.closed", asdict(closed))


def _say_and_emit(say: Say, model: str, event: str, said: Mapping[str, Any]) -> None:
    say(model, event, said)
    if event.startswith(_EMITTED):
        from prefect.events import emit_event

        resource = f"insitu.batch.{said['batch']}" if "batch" in said else f"insitu.work.{said['work']}"
        related = [{"prefect.resource.id": f"insitu.model.{model}", "prefect.resource.role": "model"}]
        emit_event(event, {"prefect.resource.id": resource}, related=related, payload={"model": model, **said})
