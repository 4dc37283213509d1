"""Runs at the same time: of one model they exclude each other, of two clones they do not meet."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from flow_helpers import NewProject, Project, audit, finish
from loopback import wait_until
from prefect_server import PrefectServer

pytestmark = pytest.mark.slow


def test_a_second_start_is_skipped_and_a_run_of_another_batch_kept_out_and_both_leave_the_first_unharmed(
    new_project: NewProject, validated: Project, tmp_path: Path, server: PrefectServer
) -> None:
    project, go_on = new_project("with two runs", like=validated), tmp_path / "go on"
    first = project.start("retrain", "flights", "--json", REHEARSE="wait", GO_ON=str(go_on))
    try:
        wait_until(lambda: list(project.var.glob("jobs/*/output/waiting")), 60, "the start of training")
        same = project.retrain("--json").require(0)
        other = project.retrain("--batch", str(a_smaller_batch(project, tmp_path))).require(1)
    finally:
        go_on.touch()
    assert other.complaint.startswith("E-BUSY another run of flights is under way")
    assert f"process {first.pid}" in other.complaint
    done = finish(first).require(0)
    assert done.json["state"] == "Completed"
    assert (same.json["state"], same.json["run_key"]) == ("Skipped", done.json["run_key"])
    assert (same.json["winner"]["pid"], same.json["winner"]["flow_run"]) == (first.pid, done.flow_run)
    state = server.ask(f"/flow_runs/{same.flow_run}")["state"]
    assert (state["type"], state["name"]) == ("COMPLETED", "Skipped")
    assert done.flow_run in state["message"]
    assert audit(project).versions == ["1"]


def a_smaller_batch(project: Project, folder: Path) -> Path:
    """Write the manifest of a batch that lacks the first month of what lies there."""
    batch = dict(project.kept("snapshot")[-1]["value"]["batch"])
    manifest = {"container": batch["container"], "blobs": batch["blobs"][1:]}
    (folder / "smaller.json").write_text(json.dumps(manifest))
    return folder / "smaller.json"


def test_two_clones_with_servers_of_their_own_run_at_the_same_time(
    new_project: NewProject, validated: Project, surroundings: dict[str, str]
) -> None:
    clones = [Project(new_project(f"clone {n}", like=validated).root, surroundings) for n in (1, 2)]
    seeds = ("0", "1")  # the digest does not depend on the order of sets
    starts = zip(clones, seeds, strict=True)
    runs = [clone.start("retrain", "flights", "--json", PYTHONHASHSEED=seed) for clone, seed in starts]
    records = [finish(run).require(0).json for run in runs]
    assert records[0]["image"]["digest"] == records[1]["image"]["digest"]
    for clone, record in zip(clones, records, strict=True):
        assert str(clone.root) in record["publication"]["reference"]
        assert audit(clone).versions == ["1"]
        assert (clone.var / "prefect").is_dir()
