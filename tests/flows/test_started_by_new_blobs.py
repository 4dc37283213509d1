"""New blobs start the real flow, once, also when its watcher dies in the middle of it."""

from __future__ import annotations

import json
import signal
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from flow_helpers import NewProject, Project, audit, finish
from loopback import wait_until
from prefect_server import PrefectServer

from insitu.batch import Batch, Blob
from insitu.triggers.work import Job, Outcome

_PACE = "poll_s = 0.5\nlease_s = 8.0\n"
"""Goes to the end of the example's settings, which is [trigger]: watchers of tests are impatient."""


@pytest.fixture
def watched(new_project: NewProject, request: pytest.FixtureRequest) -> Project:
    project = new_project(f"watched by {request.node.name}")
    with open(project.root / "models/flights/model.toml", "a") as settings:
        settings.write(_PACE)
    return project


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_what_lies_there_becomes_one_run_and_everybody_can_ask_why(watched: Project, server: PrefectServer) -> None:
    (before,) = watched.run("why", "month=03/flights.parquet", "--json").require(0).json
    assert "nobody has looked yet" in before["says"]
    watched.run("watch", "--once", "--here").require(0)
    (told,) = watched.run("why", "month=03/flights.parquet", "--json").require(0).json
    (work,) = told["batches"][0]["works"]
    (record,) = watched.kept("record")
    assert work["outcome"]["run_key"] == record["run_key"]
    assert [blob["name"] for blob in record["batch"]["manifest"]["blobs"]] == [
        f"month={month:02d}/flights.parquet" for month in (1, 2, 3)
    ]
    wait_until(lambda: told["batches"][0]["batch"] in batches_that_were_ready(server), 30, "the event")
    again = watched.run("watch", "--once", "--here").require(0)
    assert "begins" not in again.out
    assert audit(watched).versions == ["1"]
    assert watched.run("quarantine", "list", "--json").require(0).json == []
    # The same blobs as a run by hand: it finds the record.
    assert watched.retrain("--json").require(0).json["run_key"] == record["run_key"]
    assert len(watched.kept("record")) == 1
    replayed = watched.run("replay", told["batches"][0]["batch"][:8], "--json").require(0).json
    assert replayed["again"] == work["work"]
    (filled,) = watched.run("backfill", "flights", "--from", "month=03", "--to", "month=03", "--json").require(0).json
    assert filled["upto"] == "month=03/"
    watched.run("watch", "--once", "--here").require(0)
    assert "entries" not in queue(watched)
    assert audit(watched).versions == ["1"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_run_of_a_watcher_that_was_killed_is_finished_by_another_one(watched: Project) -> None:
    doomed = watched.start("watch", "--here", REHEARSE="sleep")
    wait_until(lambda: list(watched.var.glob("jobs/*/output/sleeping")), 120, "the start of training")
    doomed.kill()
    finish(doomed)
    heir = watched.start("watch", "--here")
    try:
        wait_until(lambda: [one["state"] for one in watched.kept("record")] == ["Completed"], 180, "the end of the run")
        wait_until(lambda: not queue(watched).get("work"), 30, "the end of the work")
    finally:
        heir.send_signal(signal.SIGTERM)
        done = finish(heir, 60)
    assert "Traceback" not in done.err
    assert audit(watched).versions == ["1"]
    (told,) = watched.run("why", "month=02/flights.parquet", "--json").require(0).json
    assert [(work["epoch"], work["state"]) for work in told["batches"][0]["works"]] == [(2, "done")]
    assert not watched.job_processes()


def batches_that_were_ready(server: PrefectServer) -> set[str]:
    found = server.ask("/events/filter", {"filter": {"event": {"name": ["insitu.batch.ready"]}}})
    return {event["payload"]["batch"] for event in found["events"]}


def queue(project: Project) -> dict[str, object]:
    kept: dict[str, object] = json.loads((project.var / "state/triggers/flights/queue.json").read_text())
    return kept


def test_the_same_work_is_one_flow_run_of_the_server_and_its_end_is_understood(
    server: PrefectServer, tmp_path: Path
) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows.running.runners import DeploymentRunner

    model = f"m{uuid4().hex[:8]}"
    flow = server.ask("/flows/", {"name": "retrain"})
    server.ask("/deployments/", {"name": model, "flow_id": flow["id"]})
    batch = Batch.of("c", [Blob("a", '"1"', 1, datetime.now(UTC))])
    runner = DeploymentRunner(tmp_path, "local", tmp_path)

    def end(attempt: int, state: dict[str, str], waits: int = 0) -> tuple[UUID, Outcome | None]:
        job = Job(model, model * 4, attempt, 1, ("k",), batch, waits)
        running, twice = runner.start(job), runner.start(job)
        assert running.id == twice.id  # type: ignore[attr-defined]
        assert running.outcome() is None
        server.ask(f"/flow_runs/{running.id}/set_state", {"state": state, "force": True})  # type: ignore[attr-defined]
        return running.id, running.outcome()  # type: ignore[attr-defined]

    with temporary_settings({PREFECT_API_URL: server.url}):
        ends = [
            end(1, {"type": "COMPLETED", "name": "NotPromoted"}),
            end(2, {"type": "FAILED", "name": "Failed", "message": "E-DATA the batch has a gap\n  found: month 3"}),
            end(3, {"type": "FAILED", "name": "Failed", "message": "Flow run encountered an exception"}),
            end(4, {"type": "CRASHED", "name": "Crashed"}),
            end(5, {"type": "CANCELLED", "name": "Cancelled"}),
            end(6, {"type": "COMPLETED", "name": "Skipped"}),
            end(6, {"type": "FAILED", "name": "Failed", "message": "E-BUSY another run is under way"}, waits=1),
            end(6, {"type": "COMPLETED", "name": "Completed"}, waits=2),
        ]
    assert len({run for run, _ in ends}) == 8
    assert [outcome.verdict for _, outcome in ends if outcome] == [
        "done", "data", "failed", "failed", "cancelled", "busy", "busy", "done",
    ]  # fmt: skip
