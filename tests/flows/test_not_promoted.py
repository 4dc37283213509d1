"""A gate that says no: nothing is registered or published, the run is recorded, and everybody is told so."""

from __future__ import annotations

import pytest
from flow_helpers import NOBODY_HOME, NewProject, Project, audit
from prefect_server import PrefectServer

IMPOSSIBLE = {"INSITU_MODEL__GATE__METRICS__ROC_AUC__FLOOR": "0.99"}


@pytest.fixture(scope="module")
def project(new_project: NewProject) -> Project:
    return new_project("not promoted")


@pytest.mark.slow
def test_a_model_below_the_floor_is_not_promoted(project: Project, server: PrefectServer) -> None:
    done = project.retrain("--json", **IMPOSSIBLE).require(3)
    record = done.json
    assert (record["state"], record["decision"]["verdict"]) == ("NotPromoted", "reject")
    assert (record["decision"]["outcome"], record["decision"]["approval"]) == ("Rejected", None)
    assert "roc_auc" in record["decision"]["reasons"][0]
    assert "0.99" in record["decision"]["reasons"][0]
    assert [record[part] for part in ("model_version", "image", "publication")] == [None, None, None]
    assert [entry["what"] for entry in record["egress"]] == ["run tags"]
    state = server.ask(f"/flow_runs/{done.flow_run}")["state"]
    assert (state["type"], state["name"]) == ("COMPLETED", "NotPromoted")
    assert state["message"].startswith("Rejected: roc_auc is ")

    seen = audit(project)
    assert (seen.versions, seen.mlflow_runs, seen.tags) == ([], 1, [])

    again = project.retrain(PREFECT_API_URL=NOBODY_HOME, **IMPOSSIBLE).require(3)
    assert "nothing new" in again.out
    assert "REJECT" in again.out
    assert "next: insitu retrain" not in again.out
    assert "no published version" in project.run("score", "flights").require(2).complaint


@pytest.mark.slow
def test_a_model_whose_image_is_over_a_limit_is_not_published_and_says_so(project: Project) -> None:
    tags, limits = audit(project).tags, {"INSITU_MODEL__LIMITS__MAX_SIZE_MB": "1"}
    record = project.retrain("--json", **limits).require(3).json
    assert (record["state"], record["decision"]["verdict"], record["publication"]) == ("NotPromoted", "reject", None)
    [reason] = record["decision"]["reasons"]
    assert "size" in reason
    assert "limits.max_size_mb" in reason
    assert record["image"]["latency_ms"] > 0
    assert record["image"]["peak_memory_bytes"] > 10_000_000
    assert record["image"]["smoke"]["memory_limit_bytes"] == 4_000_000_000
    assert (audit(project).tags, audit(project).champion) == (tags, [])
    assert "nothing new" in project.retrain(PREFECT_API_URL=NOBODY_HOME, **limits).require(3).out
