"""A run that is killed at any point and started again ends as if nothing had happened."""

from __future__ import annotations

import signal
import sqlite3
from concurrent.futures import Future
from contextlib import closing

import pytest
from flow_helpers import KILLED, CrashStory, NewProject, Project, PublishedRun, audit, finish
from loopback import wait_until

STEPS = ("snapshot", "ready", "validate", "train", "gate", "experiment", "register", "containerize", "publish")


def test_every_step_has_points_before_its_work_after_it_and_after_its_record(published: PublishedRun) -> None:
    steps: dict[str, set[str]] = {}
    for point in published.points:
        step, _, where = point.partition(":")
        steps.setdefault(step.partition("-")[0], set()).add(where)
    assert tuple(steps) == STEPS
    assert all({"before", "done", "recorded"} <= points for points in steps.values())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_start_dies_where_it_was_told_to(crash_story: Future[CrashStory]) -> None:
    story = crash_story.result()
    assert len(story.starts) >= 28
    assert {point: done.code for point, done in story.starts if done.code != KILLED} == {}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_that_was_killed_everywhere_ends_with_the_same_image_and_one_version(
    crash_story: Future[CrashStory], published: PublishedRun
) -> None:
    story = crash_story.result()
    record = story.last.require(0).json
    assert record["run_key"] == published.record["run_key"]
    assert record["image"]["digest"] == published.record["image"]["digest"]
    assert audit(story.project) == audit(published.project)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_record_of_a_run_that_was_killed_everywhere_has_every_step(
    crash_story: Future[CrashStory], published: PublishedRun
) -> None:
    record = crash_story.result().last.json
    assert record["decision"] == published.record["decision"]
    assert record["training"]["metrics"] == published.record["training"]["metrics"]
    assert {*record["seconds"], "experiment"} == set(STEPS)  # recording is the last act of the gate
    sent = [[entry["what"] for entry in one["egress"]] for one in (record, published.record)]
    assert sent[0] == sent[1]  # nothing twice; the files' digests differ, for MLflow writes the time


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_job_outlives_a_killed_run(crash_story: Future[CrashStory]) -> None:
    assert [(point, left) for point, left in crash_story.result().left if left] == []


def test_the_auditor_would_notice_doubles(published: PublishedRun, new_project: NewProject) -> None:
    project = new_project("with doubles", like=published.project)
    with closing(sqlite3.connect(project.mlflow_db)) as db, db:
        for table, key, twin in (("model_versions", "version", "2"), ("runs", "run_uuid", "'another'")):
            columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
            values = ", ".join(twin if column == key else column for column in columns)
            db.execute(f"INSERT INTO {table} SELECT {values} FROM {table}")
    seen = audit(project)
    assert (seen.versions, seen.mlflow_runs) == (["1", "2"], 2)
    assert seen != audit(published.project)


@pytest.fixture
def in_training(validated: Project, new_project: NewProject, request: pytest.FixtureRequest) -> Project:
    return new_project(f"ended in training by {request.node.callspec.id}", like=validated)


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda sign: sign.name)
def test_a_run_that_is_ended_in_training_takes_its_job_along_and_can_go_on(
    in_training: Project, sign: signal.Signals
) -> None:
    process = in_training.start("retrain", "flights", REHEARSE="sleep")
    try:
        wait_until(lambda: list(in_training.var.glob("jobs/*/output/sleeping")), 60, "the start of training")
        assert len(in_training.job_processes()) >= 2
    finally:
        process.send_signal(sign)
    done = finish(process, 30)
    assert done.code != 0
    wait_until(lambda: not in_training.job_processes(), 5, "the end of the job")
    if sign == signal.SIGKILL:
        record = in_training.retrain("--json").require(0).json
        assert record["state"] == "Completed"
    else:
        assert "Traceback" not in done.err
        assert in_training.kept("record")[0]["state"] == "Stopped"
        assert in_training.kept("record")[0]["validation"]["success"]
        if sign == signal.SIGTERM:  # the other would go on alike
            in_training.retrain(INSITU_CRASH_AT="train:recorded").require(KILLED)
