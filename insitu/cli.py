"""The command line. Thin: it opens things, calls one function, prints, and picks the exit code.

Everything heavy is imported inside commands, so that `insitu --help` answers at once.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import signal
import sys
from atexit import register as at_exit
from pathlib import Path
from typing import Any

import click

from insitu import __version__
from insitu.errors import BackendUnavailable, InsituError
from insitu.interrupts import remember
from insitu.options import (
    DEFAULT_SITE,
    Commands,
    batch_option,
    fail,
    json_option,
    model_argument,
    project_option,
    site_option,
)

EXIT_CODES = {"Completed": 0, "Skipped": 0, "NotPromoted": 3}
ELSEWHERE: dict[str, str] = {
    "init": "insitu.commands.init:init",
    "up": "insitu.commands.up:up",
    "bundle": "insitu.commands.bundle:bundle",
    "prune": "insitu.commands.prune:prune",
    "compare": "insitu.commands.compare:compare",
    "reproduce": "insitu.commands.reproduce:reproduce",
    "scan": "insitu.commands.scan:scan",
    "report": "insitu.commands.report:report",
    "verify": "insitu.commands.verify:verify",
    "audit": "insitu.commands.audit:audit",
    "deploy": "insitu.commands.deploy:deploy",
    "twin": "insitu.commands.twin:twin",
    "doctor": "insitu.commands.doctor:doctor",
    "provision": "insitu.commands.provision:provision",
    "watch": "insitu.commands.watch:watch",
    "why": "insitu.commands.why:why",
    "quarantine": "insitu.commands.quarantine:quarantine",
    "replay": "insitu.commands.replay:replay",
    "backfill": "insitu.commands.backfill:backfill",
    "approve": "insitu.commands.approve:approve",
    "override": "insitu.commands.override:override",
    "waive": "insitu.commands.waive:waive",
    "waivers": "insitu.commands.waive:waivers",
    "plan": "insitu.commands.plan:plan",
    "rollback": "insitu.commands.rollback:rollback",
    "reconcile": "insitu.commands.reconcile:reconcile",
    "explain": "insitu.commands.explain:explain",
    "completion": "insitu.commands.completion:completion",
}
"""Commands in modules of their own, imported when they are asked for."""


@click.group(cls=Commands, elsewhere=ELSEWHERE, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="insitu")
def main() -> None:
    """Retrain models where the data lives.

    \b
    A first run on the example data:
      insitu demo prepare         January to September of the example data
      insitu plan flights         what a run would do
      insitu retrain flights      validate, train, gate, register, containerize, publish
      insitu score flights        ask the published image
      insitu demo add-month       the next month arrives
      insitu retrain flights      the new model meets the champion

    \b
    Exit codes: 0 done, 1 failed, 2 bad usage or settings, 3 not promoted,
    4 the data failed validation.
    """
    # What is imported stays: looking through it takes a quarter of a quick command, half of that at its end.
    gc.set_threshold(50_000)
    at_exit(gc.freeze)


@main.command()
@model_argument
@site_option
@batch_option
@json_option
@project_option
def retrain(project: Path, model: str, site: str, batch: str | None, as_json: bool) -> None:
    """Retrain MODEL here and now, on the blobs that lie at the site.

    Starting it again is safe: a batch that is done is not done twice, and a run that was interrupted
    goes on after its last finished step. With --batch VERSION an earlier run is seen to: what is missing of it, such
    as its deployment to a target that was named since, is done.
    """
    from insitu.commands.batches import manifest_file
    from insitu.lineage import finished
    from insitu.rulings import lapsed
    from insitu.runs import open_run

    blobs = manifest_file(project, site, model, batch)
    run = open_run(project, model, site, blobs)
    record, news = finished(run), False
    try:
        if record is None:  # answered before Prefect is started, which takes seconds
            record, news = _run_flow(project, model, site, blobs), True
    except InsituError as error:
        # The newest: the blobs may have been pinned anew.
        record = next(reversed(_records(project, site, model).of_model(model)), None)
        if not as_json or record is None or record["error"] != error.to_json():
            raise
        click.echo(json.dumps(record, indent=1))
        fail(error)
    if as_json:
        click.echo(json.dumps(record, indent=1))
    else:
        from insitu.console import print_outcome
        from insitu.lineage import Records

        if not news:  # it may have been rolled back since
            record = Records(run.site.state).of_version(model, record["run_key"])
        print_outcome(record, news)
    if not news and record["state"] == "NotPromoted" and (why := lapsed(run)):
        click.echo(why, err=True)
    sys.exit(EXIT_CODES[record["state"]])


def _run_flow(project: Path, model: str, site: str, batch: Path | None) -> dict[str, Any]:
    """Run the flow in this process and return the run record; raise what the flow raised."""
    from flows.running.environment import prepare
    from flows.running.server import end_with_server

    prepare(project)
    end_with_server(project, lambda error: click.echo(error.render(), err=True))
    # A polite end, so that the edge job ends with us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    for sign in (signal.SIGTERM, signal.SIGINT):
        remember(sign)
    from httpx import HTTPError

    from flows.retrain import retrain as flow
    from flows.running.naming import begun_at
    from insitu.lineage import finished
    from insitu.runs import open_run

    # What Prefect says of its temporary server is not about the run.
    logging.getLogger("prefect").setLevel(logging.WARNING)
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logging.getLogger(name).setLevel(logging.INFO)
    try:
        with begun_at(site):
            state: Any = flow(model, site, str(batch.resolve()) if batch else None, return_state=True)
    except HTTPError as exc:  # the Prefect server was away for more than a minute when the run began or ended
        if record := finished(open_run(project, model, site, batch)):
            click.echo("the Prefect server was not told of this end: `insitu reconcile` does it", err=True)
            return record
        raise BackendUnavailable("the Prefect server gives no answer", found=type(exc).__name__) from None
    outcome = state.result(raise_on_failure=False)
    if isinstance(outcome, BaseException):
        raise outcome
    return dict(outcome)


@main.command()
@model_argument
@site_option
@json_option
@project_option
def history(project: Path, model: str, site: str, as_json: bool) -> None:
    """List the runs of MODEL: versions, verdicts, metrics, and which is champion, deployed, rolled back or pruned."""
    from insitu.marks import marked

    records = marked(_open_site(project, site, model).state, model)
    if as_json:
        click.echo(json.dumps(records, indent=1))
    else:
        from insitu.console import print_history

        print_history(model, site, records)


@main.command()
@model_argument
@click.argument("version", default="latest", metavar="[VERSION|RUN_KEY]")
@site_option
@json_option
@project_option
def show(project: Path, model: str, version: str, site: str, as_json: bool) -> None:
    """Show a version of MODEL (default: latest) or any run: verdict, metrics, lineage down to blobs and image."""
    record = _records(project, site, model).of_version(model, version)
    if as_json:
        click.echo(json.dumps(record, indent=1))
    else:
        from insitu.console import print_blobs, print_record

        print_record(record)
        print_blobs(record)


@main.command()
@model_argument
@click.option("--file", "request_file", type=click.Path(path_type=Path), help="JSON request; '-' reads standard input.")
@click.option("--version", default="latest", show_default=True, help="Version to ask.")
@site_option
@json_option
@project_option
def score(project: Path, model: str, request_file: Path | None, version: str, site: str, as_json: bool) -> None:
    """Send an example request to the server of MODEL's published image.

    The image's own server is started for the request. Without --file it gets the golden rows that
    the image was tested with.
    """
    from insitu.scoring import ask_published

    asked = ask_published(project, site, model, version, request_file)
    if as_json:
        click.echo(json.dumps({"version": asked.version, "request": asked.request, "answer": asked.answer}, indent=1))
    else:
        from insitu.console import print_answer

        click.echo(f"{model} version {asked.version} answers:", err=True)
        print_answer(asked.request, asked.answer, asked.classes)


@main.group()
def demo() -> None:
    """The example data: flights from New York City in 2013."""


@demo.command()
@click.option("--months", type=click.IntRange(1, 12), help="Have months 1 to N in place.  [default: 9 on first use]")
@site_option
@json_option
@project_option
def prepare(project: Path, months: int | None, site: str, as_json: bool) -> None:
    """Put the first months of the example data in place; what is there stays."""
    from insitu import demo as data

    store = _demo_store(project, site)
    wanted = months or (0 if data.months_in_place(store) else data.FIRST_MONTHS)
    names = data.put_months(store, range(1, wanted + 1))
    click.echo(json.dumps({"blobs": names}) if as_json else "\n".join(f"put {name}" for name in names), nl=bool(names))


@demo.command("add-month")
@site_option
@json_option
@project_option
def add_month(project: Path, site: str, as_json: bool) -> None:
    """Let the next month of the example data arrive."""
    from insitu import demo as data

    name = data.add_month(_demo_store(project, site))
    there = "" if site == DEFAULT_SITE else f" --site {site}"
    click.echo(json.dumps({"blob": name}) if as_json else f"put {name}; next: insitu retrain flights{there}")


def _demo_store(project: Path, site: str) -> Any:
    from insitu.settings import load_site
    from insitu.wiring import open_site

    return open_site(project, load_site(project, site, os.environ)).data("flights")


def _records(project: Path, site: str, model: str) -> Any:
    from insitu.lineage import Records

    return Records(_open_site(project, site, model).state)


def _open_site(project: Path, site: str, model: str) -> Any:
    from insitu.settings import load_settings
    from insitu.wiring import open_site

    settings, _ = load_settings(project, site, model, os.environ)
    return open_site(project, settings)
