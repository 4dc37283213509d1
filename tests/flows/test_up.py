"""`insitu up` runs a site: a run starts by itself, survives a stop, and nothing is left behind."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from flow_helpers import REPO, NewProject, Project, finish
from loopback import free_port, wait_until
from postgres import postgres
from prefect_server import PrefectServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def site(like: Project, root: Path) -> Project:
    """Return a copy of a project that has what a site needs to deploy, on ports of its own."""
    shutil.copytree(REPO / "flows", root / "flows", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPO / "prefect.yaml", root)
    mine = ("PREFECT_API_URL", "PREFECT_HOME")
    ports = {f"INSITU_SITE__SERVICES__{name}": str(free_port()) for name in ("PORT", "MLFLOW_PORT")}
    quick = {"INSITU_MODEL__GATE__FIRST_MODEL": "inconclusive"}  # no image: other tests have that
    return Project(root, {key: value for key, value in like.environ.items() if key not in mine} | ports | quick)


def services(project: Project) -> dict[str, dict[str, Any]]:
    told = project.run("up", "--status", "--json").require(0).json
    return {one["name"]: one for one in told["services"]}


def wait_for_services(project: Project, up: subprocess.Popen[str]) -> PrefectServer:
    """Wait until all services have been started; return the server."""
    note, board = project.var / "prefect-server.json", project.var / "services.json"

    def ready() -> bool:
        assert up.poll() is None, up.communicate()
        return note.exists() and board.exists() and '"watcher"' in board.read_text()

    wait_until(ready, 180, "the start of the services")
    login = (project.var / "prefect/login").read_text().strip()
    return PrefectServer(json.loads(note.read_text())["url"], project.var / "prefect", login)


def end(project: Project, up: subprocess.Popen[str], sign: signal.Signals) -> None:
    """End the services and see that nothing is left."""
    up.send_signal(sign)
    done = finish(up, 120)
    assert (done.code, done.out[-8:]) == (0, "stopped\n"), done.out + done.err + output(project)
    assert not project.processes("prefect") + project.job_processes()
    assert project.run("up", "--status").require(1).out.startswith("nothing runs")


def output(project: Project) -> str:
    return "".join(f"{path.name}\n{path.read_text()[-5000:]}" for path in (project.var / "logs").iterdir())


def flow_runs(project: Project) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(project.var / "prefect/prefect.db")) as db:
        return db.execute("SELECT id, state_name FROM flow_run WHERE deployment_id IS NOT NULL").fetchall()


def taken_slots(project: Project) -> float:
    with closing(sqlite3.connect(project.var / "prefect/prefect.db")) as db:
        return float(db.execute("SELECT sum(active_slots) FROM concurrency_limit_v2").fetchone()[0])


def test_a_run_under_way_when_the_site_is_stopped_goes_on_at_its_next_start(new_project: NewProject) -> None:
    project = new_project("a site that is stopped")
    project = site(project, project.root)
    up = project.start("up", REHEARSE="sleep")
    try:
        server = wait_for_services(project, up)
        with pytest.raises(HTTPError, match="401"):
            PrefectServer(server.url, server.home).ask("/flows/count", {})
        assert server.ask("/flows/count", {}) > 0
        assert server.login not in output(project)
        with urlopen(Request(f"{server.url}/health", headers={"Origin": "http://elsewhere.example"})) as answer:
            assert "access-control-allow-origin" not in answer.headers
        twice = project.run("up").require(2)
        assert "run already" in twice.complaint
        wait_until(lambda: list(project.var.glob("jobs/*/output/sleeping")), 180, "the start of training")
        told = services(project)
        assert told.keys() == {"server", "worker", "watcher", "mlflow"}
        assert {one["state"] for one in told.values()} == {"up"}
    finally:
        end(project, up, signal.SIGINT)
    ((run, state),) = flow_runs(project)
    assert (state, taken_slots(project)) == ("AwaitingRetry", 0)
    up = project.start("up")
    try:
        wait_for_services(project, up)
        wait_until(lambda: flow_runs(project) == [(run, "NotPromoted")], 240, "the end of the run")
        (record,) = project.kept("record")
        assert record["seconds"].keys() >= {"validate", "train", "gate"}
        assert project.run("reconcile", "--json").require(0).json == []  # it knows where the server is, and the login
    finally:
        end(project, up, signal.SIGTERM)


def test_a_site_with_postgresql_has_as_many_workers_as_it_says(new_project: NewProject) -> None:
    project = new_project("a site with a database")
    shutil.rmtree(project.var / "blobs/flights")  # nothing to do
    project = site(project, project.root)
    refused = project.run("up", INSITU_SITE__SERVICES__WORKERS="2").require(2)
    assert "SQLite takes one writer" in refused.complaint
    with postgres() as address:
        database = {"INSITU_SITE__SERVICES__DATABASE__ENV": "ADDRESS", "ADDRESS": address}
        up = project.start("up", INSITU_SITE__SERVICES__WORKERS="2", **database)
        try:
            server = wait_for_services(project, up)
            pool = "/work_pools/insitu-local/workers/filter"
            wait_until(lambda: len(server.ask(pool, {})) == 2, 120, "the start of both workers")
            assert {"worker-1", "worker-2"} < services(project).keys()
            assert not list((project.var / "prefect").glob("*.db"))
            assert address not in output(project)
        finally:
            end(project, up, signal.SIGTERM)
