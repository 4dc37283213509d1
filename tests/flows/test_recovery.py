"""What is left when a process, a server or a person ends a run in the middle, on a real Prefect server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from flow_helpers import REPO, NewProject, Project, audit, finish
from loopback import free_port, wait_until
from prefect_server import PrefectServer, prefect_server

from insitu.adapters.local.blobs import FolderBlobs
from insitu.triggers import documents

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@dataclass
class Servers:
    """A server that can be killed and comes back at the same address."""

    home: Path
    environ: Mapping[str, str]
    port: int
    running: ExitStack
    server: PrefectServer | None = None

    def start(self) -> PrefectServer:
        self.server = self.running.enter_context(prefect_server(self.home, self.environ, port=self.port))
        return self.server

    def kill(self) -> None:
        assert self.server
        os.killpg(self.server.pid, signal.SIGKILL)


@pytest.fixture
def servers(tmp_path: Path, surroundings: dict[str, str]) -> Iterator[Servers]:
    """One of its own: what is done to it, and the flow runs of its site, are nobody else's."""
    with ExitStack() as running:
        yield Servers(tmp_path, surroundings, free_port(), running)


@pytest.fixture
def project(new_project: NewProject, validated: Project, request: pytest.FixtureRequest) -> Project:
    """A project whose next step is training, since its run was killed there."""
    return new_project(f"ended by {request.node.name[:40]}", like=validated)


def deployment(server: PrefectServer, **more: Any) -> str:
    """Deploy the flow, one run at a time, without a pool: the tests are the worker."""
    flow = server.ask("/flows/", {"name": "retrain"})["id"]
    here = {"prefect.deployments.steps.set_working_directory": {"directory": str(REPO)}}  # else Prefect copies it all
    wanted = {
        "name": f"flights-{uuid4().hex[:8]}", "flow_id": flow, "pull_steps": [here],
        "entrypoint": "flows/retrain.py:retrain",
        "parameters": {"model": "flights", "site": "local"}, "concurrency_limit": 1, **more,
    }  # fmt: skip
    return str(server.ask("/deployments/", wanted)["id"])


def asked_for(server: PrefectServer, deployed: str) -> str:
    """Return a new flow run of the deployment."""
    run = server.ask(f"/deployments/{deployed}/create_flow_run", {"state": {"type": "SCHEDULED"}})
    return str(run["id"])


def execute(project: Project, flow_run: str, **variables: str) -> subprocess.Popen[bytes]:
    """Be the worker that takes a flow run."""
    return subprocess.Popen(
        [sys.executable, "-m", "prefect", "flow-run", "execute", flow_run],
        cwd=project.root,
        env={**project.environ, "INSITU_PROJECT": str(project.root), **variables},
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip


def state(server: PrefectServer, flow_run: str) -> str:
    return str(server.ask(f"/flow_runs/{flow_run}")["state"]["type"])


def in_training(project: Project, name: str = "waiting") -> None:
    wait_until(lambda: list(project.var.glob(f"jobs/*/output/{name}")), 120, "the start of training")


def test_a_run_whose_process_was_killed_is_crashed_and_goes_on_in_another_one(
    project: Project, server: PrefectServer, tmp_path: Path
) -> None:
    killed, go_on = asked_for(server, deployment(server)), tmp_path / "go on"
    process = execute(project, killed, REHEARSE="wait", GO_ON=str(go_on))
    in_training(project)
    signal_all(project, signal.SIGSTOP)  # as on a machine that stands still for a while
    try:
        assert killed not in reconciled(project)
    finally:
        signal_all(project, signal.SIGKILL)
        process.wait()
    assert state(server, killed) == "RUNNING"  # this is what Prefect leaves
    closed = reconciled(project)[killed]
    assert (closed["was"], closed["now"], state(server, killed)) == ("Running", "Crashed", "CRASHED")
    go_on.touch()
    with execute(project, closed["resumed_by"], REHEARSE="wait", GO_ON=str(go_on)):
        try:  # it completes, so the slot of the killed one was free
            wait_until(lambda: state(server, closed["resumed_by"]) == "COMPLETED", 240, "the end of the run")
        finally:
            signal_all(project, signal.SIGKILL)  # Prefect's supervisor takes minutes to end
    assert [record["state"] for record in project.kept("record")] == ["Completed"]
    assert audit(project).versions == ["1"]


def test_a_run_that_is_cancelled_in_prefect_ends_its_job_and_says_so(project: Project, server: PrefectServer) -> None:
    process = project.start("retrain", "flights", "--json", REHEARSE="sleep")
    in_training(project, "sleeping")
    run = holder(project)["flow_run"]
    server.ask(f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})
    done = finish(process, 60).require(1)
    assert done.json["error"]["code"] == "E-STOP"
    assert state(server, run) == "CANCELLED"
    assert project.kept("record")[0]["state"] == "Stopped"
    wait_until(lambda: not project.job_processes(), 5, "the end of the job")


def test_a_run_that_another_machine_has_taken_over_stops_and_writes_nothing_more(
    project: Project, server: PrefectServer
) -> None:
    process = project.start("retrain", "flights", "--json", REHEARSE="sleep", INSITU_MODEL__TRIGGER__LEASE_S="2")
    in_training(project, "sleeping")
    run, before = holder(project)["flow_run"], project.kept("record")
    heir = documents.change(
        FolderBlobs(project.var / "state"),
        "leases/models/flights.json",
        lambda held: {**held, "token": "heir", "epoch": 9},
    )
    done = finish(process, 60).require(1)
    assert done.json["error"]["code"] == "E-LEASE"
    assert state(server, run) == "FAILED"
    assert holder(project) == heir
    assert project.kept("record") == before
    wait_until(lambda: not project.job_processes(), 5, "the end of its own job")


def test_a_run_outlives_its_server(servers: Servers, project: Project, tmp_path: Path) -> None:
    go_on, server = tmp_path / "go on", servers.start()
    own = Project(project.root, {**project.environ, "PREFECT_API_URL": server.url, "PREFECT_HOME": str(server.home)})
    process = own.start("retrain", "flights", "--json", REHEARSE="wait", GO_ON=str(go_on))
    in_training(own)
    run = holder(own)["flow_run"]
    servers.kill()
    servers.start()
    assert state(server, run) == "RUNNING"
    assert run not in reconciled(own)
    go_on.touch()
    assert finish(process).require(0).json["state"] == "Completed"
    assert state(server, run) == "COMPLETED"


def test_after_a_time_without_workers_one_late_run_of_a_schedule_is_left(
    project: Project, server: PrefectServer
) -> None:
    deployed, now = deployment(server, schedules=[{"schedule": {"interval": 3600}}]), datetime.now(UTC)
    window = {"start_time": (now - timedelta(hours=5)).isoformat(), "end_time": now.isoformat()}
    server.ask(f"/deployments/{deployed}/schedule", window)
    late = {run for run, closed in reconciled(project).items() if closed["now"] == "Skipped"}
    runs = server.ask(
        "/flow_runs/filter", {"deployments": {"id": {"any_": [deployed]}}, "sort": "EXPECTED_START_TIME_ASC"}
    )
    due = [run for run in runs if run["expected_start_time"] < now.isoformat()]
    assert len(due) >= 3
    assert late == {run["id"] for run in due[:-1]}
    assert [run["state_name"] for run in due] == ["Skipped"] * len(late) + [due[-1]["state_name"]]
    assert due[-1]["state_type"] == "SCHEDULED"
    server.ask(f"/deployments/{deployed}", method="DELETE")


def holder(project: Project) -> dict[str, Any]:
    """Return who works on the model, as the site's state says."""
    held: dict[str, Any] = json.loads((project.var / "state/leases/models/flights.json").read_text())
    return held


def reconciled(project: Project) -> dict[str, dict[str, Any]]:
    """Return what a look has closed, by flow run."""
    return {closed["flow_run"]: closed for closed in project.run("reconcile", "--json").require(0).json}


def signal_all(project: Project, sign: signal.Signals) -> None:
    """Send every process that works on a flow of the project a signal."""
    mark = f"INSITU_PROJECT={project.root}\0".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark in (folder / "environ").read_bytes():
                os.kill(int(folder.name), sign)
