"""People decide over a model: in a terminal, in the Prefect UI, too late, and without any lasting server."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from browser import chromium
from flow_helpers import KILLED, NewProject, Project, audit, finish
from loopback import wait_until
from prefect_server import PrefectServer, prefect_server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
ALWAYS = {"INSITU_MODEL__GATE__APPROVAL": "always"}
ANN = ("--name", "Ann", "--reason", "checked")


@pytest.fixture(scope="module")
def trained(validated: Project, new_project: NewProject) -> Project:
    """A project whose run was killed when the gate was next: copies of it start there."""
    project = new_project("trained", like=validated)
    project.retrain(INSITU_CRASH_AT="gate:before").require(KILLED)
    return project


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, surroundings: dict[str, str]) -> Iterator[PrefectServer]:
    """A server with its UI."""
    home = tmp_path_factory.mktemp("desk")
    with prefect_server(home, surroundings, ui=True) as running:
        yield running


def at(server: PrefectServer | None, project: Project) -> Project:
    """Return the project as one whose Prefect server is *server*; a temporary one without it."""
    own = {name: text for name, text in project.environ.items() if not name.startswith("PREFECT_")}
    known = {"PREFECT_API_URL": server.url, "PREFECT_HOME": str(server.home)} if server else {}
    return Project(project.root, own | known | ALWAYS)


def paused(server: PrefectServer, process: subprocess.Popen[str]) -> str:
    """Return the flow run that waits for a person."""
    found: list[Mapping[str, Any]] = []

    def look() -> bool:
        assert process.poll() is None, process.communicate()
        states = {"state": {"type": {"any_": ["PAUSED"]}}}
        found[:] = server.ask("/flow_runs/filter", {"flow_runs": states})
        return bool(found)

    wait_until(look, 120, "the pause of the run")
    return str(found[0]["id"])


def label(project: Project, digest: str) -> str:
    """Return what the image itself says of the decision."""
    blobs = project.var / "images" / "flights" / "blobs" / "sha256"
    manifest = json.loads((blobs / digest.removeprefix("sha256:")).read_text())
    config = json.loads((blobs / manifest["config"]["digest"].removeprefix("sha256:")).read_text())
    return str(config["config"]["Labels"]["io.insitu.decision"])


def version_tags(project: Project) -> dict[str, str]:
    with closing(sqlite3.connect(project.mlflow_db)) as db:
        return dict(db.execute("SELECT key, value FROM model_version_tags WHERE key LIKE 'insitu.%'").fetchall())


def test_without_a_lasting_server_a_run_awaits_approval_and_is_published_after_it(
    trained: Project, new_project: NewProject, server: PrefectServer
) -> None:
    project = at(None, new_project("awaits approval", like=trained))
    waits = project.retrain().require(3)
    (record,) = project.kept("record")
    assert (record["state"], record["decision"]["outcome"]) == ("NotPromoted", "AwaitingApproval")
    assert f"approve flights {record['run_key'][:12]}" in waits.out
    assert "AwaitingApproval" in waits.err
    assert audit(project).tags == []

    told = project.run("approve", "flights", *ANN, "--json").require(0).json
    assert (told["outcome"], told["who"], told["next"]) == ("Approved", "Ann", "insitu retrain flights")
    second = project.run("approve", "flights", "--reject", "--name", "Bob", "--reason", "no").require(1)
    assert "approval by Ann" in second.complaint
    assert "Approved" in project.run("history", "flights").require(0).out

    done = at(server, project).retrain("--json").require(0).json  # any start of the same run goes on
    decided = done["decision"]
    assert (done["state"], decided["outcome"], decided["approval"]["who"]) == ("Completed", "Approved", "Ann")
    assert audit(project).champion == ["1"]
    again = project.run("approve", "flights", *ANN, "--json").require(0).json
    assert again["next"] == "nothing: it is published as version 1"
    assert version_tags(project) | {"insitu.decision": decided["approval"]["digest"], "insitu.approver": "Ann"} == (
        version_tags(project)
    )
    assert label(project, done["image"]["digest"]).startswith("sha256:")
    assert "approval by Ann" in project.run("show", "flights").require(0).out


def test_what_nobody_answers_expires_and_is_asked_again_and_a_person_answers_in_the_browser(
    trained: Project, new_project: NewProject, desk: PrefectServer, tmp_path: Path
) -> None:
    project = at(desk, new_project("decided in the browser", like=trained))
    done = project.retrain("--json", INSITU_MODEL__GATE__APPROVAL_TIMEOUT_S="1").require(3)
    assert (done.json["state"], done.json["decision"]["outcome"]) == ("NotPromoted", "Expired")
    state = desk.ask(f"/flow_runs/{done.flow_run}")["state"]
    assert (state["type"], state["name"]) == ("COMPLETED", "NotPromoted")
    assert state["message"].startswith("Expired: ")
    assert "too late" in project.run("approve", "flights", *ANN).require(1).complaint

    process = project.start("retrain", "flights", INSITU_CRASH_AT="register:before")
    try:
        flow_run = paused(desk, process)
        with chromium(tmp_path) as page:
            page.open(f"{desk.url.removesuffix('/api')}/runs/flow-run/{flow_run}")
            page.click("button", "Resume")
            page.wait_for("The gate says: promote")
            page.choose("Decision", "approve")
            page.fill("Name", "Cem")
            page.fill("Reason", "looks right")
            page.click("button", "Submit")
            assert finish(process, 120).code == KILLED  # it went on
    finally:
        process.kill()
    (gate,) = project.kept("gate")
    approval = gate["value"]["approval"]
    assert (gate["value"]["outcome"], approval["who"], approval["reason"]) == ("Approved", "Cem", "looks right")


def test_a_run_that_waits_goes_on_when_somebody_decides_in_a_terminal(
    trained: Project, new_project: NewProject, desk: PrefectServer
) -> None:
    project = at(desk, new_project("decided in a terminal", like=trained))
    process = project.start("retrain", "flights", "--json")
    flow_run = paused(desk, process)
    told = project.run("approve", "flights", "--reject", *ANN).require(0)
    assert "rejection by Ann: Rejected" in told.out
    done = finish(process, 120).require(3)
    assert (done.json["decision"]["outcome"], done.json["decision"]["approval"]["who"]) == ("Rejected", "Ann")
    assert desk.ask(f"/flow_runs/{flow_run}")["state"]["name"] == "NotPromoted"
    assert audit(project).tags == []
    assert "nothing new" in project.retrain(PREFECT_API_URL="http://127.0.0.1:9/api").require(3).out
