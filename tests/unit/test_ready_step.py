"""The step that looks whether the compute is ready: it wakes it, and looks twice where things come and go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from insitu.adapters.attempts import Attempts
from insitu.adapters.local.blobs import FolderBlobs
from insitu.batch import Batch
from insitu.errors import NotReady
from insitu.ports import Check, JobStatus, Need
from insitu.runs import Run
from insitu.settings import AzureMlTraining, SiteSettings, load_model
from insitu.wiring import Site
from tasks.ready import check_readiness, look_again

REPO = Path(__file__).parents[2]
HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE1hZGUgdXAgZm9yIHRlc3RzIG9ubHksIG5vdCBhIGtl"
GUID = "00000000-0000-4000-8000-000000000000"
PRINCIPAL = {"tenant": "t", "client_id": GUID, "secret": {"env": "NOT_READ_HERE"}}


@dataclass
class Machine:
    """A `Compute` that answers as it is told; the last answer stays."""

    answers: list[bool]
    name: str = "vm"
    log: list[str] = field(default_factory=list)
    containers: tuple[str, ...] = ()

    def wake(self) -> None:
        self.log.append("wake")

    def readiness(self, need: Need) -> Sequence[Check]:
        self.log.append("look")
        self.containers = need.containers
        ok = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [Check(self.name, ok, "found", "wanted", "do something")]


@dataclass
class Jobs:
    """`TrainingJobs`, as far as this step asks them."""

    state: Any = "running"

    def status(self, job_id: str) -> JobStatus:
        return JobStatus(self.state)


_numbers = count()


def new_run(folder: Path, machine: Machine, *, local: bool = False, jobs: Jobs | None = None) -> Run:
    vm = {
        "kind": "stack-hub-vm", "vm": "v",
        "ssh": {"host": "h", "user": "u", "host_key": HOST_KEY, "password": {"env": "NOT_READ_HERE"}},
    }  # fmt: skip
    about: dict[str, Any] = {
        "name": f"s{next(_numbers)}",  # part of the run key, by which the step remembers when it looked
        "data": {"kind": "folder", "root": folder / "blobs"},
        "state": {"kind": "folder", "root": folder / "state"},
        "models": {"kind": "mlflow", "uri": "sqlite:////nowhere.db"},
        "hub": {"region": "r", "fqdn": "f.example", "subscription": GUID, "resource_group": "g", "identity": PRINCIPAL},
        "compute": {"kind": "process"} if local else vm,
        "images": {"kind": "folder", "root": folder / "images"},
    }
    settings = SiteSettings.model_validate(about)
    if not local:
        training = AzureMlTraining(kind="attached-vm", target="t")
        settings = settings.model_copy(update={"training": training})
    nothing: Any = None
    site = Site(REPO, settings, FolderBlobs(folder / "state"), machine, jobs or Jobs(), nothing, nothing)  # type: ignore[arg-type]
    return Run(site, load_model(REPO, "flights", {}), Batch.of("flights", []))


def step(run: Run) -> list[Check]:
    return check_readiness.fn(run, pause_s=0.0)


def test_the_machine_is_woken_before_it_is_looked_at(tmp_path: Path) -> None:
    machine = Machine([True])
    checks = step(new_run(tmp_path, machine))
    assert machine.log == ["wake", "look"]
    assert checks[0] == Check("vm", True, "found", "wanted", "do something")
    assert machine.containers == ("flights",)


def test_what_comes_and_goes_must_be_there_twice_in_a_row(tmp_path: Path) -> None:
    machine = Machine([False, True, True])
    assert step(new_run(tmp_path, machine))[0].ok
    assert machine.log == ["wake", "look", "look", "look"]
    with pytest.raises(NotReady, match="vm"):
        step(new_run(tmp_path, Machine([False, True, False])))


def test_this_machine_is_looked_at_once(tmp_path: Path) -> None:
    machine = Machine([False])
    with pytest.raises(NotReady):
        step(new_run(tmp_path, machine, local=True))
    assert machine.log == ["wake", "look"]


def test_a_look_that_is_old_is_repeated_before_the_job_is_submitted(tmp_path: Path) -> None:
    machine = Machine([True])
    run = new_run(tmp_path, machine)
    step(run)
    look_again(run)
    assert machine.log.count("look") == 1
    look_again(run, fresh_s=-1.0, pause_s=0.0)
    assert machine.log.count("look") == 2
    machine.answers = [False]
    with pytest.raises(NotReady):
        look_again(run, fresh_s=-1.0, pause_s=0.0)


@pytest.mark.parametrize("state", ["running", "failed"])
def test_a_job_of_this_run_that_is_under_way_is_not_counted_against_it(tmp_path: Path, state: str) -> None:
    machine = Machine([False], name="memory")
    run = new_run(tmp_path, machine, jobs=Jobs(state))
    Attempts(run.site.state, run.key).open(None, 1)
    if state != "running":
        with pytest.raises(NotReady, match="memory"):
            step(run)
        with pytest.raises(NotReady, match="memory"):
            look_again(run, fresh_s=-1.0, pause_s=0.0)
        return
    assert "memory" not in {check.name for check in step(run)}
    looks = machine.log.count("look")
    look_again(run, fresh_s=-1.0, pause_s=0.0)
    assert machine.log.count("look") == looks
