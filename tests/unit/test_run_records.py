"""Run records: rounded, found by version, and honest about how a run ended."""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insitu.adapters.local.blobs import FolderBlobs
from insitu.errors import BlobChanged, DataError, StateDamaged, TrainingFailed, UsageError
from insitu.lineage import STEPS, Records, close, error_json, finished, significant
from insitu.ports import Descriptor
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
    if rounded is None:  # the largest floats are rounded beyond what a float can be
        assert abs(value) > sys.float_info.max * (1 - 10 ** (1 - digits))
    else:
        assert abs(rounded - value) <= abs(value) * 10 ** (1 - digits)
    assert significant(rounded, digits) == rounded


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, sys.float_info.max, -sys.float_info.max])
def test_what_json_has_no_number_for_becomes_none(value: float) -> None:
    assert significant(value) is None
    assert significant({"a": [value, 1.0]}) == {"a": [None, 1.0]}


def test_true_and_false_are_no_numbers() -> None:
    assert significant(True) is True


def record(
    version: str | None, finished: str, state: str = "Completed", *, run_key: str = "", champion: bool = True
) -> dict[str, Any]:
    published = {"reference": "r", "digest": "d", "champion": champion} if state == "Completed" else None
    return {
        "run_key": run_key,
        "model_version": version and {"name": "m", "version": version},
        "publication": published,
        "finished": finished,
        "state": state,
    }


@pytest.fixture
def records(tmp_path: Path) -> Records:
    """Versions of which 10 is the newest champion, and runs that made none or were not published."""
    state = FolderBlobs(tmp_path)
    kept = {
        "m/a": record("10", "2013-03-01T00:00:00+00:00"),
        "m/b": record("9", "2013-02-01T00:00:00+00:00"),
        "m/l": record("8", "2013-04-15T00:00:00+00:00", champion=False),
        "m/c": record(None, "2013-04-01T00:00:00+00:00", "NotPromoted", run_key="0123456789abcdef"),
        "m/d": record("11", "2013-05-01T00:00:00+00:00", "Failed"),
        "m-too/e": record("77", "2013-06-01T00:00:00+00:00"),
    }
    for key, value in kept.items():
        state.create(f"runs/{key}/record.json", json.dumps(value).encode())
    state.create("runs/m/z/train.json", b"{}")
    return Records(state)


def test_the_records_of_a_model_come_oldest_first_and_alone(records: Records) -> None:
    versions = [r["model_version"] and r["model_version"]["version"] for r in records.of_model("m")]
    assert versions == ["9", "10", None, "8", "11"]
    assert records.of_model("unknown") == []


def test_latest_is_the_newest_that_became_champion(records: Records) -> None:
    assert records.of_version("m", "latest")["model_version"]["version"] == "10"


@pytest.mark.parametrize("spelled", ["9", "v9"])
def test_a_version_is_found_with_and_without_its_v(records: Records, spelled: str) -> None:
    assert records.of_version("m", spelled)["finished"].startswith("2013-02")


@pytest.mark.parametrize("prefix", ["01234567", "0123456789ab", "0123456789abcdef"])
def test_any_run_is_found_by_the_beginning_of_its_key(records: Records, prefix: str) -> None:
    assert records.of_version("m", prefix)["state"] == "NotPromoted"


@pytest.mark.parametrize("version", ["3", "11", "", "champion", "0123456", "0123456789abcdee"])
def test_an_unknown_version_tells_the_known_ones(records: Records, version: str) -> None:
    with pytest.raises(UsageError, match="m has no published version") as caught:
        records.of_version("m", version)
    assert caught.value.found == "versions 9, 10, 8"


def test_a_damaged_record_is_named(records: Records) -> None:
    records.state.create("runs/m/x/record.json", b"{")
    with pytest.raises(StateDamaged, match=r"runs/m/x/record\.json"):
        records.of_model("m")


def test_a_model_that_was_never_published_says_so(records: Records) -> None:
    with pytest.raises(UsageError) as caught:
        records.of_version("unknown", "latest")
    assert caught.value.found == "none yet"


MANIFEST = b'{"schemaVersion": 2, "layers": []}'
IMAGE = Descriptor(
    "application/vnd.oci.image.manifest.v1+json", f"sha256:{sha256(MANIFEST).hexdigest()}", len(MANIFEST)
)


def keep_step(run: Run, step: str, value: dict[str, Any]) -> None:
    run.journal.keep(step, {"seconds": 1, "value": value})


def put_image(run: Run) -> None:
    """Leave what releasing version 1 leaves: a tagged image in the layout, version and digest in the journal."""
    run.site.layout(run.model.name).tag("1", IMAGE, MANIFEST)
    keep_step(run, "register", {"name": run.model.name, "version": "1"})
    keep_step(run, "containerize", {"digest": IMAGE.digest})


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
    put_image(run)
    close(run, "Completed")
    assert finished(run) is None
    keep_step(run, run.step_name("publish"), {"reference": "r", "digest": IMAGE.digest, "champion": True})
    assert (finished(run) or {})["state"] == "Completed"


def test_a_published_run_whose_image_was_cleared_away_is_not_finished(run: Run) -> None:
    put_image(run)
    keep_step(run, run.step_name("publish"), {"reference": "r", "digest": IMAGE.digest, "champion": True})
    close(run, "Completed")
    assert finished(run) is not None
    shutil.rmtree(run.site.settings.images.root)
    assert finished(run) is None


def test_what_was_pruned_is_not_published_any_more_when_its_run_begins_anew(run: Run) -> None:
    published = {"reference": "r", "digest": IMAGE.digest, "champion": True}
    run.journal.keep("record", {"state": "Failed", "publication": published})
    assert close(run, "Unfinished")["publication"] == published
    run.journal.keep("record", {"state": "Failed", "publication": published, "pruned": "2013-01-01T00:00:00Z"})
    assert close(run, "Unfinished")["publication"] is None


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(143)])
def test_a_run_that_was_stopped_says_so(run: Run, error: BaseException) -> None:
    record = close(run, "Failed", error)
    assert record["state"] == "Stopped"
    assert record["error"]["what"] == "the run was stopped"


def test_an_error_of_ours_keeps_its_words_and_a_foreign_one_only_its_class() -> None:
    assert error_json(None) is None
    ours = error_json(BlobChanged("blob a was overwritten"))
    assert ours is not None
    assert (ours["type"], ours["what"]) == ("BlobChanged", "blob a was overwritten")
    foreign = json.dumps(error_json(ValueError("could not convert string to float: 'Ada Lovelace'")))
    assert "ValueError" in foreign
    assert "Ada" not in foreign
