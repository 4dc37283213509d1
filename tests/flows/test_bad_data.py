"""Data that cannot be used: the run says which blob or column, keeps what it has, and goes on when mended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from flow_helpers import INSITU, KILLED, NewProject, Project, PublishedRun, audit, finish
from loopback import wait_until
from prefect_server import PrefectServer

PLANTED = ("QZPLANTEDTAIL", "QZPLANTEDCARRIER", "QZPLANTEDDEST", "98765432")


def leaks(told: str, project: Project, server: PrefectServer) -> list[str]:
    """Return the planted values that got out of the site's state."""
    time.sleep(1)  # Prefect's server writes in the background
    seen = told + "".join(p.read_bytes().decode("latin-1") for p in project.var.glob("mlflow/*.db*"))
    return [value for value in PLANTED if value in seen or server.holds(value)]


def test_a_missing_month_is_named_before_anything_starts(published: PublishedRun, new_project: NewProject) -> None:
    project = new_project("with a gap", like=published.project)
    kept = project.blob(2).read_bytes()
    project.blob(2).unlink()
    done = project.retrain().require(4)
    assert "no blob for month 2" in done.complaint
    assert "Prefect" not in done.err
    project.blob(2).write_bytes(kept)
    assert project.retrain("--json").require(0).json["model_version"]["version"] == "1"
    assert audit(project).versions == ["1"]


def test_a_container_without_blobs_is_named(new_project: NewProject) -> None:
    project = new_project("without data")
    for month in (1, 2, 3):
        project.blob(month).unlink()
    assert "there are no blobs month=*/flights.parquet in container flights" in project.retrain().require(4).complaint


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["truncated", "random bytes", "empty"])
def test_an_unreadable_blob_is_named_and_the_run_goes_on_when_it_is_mended(
    published: PublishedRun, new_project: NewProject, fault: str
) -> None:
    project = new_project(f"with a blob that is {fault}", like=published.project)
    kept = project.blob(2).read_bytes()
    bad = {"truncated": kept[:-1000], "random bytes": os.urandom(20_000), "empty": b""}[fault]
    project.blob(2).write_bytes(bad)
    done = project.retrain("--json").require(4)
    assert "month=02/flights.parquet" in done.complaint
    assert done.json["state"] == "ValidationFailed"
    assert done.json["training"] is None
    assert audit(project).versions == ["1"]
    if fault == "truncated":  # the others would go on alike
        project.blob(2).write_bytes(kept)
        assert project.retrain("--json").require(0).json["model_version"]["version"] == "1"
        assert audit(project).versions == ["1"]


def test_a_blob_that_was_overwritten_before_validation_is_named(
    published: PublishedRun, new_project: NewProject, extract: Path, tmp_path: Path
) -> None:
    project = new_project("overwritten before validation")
    batch = tmp_path / "batch.json"
    batch.write_text(json.dumps(published.record["batch"]["manifest"]))
    project.blob(2).write_bytes((extract / "month=04" / "flights.parquet").read_bytes())
    done = project.retrain("--json", "--batch", str(batch)).require(1)
    assert "E-BLOB blob month=02/flights.parquet was overwritten" in done.complaint
    assert (done.json["state"], done.json["validation"], done.json["training"]) == ("Failed", None, None)
    assert done.json["error"]["code"] == "E-BLOB"


def overwrite_after_each_snapshot(project: Project, process: subprocess.Popen[str], times: int) -> None:
    """Write another version of February as soon as a snapshot is pinned; validation takes seconds to start."""
    import pyarrow.parquet as pq

    february, beside = project.blob(2), project.root / "february"
    for number in range(1, times + 1):
        known = partial(project.kept, "snapshot")
        wait_until(lambda: len(known()) == number or process.poll() is not None, 120, f"snapshot {number}")  # noqa: B023
        pq.write_table(pq.read_table(february).slice(1), beside)
        os.replace(beside, february)


@pytest.mark.slow
def test_a_blob_that_is_overwritten_in_validation_is_pinned_anew_and_the_run_says_so(new_project: NewProject) -> None:
    project = new_project("overwritten in validation")
    process = project.start("retrain", "flights", INSITU_CRASH_AT="train:before")
    overwrite_after_each_snapshot(project, process, 1)
    done = finish(process).require(KILLED)
    assert "blob month=02/flights.parquet was overwritten" in done.err
    assert "a new snapshot takes its place" in done.err
    superseded, newest = sorted(project.kept("record"), key=lambda record: record["state"])
    assert (superseded["state"], newest["state"]) == ("Superseded", "Unfinished")
    assert (superseded["error"]["code"], superseded["validation"]) == ("E-BLOB", None)
    pinned = {blob["name"]: blob["etag"] for blob in newest["batch"]["manifest"]["blobs"]}
    content = sha256(project.blob(2).read_bytes()).hexdigest()
    assert pinned["month=02/flights.parquet"] == f'"{content}"'
    assert len(project.kept("validate")) == 1


@pytest.mark.slow
def test_blobs_that_are_overwritten_again_and_again_end_the_run_after_four_snapshots(new_project: NewProject) -> None:
    project = new_project("overwritten again and again")
    process = project.start("retrain", "flights")
    overwrite_after_each_snapshot(project, process, 4)
    done = finish(process).require(1)
    assert "E-BLOB blob month=02/flights.parquet was overwritten" in done.complaint
    assert "in each of 4 snapshots" in done.complaint
    states = sorted(record["state"] for record in project.kept("record"))
    assert states == ["Failed", "Superseded", "Superseded", "Superseded"]
    assert project.kept("validate") == []


def validation_processes(project: Project) -> list[int]:
    return project.processes("validation")


@pytest.mark.slow
def test_a_validation_that_is_killed_is_an_error_of_the_data_and_goes_on_later(new_project: NewProject) -> None:
    project = new_project("with a crash in validation")
    process = project.start("retrain", "flights", "--json")
    wait_until(lambda: validation_processes(project), 120, "the start of validation")
    for pid in validation_processes(project):
        os.kill(pid, signal.SIGKILL)
    done = finish(process)
    assert "the validation process was killed by SIGKILL" in done.complaint
    assert done.json["training"] is None
    project.retrain(INSITU_CRASH_AT="validate:recorded").require(KILLED)
    assert project.kept("validate")[0]["value"]["success"]
    assert not list((project.var / "validation").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM], ids=lambda sign: sign.name)
def test_a_run_that_is_ended_in_validation_takes_its_process_along(
    new_project: NewProject, sign: signal.Signals
) -> None:
    project = new_project(f"ended in validation by {sign.name}")
    process = project.start("retrain", "flights")
    try:
        wait_until(lambda: validation_processes(project), 120, "the start of validation")
    finally:
        process.send_signal(sign)
    done = finish(process, 60)
    wait_until(lambda: not validation_processes(project), 5, "the end of the process")
    assert done.code == (-sign if sign == signal.SIGKILL else 128 + sign)
    assert project.kept("validate") == []


@pytest.mark.slow
def test_the_flow_process_does_not_import_what_validation_needs(new_project: NewProject) -> None:
    project = new_project("with a light flow")
    command = [sys.executable, "-X", "importtime", str(INSITU), "retrain", "flights"]
    environ = {**project.environ, "INSITU_CRASH_AT": "validate:recorded"}
    done = subprocess.run(command, cwd=project.root, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == KILLED
    imported = {line.rsplit("|", 1)[-1].strip().partition(".")[0] for line in done.stderr.splitlines() if "|" in line}
    assert "prefect" in imported
    assert imported.isdisjoint(("great_expectations", "polars", "sklearn"))
    assert project.kept("validate")[0]["value"]["success"]


@pytest.mark.slow
@pytest.mark.parametrize("month", [1, 3], ids=["a training blob", "the holdout"])
def test_a_blob_that_was_overwritten_after_validation_is_named_and_nothing_is_registered(
    validated: Project, new_project: NewProject, manifest: Callable[[Project], Path], extract: Path, month: int
) -> None:
    project = new_project(f"overwritten after validation {month}", like=validated)
    kept, batch = project.blob(month).read_bytes(), manifest(project)
    project.blob(month).write_bytes((extract / "month=04" / "flights.parquet").read_bytes())
    done = project.retrain("--json", "--batch", str(batch)).require(1)
    assert f"month=0{month}/flights.parquet" in done.complaint
    assert "overwritten" in done.complaint
    assert done.json["validation"]["success"]
    assert done.json["training"] is None
    assert audit(project).versions == []
    if month == 1:  # the holdout would go on alike
        project.blob(month).write_bytes(kept)
        project.retrain("--batch", str(batch), INSITU_CRASH_AT="train:recorded").require(KILLED)


def change_suite(project: Project, change: Callable[[dict[str, Any]], None]) -> None:
    path = project.root / "data_checks" / "flights.json"
    suite = json.loads(path.read_text())
    change(suite)
    path.write_text(json.dumps(suite))


@pytest.mark.slow
def test_a_suite_with_an_unknown_column_names_it(published: PublishedRun, new_project: NewProject) -> None:
    project = new_project("with an unknown column", like=published.project)
    wish = {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "landing_gear"}, "meta": {}}
    change_suite(project, lambda suite: suite["expectations"].append(wish))
    done = project.retrain("--json").require(4)
    assert "landing_gear" in done.complaint
    assert done.json["validation"]["failed"] == 1
    assert done.json["training"] is None


@pytest.mark.slow
def test_a_suite_with_an_unknown_expectation_names_it(published: PublishedRun, new_project: NewProject) -> None:
    project = new_project("with an unknown expectation", like=published.project)
    wish = {"type": "expect_column_values_to_not_be_nul", "kwargs": {"column": "carrier"}, "meta": {}}
    change_suite(project, lambda suite: suite["expectations"].append(wish))
    done = project.retrain().require(2)
    assert "did you mean expect_column_values_to_not_be_null?" in done.complaint


def plant(blob: Path) -> None:
    """Overwrite some cells of *blob* with values that must not get out."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = pq.read_table(blob)
    for column, value in zip(("tailnum", "carrier", "dest", "distance"), (*PLANTED[:3], int(PLANTED[3])), strict=True):
        cells = rows[column].to_pylist()
        cells[:200] = [value] * 200
        rows = rows.set_column(
            rows.schema.get_field_index(column), column, pa.array(cells, rows.schema.field(column).type)
        )
    pq.write_table(rows, blob)


@pytest.mark.slow
def test_a_failing_suite_stops_the_run_before_training_and_shows_no_value(
    published: PublishedRun, new_project: NewProject, server: PrefectServer
) -> None:
    project = new_project("that fails its suite", like=published.project)
    kept = project.blob(2).read_bytes()
    plant(project.blob(2))
    done = project.retrain("--json").require(4)
    record = done.json
    assert record["state"] == "ValidationFailed"
    assert record["validation"]["failed"] >= 4
    assert record["training"] is None
    for part in ("expect_column_values_to_be_in_set(carrier)", "200", "tailnum", "distance"):
        assert part in done.complaint
    assert "\\n" not in done.err, "line ends that nobody wants to read"
    where = {(one["expectation"], *one["columns"]): one["blobs"] for one in record["validation"]["failures"]}
    here = [{"name": "month=02/flights.parquet", "rows": 200}]
    assert where["expect_column_values_to_be_in_set", "carrier"] == here
    assert "200 of 4,500 rows, in month=02/flights.parquet (200)" in done.complaint
    said = project.run("why", "month=02/flights.parquet").require(0).out
    assert "unexpected rows in this blob: " in said
    assert "expect_column_values_to_be_in_set(carrier) 200" in said
    assert "(carrier)" not in project.run("why", "month=01/flights.parquet").require(0).out
    history = project.run("history", "flights").require(0).out
    assert f"{record['run_key'][:12]}  E-DATA {record['error']['what']}" in history
    shown = project.run("show", "flights", record["run_key"][:12]).require(0).out
    assert all(record["error"][part] in shown for part in ("found", "next_action"))
    assert leaks(done.out + done.err, project, server) == []
    state = server.ask(f"/flow_runs/{done.flow_run}")["state"]
    assert state["type"] == "FAILED"
    asked = {"artifacts": {"flow_run_id": {"any_": [done.flow_run]}}}
    (table,) = (one for one in server.ask("/artifacts/filter", asked) if one["key"] == "validation-flights")
    assert "month=02/flights.parquet (200)" in json.dumps(table["data"])

    again = project.retrain().require(4)
    assert "expect_column_values_to_be_in_set(carrier)" in again.complaint
    project.blob(2).write_bytes(kept)
    assert project.retrain("--json").require(0).json["model_version"]["version"] == "1"


@pytest.mark.slow
def test_a_holdout_with_one_class_is_refused_with_the_name_of_the_metric(
    published: PublishedRun, new_project: NewProject
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    project = new_project("with one class", like=published.project)
    rows = pq.read_table(project.blob(3))
    late = pa.array([60] * len(rows), rows.schema.field("arr_delay").type)
    pq.write_table(rows.set_column(rows.schema.get_field_index("arr_delay"), "arr_delay", late), project.blob(3))
    done = project.retrain("--json").require(1)
    assert "E-GATE" in done.complaint
    assert "roc_auc" in done.complaint
    assert done.json["decision"] is None
    assert audit(project).versions == ["1"]
