"""Training scripts that misbehave: each gets a clear error, and a good one goes on where they stopped."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
from flow_helpers import KILLED, NewProject, Project, audit
from prefect_server import PrefectServer

from insitu.acts import Act
from insitu.residency.waivers import Scope
from insitu.settings import load_site
from insitu.wiring import open_site

pytestmark = pytest.mark.slow
PLANTED = "QZPLANTEDINATRACEBACK"


@pytest.fixture(scope="module")
def project(new_project: NewProject, validated: Project) -> Project:
    """One project for all bad scripts: they leave nothing that a good one stumbles over."""
    return new_project("with bad scripts", like=validated)


@pytest.mark.parametrize(
    ("act", "wanted"),
    [
        ("raise", ["exited with code 1", "ValueError", "log.txt"]),
        ("exit 3", ["exited with code 3", "log.txt"]),
        ("leave no model", ["left no model", "INSITU_OUTPUT"]),
        ("leave no signature", ["no signature", "infer_signature"]),
    ],
)
def test_a_script_without_a_usable_model_is_told_what_was_wrong(
    project: Project, server: PrefectServer, act: str, wanted: list[str]
) -> None:
    done = project.retrain("--json", REHEARSE=act, PLANTED=PLANTED).require(1)
    assert done.complaint.startswith("E-TRAIN")
    for part in wanted:
        assert part in done.complaint
    record = done.json
    assert (record["state"], record["error"]["code"], record["training"]) == ("Failed", "E-TRAIN", None)
    assert record["validation"]["success"]
    assert "Traceback (most recent call last):" not in done.err
    time.sleep(1)  # Prefect's server writes in the background
    assert PLANTED not in done.out + done.err
    assert not server.holds(PLANTED)
    assert audit(project).versions == []
    assert project.job_processes() == []


WAIVING = {"INSITU_SITE__GATE__ALLOW_WAIVERS": "true"}
ALL_OF_IT = Scope("records", file="model/model.skops", columns=("hour", "distance"))


def put_ended_waiver(project: Project) -> None:
    """Put a waiver on record that has ended an hour ago."""
    now = datetime.now(UTC)
    ends, act = now - timedelta(hours=1), Act("waiver", "Ada", "it was public")
    open_site(project.root, load_site(project.root, "local", WAIVING)).waivers("flights").give(
        ALL_OF_IT, act, ends, ends - timedelta(hours=1)
    )


def test_a_model_that_keeps_its_rows_does_not_leave_the_edge_job_nor_by_a_waiver_that_has_ended(
    project: Project,
) -> None:
    put_ended_waiver(project)
    done = project.retrain("--json", REHEARSE="keep the rows", **WAIVING).require(1)
    assert "waiver 1 by Ada" in done.err
    assert "ended, it does not count" in done.err
    assert done.complaint.startswith("E-LEAK")
    assert "rows of hour, distance in KNeighborsClassifier" in done.complaint
    assert "a model that keeps no rows" in done.complaint
    assert (done.json["state"], done.json["residency"], done.json["egress"]) == ("Failed", None, [])
    assert audit(project).versions == []
    assert not list(project.var.glob("jobs/*/fits"))


def test_a_model_that_keeps_its_rows_leaves_by_a_waiver_and_everybody_is_told(
    new_project: NewProject, validated: Project
) -> None:
    project = new_project("with a waiver", like=validated)
    act = ("--name", "Ada", "--reason", "it is public", "--until", "2099-12-31")
    named = ("--file", str(ALL_OF_IT.file), *(part for name in ALL_OF_IT.columns for part in ("--column", name)))
    project.run("waive", "flights", *named, *act).require(1)  # the site does not allow it
    project.run("waive", "flights", *named, *act, **WAIVING).require(0)
    # Near neighbours by distance say little of delays, and it is the waiver that is looked at.
    weak = {"INSITU_MODEL__GATE__METRICS__ROC_AUC__FLOOR": "0.0"}
    done = project.retrain("--json", REHEARSE="keep the rows", **WAIVING, **weak).require(0)
    record = done.json
    assert record["residency"]["verdict"] == "waived"
    assert {one["waiver"]["who"] for one in record["residency"]["waived"]} == {"Ada"}
    assert "waived by Ada until 2099-12-31" in done.err
    told = project.run("verify", record["publication"]["reference"], "--quick").require(0)
    assert "NOT proved that the model holds no record" in told.out
    assert "waived by Ada until 2099-12-31" in told.out
    audited = project.run("audit", "flights", "--json", **WAIVING).require(0).json
    (scanned,) = (one for one in audited["findings"] if "hold records" in one["question"])
    assert scanned["status"] == "open"
    assert any("waived by Ada" in one["found"] for one in audited["findings"])
    assert any("waived" in entry["clearance"] for entry in audited["left"])


def test_a_script_that_does_not_end_is_stopped_at_its_deadline(project: Project) -> None:
    done = project.retrain(REHEARSE="sleep", INSITU_MODEL__TRAIN__TIMEOUT_S="4").require(1)
    assert "did not end in time" in done.complaint
    assert "train.timeout_s" in done.complaint
    assert project.job_processes() == []


def test_a_good_script_goes_on_where_the_bad_ones_stopped(project: Project) -> None:
    done = project.retrain("--json").require(0)
    assert done.json["model_version"]["version"] == "1"
    assert "29 of 29 expectations" in done.err  # told again from the journal
    assert "validating-flights" not in done.err
    assert audit(project).versions == ["1"]


def test_a_script_that_prints_a_gigabyte_finishes_and_its_log_is_capped(
    new_project: NewProject, validated: Project
) -> None:
    project = new_project("with a loud script", like=validated)
    done = project.retrain(REHEARSE="print a gigabyte", INSITU_CRASH_AT="train:recorded").require(KILLED)
    (log,) = project.var.glob("jobs/*/log.txt")
    assert 9_000_000 < log.stat().st_size < 10_200_000
    assert b"bytes dropped" in log.read_bytes()
    assert len(done.err) < 200_000
    assert "the rest is in the log on site" in done.err


def test_a_model_that_answers_nan_is_refused_with_the_name_of_the_metric(
    new_project: NewProject, validated: Project
) -> None:
    project = new_project("with a model that answers NaN", like=validated)
    done = project.retrain("--json", REHEARSE="predict NaN").require(1)
    assert "E-GATE" in done.complaint
    assert "roc_auc" in done.complaint
    assert done.json["validation"]["success"]
    assert done.json["decision"] is None
    assert audit(project).versions == []


def test_a_model_of_another_flavour_is_published_and_answers(new_project: NewProject, validated: Project) -> None:
    project = new_project("with a forest", like=validated)
    record = project.retrain("--json", REHEARSE="be a forest").require(0).json
    assert record["image"]["runtime"] == "pyfunc"
    assert record["training"]["onnx"] is None
    assert record["image"]["because"] == "the model came without model.onnx"
    assert record["publication"]["digest"] == record["image"]["digest"]
    told = project.run("score", "flights", "--json").require(0).json
    assert told["request"]["dataframe_split"]["columns"] == ["hour", "distance"]
    assert len(told["answer"]["predictions"]) == 20
