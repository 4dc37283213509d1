"""Runs at the same time: of one model they exclude each other, of two clones they do not meet."""

from __future__ import annotations

from pathlib import Path

import pytest
from flow_helpers import NewProject, Project, audit, finish
from loopback import wait_until

pytestmark = pytest.mark.slow


def test_a_second_run_of_a_model_says_that_one_is_under_way_and_leaves_it_unharmed(
    new_project: NewProject, validated: Project, tmp_path: Path
) -> None:
    project, go_on = new_project("with two runs", like=validated), tmp_path / "go on"
    first = project.start("retrain", "flights", "--json", REHEARSE="wait", GO_ON=str(go_on))
    try:
        wait_until(lambda: list(project.var.glob("jobs/*/output/waiting")), 60, "the start of training")
        second = project.retrain().require(1)
    finally:
        go_on.touch()
    assert second.complaint.startswith("E-BUSY another run of flights is under way")
    done = finish(first).require(0)
    assert done.json["state"] == "Completed"
    assert audit(project).versions == ["1"]


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
