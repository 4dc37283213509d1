"""What is measured comes from the model's answers on the holdout; what cannot be judged is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from insitu.adapters.local.blobs import FolderBlobs
from insitu.batch import Batch
from insitu.budget import Share
from insitu.edge.evaluate import evaluate
from insitu.errors import GateFailed, InsituError, RegistryFailed, TrainingFailed
from insitu.gate import Evidence, decide
from insitu.ports import ModelVersion
from insitu.runs import Run, open_run
from insitu.settings import GateSettings, MetricSettings
from insitu.settings.model import TargetSettings
from insitu.training import INPUTS, job_spec

LOADER = """
class Model:
    def __init__(self, answer):
        self.answer = answer

    def predict(self, rows, params=None):
        return eval(self.answer, {"x": rows.iloc[:, 0].to_numpy(dtype=float)})


def _load_pyfunc(path):
    with open(path) as file:
        return Model(file.read())
"""
MLMODEL = """
flavors:
  python_function:
    code: code
    data: answer.txt
    loader_module: judged_model
    python_version: 3.11.0
signature:
  inputs: '[{"type": "double", "name": "%s", "required": true}]'
  outputs: '[{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1]}}]'
"""
GATE: dict[str, Any] = {
    "metrics": {"roc_auc": MetricSettings(direction="higher")}, "primary": "roc_auc", "margin": 0.2
}  # fmt: skip

Judge = Callable[..., dict[str, Any]]


def save(folder: Path, answer: str, column: str = "x") -> Path:
    (folder / "code").mkdir(parents=True)
    (folder / "code/judged_model.py").write_text(LOADER)
    (folder / "answer.txt").write_text(answer)
    (folder / "MLmodel").write_text(MLMODEL % column)
    return folder


@pytest.fixture
def judge(tmp_path: Path) -> Judge:
    """Return a function that evaluates a challenger on 300 rows: x, and whether it is late."""
    store, random = FolderBlobs(tmp_path / "blobs"), np.random.default_rng(3)

    def evaluated(answer: str = "x", champion: str | None = None, **changes: Any) -> dict[str, Any]:
        job, x = tmp_path / "job", np.round(random.random(300), 3)
        late = changes.pop("labels", (random.random(300) < x) * 1.0)
        store.root.mkdir(exist_ok=True)
        pq.write_table(pa.table({"x": x, "late": late}), store.root / "a")
        save(job / "output/model", answer, changes.pop("reads", "x"))
        old = save(tmp_path / "old", champion, changes.pop("champion_reads", "x")) if champion else None
        target = {"task": "classification", "label_column": "late", "label_above": None}
        target |= {"classes": changes.pop("classes", [])}
        spec = {
            "holdout": Batch.of("c", store.list()).to_json()
            | {"store": {"kind": "folder", "root": str(store.root)}, "target": target},
            "metrics": ["roc_auc"],
            "primary": "roc_auc",
            "error": 0.025,
            "slices": {},
            "champion": old and {"version": "3", "folder": str(old)},
            "golden_rows": 3,
            "tolerance": 1e-6,
        }
        return evaluate(job, spec | changes)

    return evaluated


def decided(result: dict[str, Any], **changes: Any) -> Any:
    evidence = Evidence(
        result["rows"],
        result["metrics"]["challenger"],
        result["metrics"].get("champion"),
        result["difference"],
        Share(1, 12, 0.004),
        rarer_rows=result["rarer_rows"],
        constant=result["constant"],
        lost=result["lost"],
        score_psi=result["score_psi"],
    )
    return decide(evidence, GateSettings(**GATE | changes), result["champion"])


def test_both_models_are_measured_on_the_same_rows(judge: Judge) -> None:
    result = judge("x", champion="0.5 * x")
    assert (result["rows"], result["champion"], result["lost"]) == (300, "3", None)
    assert result["metrics"]["challenger"] == result["metrics"]["champion"]  # the same ranking
    assert result["score_psi"] > 0.25
    assert decided(result).verdict == "promote"


def test_a_forged_metrics_file_is_read_by_nobody_who_judges(judge: Judge, tmp_path: Path) -> None:
    for forged in ("output/metrics.json", "result.json", "output/model/metrics.json"):
        path = tmp_path / "job" / forged
        path.parent.mkdir(parents=True, exist_ok=True)
        if "model" not in forged:
            path.write_text(json.dumps({"roc_auc": 1.0, "metrics": {"challenger": {"roc_auc": 1.0}}}))
    assert 0.6 < judge("x")["metrics"]["challenger"]["roc_auc"] < 0.95


@pytest.mark.parametrize("answer", ["0 * x + 0.4", "0 * x"])
def test_one_answer_to_everything_is_rejected_and_said(judge: Judge, answer: str) -> None:
    decision = decided(judge(answer))
    assert (decision.verdict, decision.reasons) == ("reject", ("the challenger gives every row the same answer",))


@pytest.mark.parametrize("answer", ["x + 0.5", "x - 0.5", "2 * x - 1"])
def test_answers_that_are_no_probabilities_are_named(judge: Judge, answer: str) -> None:
    with pytest.raises(GateFailed, match="challenger's answers are no probabilities"):
        judge(answer)


@pytest.mark.parametrize("answer", ["x * float('nan')", "x / 0"])
def test_answers_that_are_no_numbers_are_left_to_the_gate_which_names_the_metric(judge: Judge, answer: str) -> None:
    with pytest.raises(InsituError, match=r"challenger's (roc_auc|answers)"), np.errstate(all="ignore"):
        decided(judge(answer))


@pytest.mark.parametrize("labels", [np.resize([1.0, 2.0], 300), np.resize([0, 1, 2], 300)])
def test_labels_that_are_no_classes_are_refused(judge: Judge, labels: Any) -> None:
    with pytest.raises(GateFailed, match="labels of the holdout are no classes"):
        judge(labels=labels)


@pytest.mark.parametrize("positives", [0, 9, 291, 300])
def test_a_holdout_without_ten_rows_of_each_class_judges_nobody(judge: Judge, positives: int) -> None:
    result = judge(labels=np.repeat([1.0, 0.0], [positives, 300 - positives]))
    assert (result["rarer_rows"], result["curves"]["challenger"]) == (0, {})
    with pytest.raises(GateFailed, match="too few rows of one class"):
        decided(result, metrics={"roc_auc": MetricSettings(direction="higher")})


MANY: dict[str, Any] = {
    "labels": np.resize([2.0, 0.0, 1.0], 300),
    "metrics": ["macro_f1"],
    "primary": "macro_f1",
    "classes": [0, 1, 2],
}


def test_of_many_classes_a_probability_of_each_is_judged(judge: Judge) -> None:
    result = judge("[[v, (1 - v) / 2, (1 - v) / 2] for v in x]", champion="[[v / 2, 1 - v, v / 2] for v in x]", **MANY)
    assert (result["rarer_rows"], result["constant"], result["score_psi"] > 0) == (100, False, True)
    found = decided(result, metrics={"macro_f1": MetricSettings(direction="higher")}, primary="macro_f1", margin=0.4)
    assert found.verdict == "promote", found.reasons


def test_one_answer_to_everything_is_rejected_of_many_classes_too(judge: Judge) -> None:
    result = judge("[[0.5, 0.25, 0.25] for v in x]", **MANY)
    found = decided(result, metrics={"macro_f1": MetricSettings(direction="higher")}, primary="macro_f1")
    assert found.reasons == ("the challenger gives every row the same answer",)


@pytest.mark.parametrize(
    "answer", ["x", "[[v, 1 - v] for v in x]", "[[v, v, v] for v in x]", "[[2, -1, 0] for v in x]"]
)
def test_answers_that_are_no_probabilities_of_each_class_are_named(judge: Judge, answer: str) -> None:
    with pytest.raises(GateFailed, match=r"not give a probability for each class|are no probabilities"):
        judge(answer, **MANY)


def test_a_model_that_reads_the_label_is_refused(judge: Judge) -> None:
    with pytest.raises(TrainingFailed, match="reads the column that it shall predict"):
        judge(reads="late")


LOST = [
    ({"champion": "1 / 0"}, "the champion cannot score the holdout: ZeroDivisionError"),
    ({"champion": "x", "champion_reads": "gone"}, "the champion wants columns that the batch lacks: gone"),
    ({"champion": "x + 1"}, "the champion's answers are no probabilities"),
    ({"champion": "x * float('nan')"}, "answers of the champion are no finite numbers"),
]


@pytest.mark.parametrize(("champion", "why"), LOST, ids=["broken", "other schema", "other answers", "no numbers"])
def test_a_champion_that_cannot_be_compared_with_fails_the_run_unless_the_gate_has_a_policy(
    judge: Judge, champion: dict[str, str], why: str, tmp_path: Path
) -> None:
    with pytest.raises(InsituError, match=why) as caught:
        judge(**champion)
    assert (caught.value.next_action or "").startswith("see gate.unusable_champion")


def test_a_champion_that_lacks_a_class_fails_the_run_and_the_policy_is_named(judge: Judge) -> None:
    with pytest.raises(GateFailed, match="champion does not give a probability for each class") as caught:
        judge("[[v, 1 - v, 0] for v in x]", champion="[[v, 1 - v] for v in x]", **MANY)
    assert (caught.value.next_action or "").startswith("see gate.unusable_champion")


@pytest.mark.parametrize(("champion", "why"), LOST, ids=["broken", "other schema", "other answers", "no numbers"])
@pytest.mark.parametrize("policy", ["inconclusive", "promote"])
def test_a_policy_for_a_lost_champion_decides_without_it(
    judge: Judge, champion: dict[str, str], why: str, policy: Any
) -> None:
    result = judge(**champion, unusable_champion=policy)
    assert (result["lost"], result["champion"], result["difference"]) == (why, "3", None)
    decision = decided(result, unusable_champion=policy)
    assert (decision.verdict, decision.champion) == (policy, "3")
    assert f"champion 3 cannot be compared with: {why}" in decision.reasons


def test_a_champion_whose_files_are_gone_fails_the_run_or_is_lost_as_the_gate_says(
    make_project: Callable[..., Path], tmp_path: Path
) -> None:
    run = open_run(make_project(1, 2), "flights", "local")
    gone = ModelVersion("flights", "3", (tmp_path / "nowhere").as_uri())
    with pytest.raises(RegistryFailed, match="files of flights version 3 are gone"):
        job_spec(run, gone, None)
    lenient = run.model.gate.model_copy(update={"unusable_champion": "inconclusive"})
    spec = job_spec(replace(run, model=run.model.model_copy(update={"gate": lenient})), gone, None)
    assert spec["champion"] == {"version": "3", "lost": "the files of flights version 3 are gone"}


LABELS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "order": ({"classes": ["a", "b", "c"]}, {"classes": ["c", "b", "a"]}),
    "one more": ({"classes": ["a", "b", "c"]}, {"classes": ["a", "b", "c", "d"]}),
    "class": ({"label_is": "a"}, {"label_is": "b"}),
    "limit": ({"label_above": 15.0}, {"label_above": 0.0}),
    "column": ({"label_column": "late"}, {"label_column": "later"}),
}


@pytest.mark.parametrize(("then", "now"), LABELS.values(), ids=LABELS)
def test_a_champion_that_was_trained_for_another_label_is_none_to_compare_with(
    make_project: Callable[..., Path], tmp_path: Path, then: dict[str, Any], now: dict[str, Any]
) -> None:
    run = open_run(make_project(1, 2), "flights", "local")

    def aimed(changes: dict[str, Any], policy: str = "fail") -> Run:
        target = TargetSettings(**{"task": "classification", "label_column": "late"} | changes)
        gate = run.model.gate.model_copy(update={"unusable_champion": policy})
        return replace(run, model=run.model.model_copy(update={"target": target, "gate": gate}))

    was, folder = aimed(then), save(tmp_path / "registered", "x")
    champion = ModelVersion("flights", "3", folder.as_uri(), {"insitu.run_key": was.key})
    as_it_is = {"version": "3", "folder": str(folder)}
    assert job_spec(aimed(now), champion, None)["champion"] == as_it_is  # of a run that left no word of its settings
    was.journal.keep(INPUTS, was.inputs)
    assert job_spec(was, champion, None)["champion"] == as_it_is
    with pytest.raises(GateFailed, match="trained to predict something else") as caught:
        job_spec(aimed(now), champion, None)
    (changed,) = now
    assert caught.value.found == f"another value of target.{changed} in model.toml"
    lost = job_spec(aimed(now, "inconclusive"), champion, None)["champion"]
    assert lost == {"version": "3", "lost": "the champion was trained to predict something else"}


def test_a_model_that_runs_code_is_not_loaded_where_model_toml_forbids_it(judge: Judge) -> None:
    with pytest.raises(TrainingFailed, match="the challenger would run code when it is loaded") as caught:
        judge("x", residency={"pickle": False})
    assert caught.value.found == "code/judged_model.py (Python code)"
