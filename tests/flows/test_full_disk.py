"""A disk that fills up: the run says so, and goes on when there is space again."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from flow_helpers import KILLED, NewProject, Project, PublishedRun, audit

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")]
MODEST = {"INSITU_SITE__COMPUTE__RESERVE_DISK_MB": "0", "INSITU_MODEL__NEEDS__DISK_MB": "1"}


@pytest.fixture(scope="module")
def project(new_project: NewProject) -> Iterator[Project]:
    """A project whose var/ is a disk of 64 MB: enough for the data and too small for an image."""
    project = new_project("on a small disk")
    blobs = {month: project.blob(month).read_bytes() for month in (1, 2, 3)}
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", project.var], check=True)
    try:
        for month, data in blobs.items():
            project.blob(month).parent.mkdir(parents=True)
            project.blob(month).write_bytes(data)
        yield project
    finally:
        subprocess.run(["umount", project.var], check=True)


def fill(project: Project) -> Path:
    """Take all the space that is left."""
    ballast = project.var / ".ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    return ballast


def test_a_full_disk_is_named_at_every_step_and_the_run_goes_on(project: Project, published: PublishedRun) -> None:
    done = project.retrain().require(1)
    assert "E-READY the compute is not ready: disk" in done.complaint

    done = project.retrain(REHEARSE="fill the disk", **MODEST).require(1)
    assert "E-DISK" in done.complaint
    assert project.job_processes() == []
    for leftover in project.var.glob("jobs/*/output/ballast"):
        leftover.unlink()

    project.retrain(INSITU_CRASH_AT="register:before", **MODEST).require(KILLED)
    ballast = fill(project)
    done = project.retrain(**MODEST).require(1)
    ballast.unlink()
    assert "E-DISK" in done.complaint

    done = project.retrain(**MODEST).require(1)
    assert "E-DISK" in done.complaint
    assert audit(project).versions == ["1"]
    assert audit(project).champion == []
    assert audit(project).tags == []

    subprocess.run(["mount", "-o", "remount,size=2g", project.var], check=True)
    record = project.retrain("--json", **MODEST).require(0).json
    assert audit(project).versions == ["1"]
    assert audit(project).mlflow_runs == 1
    assert record["publication"]["digest"] == record["image"]["digest"]
    assert record["training"]["metrics"] == published.record["training"]["metrics"]
