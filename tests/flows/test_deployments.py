"""The deployments of prefect.yaml on a real Prefect server: put there, kept in step, started in all three ways."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
from browser import chromium
from flow_helpers import REPO, Done, Project, finish, put_month
from loopback import wait_until
from prefect_server import PrefectServer, prefect_server

SHOTS = REPO / "var" / "ui"
"""Where screenshots are kept, for people."""


@dataclass(frozen=True)
class Deployed:
    """The repository's own project, its schedules switched on, on a server of its own.

    Attributes:
        planned, first, second: What `insitu deploy flows` told: with --plan, then without, then again.
        after_plan: What the server had after the plan.
        states: What the server had after the first and after the second time.
    """

    project: Project
    server: PrefectServer
    planned: Done
    after_plan: list[Any]
    first: Done
    second: Done
    states: tuple[Any, Any]

    def deployment(self, name: str = "retrain/flights") -> Any:
        return self.server.ask(f"/deployments/name/{name}")

    def runs(self, name: str = "retrain/flights") -> list[dict[str, Any]]:
        """Return the flow runs of a deployment, the first one first."""
        wanted = {"deployments": {"id": {"any_": [self.deployment(name)["id"]]}}, "sort": "EXPECTED_START_TIME_ASC"}
        found: list[dict[str, Any]] = self.server.ask("/flow_runs/filter", wanted)
        return found


@pytest.fixture(scope="module")
def deployed(
    tmp_path_factory: pytest.TempPathFactory, extract: Path, surroundings: dict[str, str]
) -> Iterator[Deployed]:
    with prefect_server(tmp_path_factory.mktemp("prefect with UI"), surroundings, ui=True) as server:
        root = tmp_path_factory.mktemp("deployed") / "a project"
        for folder in ("flows", "models", "deployments", "data_checks"):
            shutil.copytree(REPO / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
        (root / "prefect.yaml").write_text(
            (REPO / "prefect.yaml").read_text().replace("UTC\n        active: false", "UTC\n        active: true")
        )
        project = Project(root, surroundings | {"PREFECT_API_URL": server.url, "PREFECT_HOME": str(server.home)})
        rehearse(project, extract)
        planned = deploy(project, "--plan")
        after_plan = everything(server)
        first = deploy(project)
        state = everything(server)
        second = deploy(project)
        yield Deployed(project, server, planned, after_plan, first, second, (state, everything(server)))


def rehearse(project: Project, extract: Path) -> None:
    """Have data in place, and a training that does what the variable REHEARSE says."""
    model = project.root / "models" / "flights"
    shutil.copy(Path(__file__).parent / "rehearse.py", model)
    settings = (model / "model.toml").read_text()
    (model / "model.toml").write_text(settings.replace('"train.py"', '"rehearse.py"'))
    for month in (1, 2, 3):
        put_month(project, extract, month)


def deploy(project: Project, *options: str) -> Done:
    return project.run("deploy", "flows", "--json", *options).require(0)


def everything(server: PrefectServer) -> list[Any]:
    """Return what `insitu deploy flows` brings about, without what the server itself notes there."""
    deployments = server.ask("/deployments/filter", {})
    for one in deployments:
        for key in ("status", "last_polled", "updated"):
            one.pop(key)
    return [server.ask("/work_pools/filter", {}), deployments, server.ask("/automations/filter", {})]


def to_do(done: Done) -> dict[str, str]:
    return {part["name"]: part["to_do"] for part in done.json if part["to_do"]}


def test_a_plan_changes_nothing(deployed: Deployed) -> None:
    assert to_do(deployed.planned) == {
        "work pool insitu-local": "create it, of type process",
        "deployment retrain/flights": "create it",
        "deployment rollback/back": "create it",
        "deployment watch/new-data": "create it",
    }
    assert deployed.after_plan == [[], [], []]


def test_the_second_time_there_is_nothing_to_do(deployed: Deployed) -> None:
    assert to_do(deployed.first) == to_do(deployed.planned)
    assert to_do(deployed.second) == {}
    assert deployed.states[1] == deployed.states[0]


def test_each_schedule_really_gets_runs_with_its_own_parameters(deployed: Deployed) -> None:
    def scheduled() -> dict[str, Any]:
        runs = [run for run in deployed.runs() if run["auto_scheduled"]]
        return {run["expected_start_time"][11:16]: run["parameters"] for run in runs}

    wait_until(lambda: len(scheduled()) == 2, 120, "runs of both schedules")
    assert scheduled() == {
        "03:00": {"model": "flights", "site": "local"},
        "05:00": {"model": "flights", "site": "local", "params": {"C": 0.1}},
    }


def test_an_event_of_a_producer_starts_a_look_at_the_data(deployed: Deployed) -> None:
    event = ("event", "emit", "insitu.data.ready", "--resource-id", "insitu.site.local")
    finish(prefect(deployed.project, *event)).require(0)
    wait_until(lambda: deployed.runs("watch/new-data"), 60, "a run of the deployment watch/new-data")
    (run,) = deployed.runs("watch/new-data")
    assert run["parameters"] == {"site": "local"}


def test_wrong_parameters_are_refused_before_there_is_a_run(deployed: Deployed) -> None:
    path = f"/deployments/{deployed.deployment()['id']}/create_flow_run"
    before = {run["id"] for run in deployed.runs() if not run["auto_scheduled"]}
    for wrong in ({"model": "flight"}, {"site": "moon"}, {"params": {"c": 1}}, {"params": {"C": 0}}, {"batch": "x"}):
        with pytest.raises(HTTPError, match="409"):
            deployed.server.ask(path, {"parameters": wrong})
    assert {run["id"] for run in deployed.runs() if not run["auto_scheduled"]} == before


def test_a_person_fills_in_the_form_and_a_run_begins(deployed: Deployed, tmp_path: Path) -> None:
    before = {run["id"] for run in deployed.runs() if not run["auto_scheduled"]}
    ui = deployed.server.url.removesuffix("/api")
    with chromium(tmp_path) as page:
        page.open(f"{ui}/deployments/deployment/{deployed.deployment()['id']}/run")
        page.wait_for("Validate parameters")
        page.screenshot(SHOTS / "form.png")
        for words in (
            "arrival more than 15 minutes late",
            "this machine: folders, processes and SQLite",
            "Leave it empty to train on what lies at the site now",
            "lower is a simpler model. At least 0.01, at most 1000. When empty: 1.0.",
        ):
            assert page.shows(words), words
        page.fill("C", "5000")
        page.click("button[type=submit]", "Submit")
        page.wait_for("5000 is greater than the maximum of 1000")
        page.screenshot(SHOTS / "form-refused.png")
        page.fill("C", "0.5")
        page.click("button[type=submit]", "Submit")
        page.wait_for("scheduled to start now")
        page.screenshot(SHOTS / "form-sent.png")
        outside = {url for url in page.asked if url.startswith("http") and not url.startswith(ui)}
    (run,) = [run for run in deployed.runs() if not run["auto_scheduled"] and run["id"] not in before]
    assert run["parameters"] == {"model": "flights", "site": "local", "batch": "", "params": {"C": 0.5}}
    assert outside == set()


def prefect(project: Project, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    """Start one of Prefect's own commands in the project."""
    return subprocess.Popen(
        [sys.executable, "-m", "prefect", *arguments],
        cwd=project.root,
        env={**project.environ, **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_the_cancel_button_ends_a_run_and_its_job(deployed: Deployed, tmp_path: Path) -> None:
    project, ui = deployed.project, deployed.server.url.removesuffix("/api")
    path = f"/deployments/{deployed.deployment()['id']}/create_flow_run"
    run = deployed.server.ask(path, {"state": {"type": "SCHEDULED"}})["id"]
    process = prefect(project, "flow-run", "execute", run, REHEARSE="sleep")  # as a worker does it
    with chromium(tmp_path) as page:
        wait_until(lambda: list(project.var.glob("jobs/*/output/sleeping")), 120, "the start of training")
        page.open(f"{ui}/runs/flow-run/{run}")
        page.click("button:enabled", "Cancel")
        page.click("button:enabled", "Confirm")
        finish(process, 90)
        page.wait_for("Cancelled")
        page.screenshot(SHOTS / "cancelled.png")
    assert deployed.server.ask(f"/flow_runs/{run}")["state"]["type"] == "CANCELLED"
    assert [record["state"] for record in project.kept("record")] == ["Stopped"]
    wait_until(lambda: not project.job_processes(), 5, "the end of the job")


def test_prefect_itself_deploys_the_same_without_a_question(deployed: Deployed) -> None:
    finish(prefect(deployed.project, "--no-prompt", "deploy", "--all")).require(0)
    # But for the mark by which a later `insitu deploy flows` knows an automation of the file.
    assert to_do(deploy(deployed.project)) == {"deployment watch/new-data": "change automation insitu-new-data"}


def test_what_the_file_no_longer_has_is_gone_and_what_it_has_anew_is_there(deployed: Deployed) -> None:
    file = deployed.project.root / "prefect.yaml"
    text = file.read_text()
    nightly = text[text.index("      - slug: nightly") : text.index("      - slug: weekly")]
    other = text.replace(nightly, "").replace("limit: 1\n", "limit: 2\n", 1).replace("insitu-new-data", "insitu-look")
    file.write_text(other.replace('"0 5 * * 0"', '"0 6 * * 0"'))
    try:
        told = to_do(deploy(deployed.project))
        after = everything(deployed.server)
    finally:
        file.write_text(text)
    assert told == {
        "deployment retrain/flights": "change concurrency limit from 1 to 2; "
        "remove schedule nightly; change schedule weekly-simpler",
        "deployment watch/new-data": "add automation insitu-look; remove automation insitu-new-data",
    }
    assert {one["name"]: [schedule["slug"] for schedule in one["schedules"]] for one in after[1]} == {
        "back": [],
        "flights": ["weekly-simpler"],
        "new-data": ["every-five-minutes"],
    }
    assert [automation["name"] for automation in after[2]] == ["insitu-look"]


def test_the_doctor_names_a_mistake_of_the_file(deployed: Deployed) -> None:
    file = deployed.project.root / "prefect.yaml"
    text = file.read_text()
    file.write_text(text.replace("expect:", "expects:"))
    try:
        told = deployed.project.run("doctor", "--json").require(1).json
    finally:
        file.write_text(text)
    (check,) = [check for check in told["checks"] if not check["ok"]]
    assert check["name"] == "deployments"
    assert "did you mean deployments[2].triggers[0].expect?" in check["found"]
