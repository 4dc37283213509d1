"""What a registry is told of a run, whatever the gate says, and what it keeps of one that was rejected."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from insitu.files import file_digests
from insitu.gate import Decision
from insitu.ports import ModelVersion
from insitu.release import record_run
from insitu.runs import Run, open_run
from insitu.training import Trained

MODEL_BYTES = b"flavors: {}\n"


@dataclass
class Notes:
    """A registry that writes down what it is told, and jobs that left a model."""

    folder: Path
    archives_rejected: bool = False
    place: str = "azureml://somewhere"
    told: list[tuple[str, Any]] = field(default_factory=list)

    def record(self, model: str, run_key: str, job_id: str, tags: Mapping[str, str]) -> None:
        self.told.append(("record", (model, job_id, dict(tags))))

    def register(self, model: str, run_key: str, folder: Path, tags: Mapping[str, str]) -> ModelVersion:
        self.told.append(("register", (folder / "MLmodel").read_bytes()))
        return ModelVersion(model, "7", "somewhere", tags)

    def archive(self, model: str, version: str) -> None:
        self.told.append(("archive", version))

    def output(self, job_id: str) -> Path:
        return self.folder


@pytest.fixture
def recorded(make_project: Callable[..., Path], tmp_path: Path) -> Callable[..., tuple[bool, Notes, Run]]:
    def record(verdict: Any, archives_rejected: bool = False) -> tuple[bool, Notes, Run]:
        notes = Notes(tmp_path / "job", archives_rejected)
        (notes.folder / "output/model").mkdir(parents=True)
        (notes.folder / "output/model/MLmodel").write_bytes(MODEL_BYTES)
        opened = open_run(make_project(1, 2, 3), "flights", "local")
        run = replace(opened, site=replace(opened.site, models=notes, jobs=notes))
        values = dict.fromkeys(Trained.__dataclass_fields__)
        metrics = {"challenger": {"roc_auc": 0.7123456789}}
        trained = Trained(
            **values | {"job": "job-1", "metrics": metrics, "files": file_digests(notes.folder / "output/model")}
        )
        return record_run(run, trained, Decision(verdict, ("a reason",))), notes, run

    return record


@pytest.mark.parametrize("verdict", ["promote", "reject", "inconclusive"])
def test_every_run_is_recorded_with_where_it_came_from(recorded: Callable[..., Any], verdict: str) -> None:
    archived, notes, run = recorded(verdict)
    ((what, (model, job, tags)),) = notes.told
    assert (what, model, job, archived) == ("record", "flights", "job-1", False)
    assert tags["insitu.verdict"] == verdict
    assert tags["insitu.batch"] == run.batch.fingerprint
    assert tags["metric.roc_auc"] == "0.7123"
    assert [entry["what"] for entry in run.journal.entry("egress")] == ["run tags"]


def test_a_rejected_model_is_registered_and_archived_where_that_is_policy(recorded: Callable[..., Any]) -> None:
    archived, notes, run = recorded("reject", archives_rejected=True)
    assert archived
    assert notes.told[1:] == [("register", MODEL_BYTES), ("archive", "7")]
    assert "model file MLmodel" in [entry["what"] for entry in run.journal.entry("egress")]


def test_a_promoted_model_is_left_to_the_step_that_registers(recorded: Callable[..., Any]) -> None:
    archived, notes, _ = recorded("promote", archives_rejected=True)
    assert not archived
    assert [what for what, _ in notes.told] == ["record"]
