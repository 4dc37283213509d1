"""What `insitu init` writes is retrained unchanged, from data as people have it."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from flow_helpers import REPO, NewProject, Project
from sklearn.datasets import load_iris

from insitu import open_run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two months of CSV from Windows: CR LF, a mark at the beginning, names and values beyond ASCII, gaps."""
    folder = tmp_path_factory.mktemp("data") / "Läden"
    folder.mkdir()
    for month in (1, 2):
        rng = np.random.default_rng(month)
        size, street = rng.normal(170, 10, 400).round(1), rng.choice(["Süd", "Nord", "Öst"], 400)
        sure = (size - 170) / 5 + (street == "Süd") + rng.normal(size=400)
        # Whole numbers, with gaps in the first month only: numbers there, integers here.
        age = pd.array(rng.integers(18, 90, 400), dtype="Int64")
        age[rng.random(400) < 0.1 * (month == 1)] = pd.NA
        frame = pd.DataFrame(
            {"Größe": size, "Alter": age, "Straße": street, "Ergebnis": np.where(sure > 0, "ja", "nein")}
        )
        text = "\ufeff" + frame.to_csv(index=False, sep=";")
        (folder / f"Umsätze {month}.csv").write_bytes(text.replace("\n", "\r\n").encode())
    return folder


@pytest.fixture(scope="module")
def project(new_project: NewProject) -> Project:
    return new_project("models that were begun")


def test_a_model_that_was_begun_is_published_and_seen_in_a_notebook(project: Project, shops: Path) -> None:
    project.run("init", "laeden", "--data", str(shops), "--target", "Ergebnis", "--positive", "ja").require(0)
    record = project.run("retrain", "laeden", "--json").require(0).json
    assert (record["state"], record["image"]["runtime"]) == ("Completed", "onnx"), record["training"]["onnx"]
    answer = project.run("score", "laeden", "--json").require(0).json
    assert {"Größe", "Alter", "Straße"} <= set(answer["request"]["dataframe_split"]["columns"])

    run = open_run("laeden", project=project.root)
    assert run == open_run("laeden", run.run_key[:8], project=project.root)
    assert run.metrics.loc["roc_auc", "challenger"] == record["training"]["metrics"]["roc_auc"] > 0.8
    assert len(run.report) == record["validation"]["expectations"]
    assert run.report["success"].all()
    assert list(run.egress["what"]) == [one["what"] for one in record["egress"]]
    assert list(run.history["verdict"]) == ["promote"]
    assert "laeden at local" in run._repr_html_()


def test_a_number_and_one_of_three_classes_are_answered_without_the_training_library(
    project: Project, shops: Path, tmp_path: Path
) -> None:
    load_iris(as_frame=True).frame.to_csv(tmp_path / "iris.csv", index=False)
    project.run("init", "size", "--data", str(shops), "--target", "Größe").require(0)
    project.run("init", "iris", "--data", str(tmp_path / "iris.csv"), "--task", "classification").require(0)
    for model, metric in (("size", "r2"), ("iris", "macro_f1")):
        record = project.run("retrain", model, "--json").require(0).json
        assert (record["state"], record["image"]["runtime"]) == ("Completed", "onnx"), record["training"]["onnx"]
        assert 0.3 < record["training"]["metrics"][metric] <= 1
    headings, row, *_ = project.run("score", "iris").require(0).out.splitlines()
    assert headings.split()[-3:] == ["0", "1", "2"], "each number is under its class"
    assert sum(map(float, row.split()[-3:])) == pytest.approx(1, abs=0.01)


TORCH = REPO / "var" / "tools" / "torch"


@pytest.mark.skipif(
    find_spec("torch") is None and not TORCH.is_dir(),
    reason="PyTorch is not installed: tests/system-parts.sh does that where pip has a build for CPUs at hand (700 MB)",
)
def test_a_network_that_was_begun_is_trained_and_holds_no_record(project: Project, shops: Path) -> None:
    place = {} if find_spec("torch") else {"PYTHONPATH": str(TORCH)}
    project.run("init", "network", "--data", str(shops), "--target", "Straße", "--template", "pytorch").require(0)
    if place:
        lacking = project.run("retrain", "network").require(1)
        assert "torch" in lacking.complaint
        assert "pip install" in lacking.complaint
    # The image would be one more minute: no model reaches this.
    variables = place | {"INSITU_MODEL__GATE__METRICS__MACRO_F1__FLOOR": "0.9999"}
    record = replace(project, door=None).run("retrain", "network", "--json", **variables).require(3).json
    assert record["decision"]["verdict"] == "reject"
    assert record["residency"]["verdict"] == "clear"
    assert 0 < record["training"]["metrics"]["macro_f1"] < 1


@pytest.mark.skipif(find_spec("lightgbm") is None, reason="LightGBM is not installed")
def test_boosted_trees_that_were_begun_are_trained_and_hold_no_record(project: Project, shops: Path) -> None:
    begun = project.run(
        "init", "boosted", "--data", str(shops), "--target", "Größe", "--template", "lightgbm", "--json"
    ).require(0)
    assert begun.json["missing"] == []
    # The image would be one more minute: no model reaches this.
    done = project.run("retrain", "boosted", "--json", INSITU_MODEL__GATE__METRICS__R2__FLOOR="0.9999").require(3)
    record = json.loads(done.out)
    assert record["decision"]["verdict"] == "reject"
    assert record["residency"]["verdict"] in ("clear", "warned")
    assert record["residency"]["fitted"] > 0
