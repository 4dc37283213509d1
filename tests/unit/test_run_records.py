"""Run records: rounded, found by version, and honest about how a run ended."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insitu.adapters.local.blobs import FolderBlobs
from insitu.errors import BlobChanged, DataError, TrainingFailed, UsageError
from insitu.lineage import STEPS, Records, close, error_json, finished, significant
from insitu.runs import Run, open_run


def test_floats_at_any_depth_keep_four_digits() -> None:
    value = {"a": 0.123456, "b": [12345.678, {"c": (1e-9 / 3, 2.0)}], "n": 123456789, "t": "0.123456", "x": None}
    assert significant(value) == {
        "a": 0.1235,
        "b": [12350.0, {"c": [3.333e-10, 2.0]}],
        "n": 123456789,
        "t": "0.123456",
        "x": None,
    }


@given(st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False), st.integers(1, 12))
def test_rounding_is_close_and_does_not_move_twice(value: float, digits: int) -> None:
    rounded = significant(value, digits)
    assert math.isinf(rounded) or abs(rounded - value) <= abs(value) * 10 ** (1 - digits)
    assert significant(rounded, digits) == rounded


def test_numbers_that_are_none_stay() -> None:
    assert math.isnan(significant(math.nan))
    assert significant(-math.inf) == -math.inf
    assert significant(True) is True


def record(version: str | None, finished: str, state: str = "Completed") -> dict[str, Any]:
    return {"model_version": version and {"name": "m", "version": version}, "finished": finished, "state": state}


@pytest.fixture
def records(tmp_path: Path) -> Records:
    """Three versions, of which 10 is the newest, and runs that made none or were not published."""
    state = FolderBlobs(tmp_path)
    kept = {
        "m/a": record("10", "2013-03-01T00:00:00+00:00"),
        "m/b": record("9", "2013-02-01T00:00:00+00:00"),
        "m/c": record(None, "2013-04-01T00:00:00+00:00", "NotPromoted"),
        "m/d": record("11", "2013-05-01T00:00:00+00:00", "Failed"),
        "m-too/e": record("77", "2013-06-01T00:00:00+00:00"),
    }
    for key, value in kept.items():
        state.create(f"runs/{key}/record.json", json.dumps(value).encode())
    state.create("runs/m/z/train.json", b"{}")
    return Records(state)


def test_the_records_of_a_model_come_oldest_first_and_alone(records: Records) -> None:
    versions = [r["model_version"] and r["model_version"]["version"] for r in records.of_model("m")]
    assert versions == ["9", "10", None, "11"]
    assert records.of_model("unknown") == []


def test_latest_is_the_newest_that_was_published(records: Records) -> None:
    assert records.of_version("m", "latest")["model_version"]["version"] == "10"


@pytest.mark.parametrize("spelled", ["9", "v9"])
def test_a_version_is_found_with_and_without_its_v(records: Records, spelled: str) -> None:
    assert records.of_version("m", spelled)["finished"].startswith("2013-02")


@pytest.mark.parametrize("version", ["3", "11", "", "champion"])
def test_an_unknown_version_tells_the_known_ones(records: Records, version: str) -> None:
    with pytest.raises(UsageError, match="m has no published version") as caught:
        records.of_version("m", version)
    assert caught.value.found == "9, 10"


def test_a_model_that_was_never_published_says_so(records: Records) -> None:
    with pytest.raises(UsageError) as caught:
        records.of_version("unknown", "latest")
    assert caught.value.found == "none yet"


@pytest.fixture
def run(make_project: Callable[..., Path]) -> Run:
    return open_run(make_project(1, 2, 3), "flights", "local")


def test_a_run_that_never_began_is_not_finished(run: Run) -> None:
    assert finished(run) is None


def test_a_record_leaves_steps_that_were_not_reached_empty(run: Run) -> None:
    run.journal.once("snapshot", dict[str, str], lambda: {"started": "2013-01-01T00:00:00+00:00"})
    record = close(run, "Failed", TrainingFailed("the command failed"))
    assert record == run.journal.entry("record")
    assert (record["run_key"], record["state"], record["started"]) == (run.key, "Failed", "2013-01-01T00:00:00+00:00")
    assert [record[k] for k in ("readiness", "validation", "training", "decision", "model_version", "publication")] == [
        None
    ] * 6
    assert list(record["seconds"]) == ["snapshot"]
    assert set(record["seconds"]) <= set(STEPS)
    assert record["batch"]["fingerprint"] == run.batch.fingerprint
    assert finished(run) is None


def test_bad_data_has_an_end_state_of_its_own(run: Run) -> None:
    assert close(run, "Failed", DataError("a gap"))["state"] == "ValidationFailed"


def test_a_rejected_challenger_is_an_end(run: Run) -> None:
    close(run, "NotPromoted")
    assert (finished(run) or {})["state"] == "NotPromoted"


def test_a_published_run_is_an_end_at_its_own_destination_only(run: Run) -> None:
    close(run, "Completed")
    assert finished(run) is None
    run.journal.keep(run.step_name("publish"), {"seconds": 1, "value": {"reference": "r", "digest": "d"}})
    assert (finished(run) or {})["state"] == "Completed"


def test_an_error_of_ours_keeps_its_words_and_a_foreign_one_only_its_class() -> None:
    assert error_json(None) is None
    ours = error_json(BlobChanged("blob a was overwritten"))
    assert ours is not None
    assert (ours["type"], ours["what"]) == ("BlobChanged", "blob a was overwritten")
    foreign = json.dumps(error_json(ValueError("could not convert string to float: 'Ada Lovelace'")))
    assert "ValueError" in foreign
    assert "Ada" not in foreign
