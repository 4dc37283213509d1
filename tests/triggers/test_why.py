"""Whoever asks why a blob did what it did, or nothing, gets an answer that is true."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from trigger_helpers import Place, Script, go

from insitu.commands.why import told_lines
from insitu.errors import UsageError
from insitu.triggers.story import find_batch, story, takers


def ask(place: Place, name: str) -> dict[str, Any]:
    return story(place.book, place.data, name)


def says(place: Place, name: str) -> str:
    return str(ask(place, name)["says"])


def test_before_anybody_has_looked(tmp_path: Path) -> None:
    place = Place.in_folder(tmp_path)
    place.put("day=1/a.parquet")
    assert says(place, "day=1/a.parquet") == "nobody has looked yet: start `insitu watch`"


def test_a_blob_that_was_in_runs_by_hand_alone(tmp_path: Path) -> None:
    place = Place.in_folder(tmp_path)
    place.put("day=1/a.parquet", "day=1/b.parquet")
    blob = place.data.stat("day=1/a.parquet").to_json()
    failed = {
        "run_key": "09cd0e255b9b" + "0" * 52, "state": "ValidationFailed", "finished": "2026-12-01T02:19:47+00:00",
        "model_version": None, "decision": None,
        "error": {
            "code": "E-DATA",
            "what": "the batch fails 2 of 31 expectations",
            "next_action": "mend the blobs",
        },
    }  # fmt: skip
    of_before = {**failed, "run_key": "1" * 64, "batch": {"manifest": {"blobs": [{**blob, "etag": "another"}]}}}
    unmet = {"expectation": "set", "columns": ["carrier"], "blobs": [{"name": blob["name"], "rows": 1200}]}
    with_blob = {**failed, "batch": {"manifest": {"blobs": [blob]}}, "validation": {"failures": [unmet]}}
    records = [of_before, with_blob]

    told = story(place.book, place.data, "day=1/a.parquet", records)
    assert [run["run_key"] for run in told["runs"]] == [failed["run_key"]]
    assert told["says"] == (
        "no watcher has taken it up; the last run with it, 09cd0e255b9b, ended ValidationFailed: "
        "E-DATA the batch fails 2 of 31 expectations; unexpected rows in this blob: set(carrier) 1,200"
    )
    assert "nobody has looked yet" in story(place.book, place.data, "day=1/b.parquet", records)["says"]
    lines = list(told_lines(told))
    assert [line.split()[0] for line in lines[1:4]] == ["run", "because", "next"], "the outcome comes first"
    assert lines[3].endswith("mend the blobs")


def test_a_blob_that_came_after_the_last_look(tmp_path: Path) -> None:
    place = Place.in_folder(tmp_path)
    go(place.watcher(Script()))
    place.put("day=1/a.parquet")
    assert "nobody has looked since it came" in says(place, "day=1/a.parquet")


def test_a_blob_whose_prefix_is_incomplete(tmp_path: Path) -> None:
    place = Place.in_folder(tmp_path)
    place.put("day=1/a.parquet")
    go(place.watcher(Script()))
    told = ask(place, "day=1/a.parquet")
    assert "waits for day=1/_SUCCESS" in told["says"]
    assert told["waits"]["for"] == "day=1/_SUCCESS"
    assert told["rule"]["rule"] == "marker"


def test_a_blob_in_quarantine_because_its_prefix_never_became_complete(tmp_path: Path) -> None:
    place = Place.in_folder(tmp_path, incomplete_after_s=1e-6)
    place.put("day=1/a.parquet")
    go(place.watcher(Script()), looks=3)
    assert "in quarantine, because it is incomplete: it waits for day=1/_SUCCESS" in says(place, "day=1/a.parquet")


def test_the_story_of_a_blob_that_was_trained_on(tmp_path: Path) -> None:
    place, script = Place.in_folder(tmp_path), Script()
    place.put("day=1/a.parquet", "day=1/_SUCCESS")
    go(place.watcher(script))
    told = ask(place, "day=1/a.parquet")
    (batch,) = told["batches"]
    (work,) = batch["works"]
    assert "whose run ended Completed" in told["says"]
    assert (batch["batch"], batch["state"], batch["etag"]) == (script.jobs[0].batches[0], "done", told["now"]["etag"])
    assert (work["work"], work["owner"], work["epoch"], work["state"]) == (script.jobs[0].key, "one", 1, "done")
    assert any("done by one (epoch 1); ended Completed" in line for line in told_lines(told))
    assert "it is the marker of day=1/" in says(place, "day=1/_SUCCESS")


def test_a_blob_whose_run_is_under_way_and_one_that_waits_for_the_next(tmp_path: Path) -> None:
    class Endless(Script):
        def outcome(self) -> None:
            return None

        def stop(self) -> None:
            return None

        def start(self, job: Any) -> Any:
            return self

    place = Place.in_folder(tmp_path)
    watcher = place.watcher(Endless())
    place.put("day=1/a.parquet", "day=1/_SUCCESS")
    watcher.look()
    watcher.advance()
    place.put("day=2/a.parquet", "day=2/_SUCCESS")
    watcher.look()
    assert "is under way at one (epoch 1)" in says(place, "day=1/a.parquet")
    assert "which waits for its run" in says(place, "day=2/a.parquet")


def test_a_blob_whose_run_failed_on_its_data(tmp_path: Path) -> None:
    place = Place.in_folder(tmp_path)
    place.put("day=1/a.parquet", "day=1/_SUCCESS")
    go(place.watcher(Script(lambda _: "data")))
    told = ask(place, "day=1/a.parquet")
    assert "which is in quarantine" in told["says"]
    assert told["batches"][0]["state"] == "quarantined"
    assert "in quarantine, too" not in told["says"]
    place.put("day=2/a.parquet", "day=2/_SUCCESS")
    go(place.watcher(Script(lambda _: "data")))
    assert ask(place, "day=2/a.parquet")["says"].endswith("; in quarantine, too, and so in no run: day=1/")


def test_an_overwritten_blob_has_the_story_of_each_version(tmp_path: Path) -> None:
    place = Place.in_folder(tmp_path, rule="files")
    place.put("day=1/a.parquet")
    go(place.watcher(Script()))
    place.overwrite("day=1/a.parquet", b"other rows")
    assert "nobody has looked since" in says(place, "day=1/a.parquet")
    go(place.watcher(Script()))
    told = ask(place, "day=1/a.parquet")
    assert len(told["batches"]) == 2
    assert told["batches"][1]["batch"][:12] in told["says"]


def test_a_blob_that_came_late_into_a_closed_partition(tmp_path: Path) -> None:
    place = Place.in_folder(tmp_path, rule="files", open_partitions=1)
    place.put("day=1/a.parquet", "day=2/a.parquet")
    go(place.watcher(Script()))
    place.put("day=1/late.parquet")
    go(place.watcher(Script()))
    assert "a prefix that is not open, and is found by the next look at all" in says(place, "day=1/late.parquet")


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("day=1/never.parquet", "there is no such blob"),
        ("day=1/bell\x07.parquet", "there is no such blob"),
        ("../secret.parquet", "there is no such blob"),
    ],
)
def test_a_blob_that_is_not_there(tmp_path: Path, name: str, answer: str) -> None:
    place = Place.in_folder(tmp_path)
    go(place.watcher(Script()))
    assert answer in says(place, name)


def test_a_blob_with_a_strange_name(tmp_path: Path) -> None:
    place = Place.in_folder(tmp_path)
    place.put("day=1/bell\x07.parquet")
    go(place.watcher(Script()))
    assert "its name has characters that cannot be seen" in says(place, "day=1/bell\x07.parquet")


def test_only_models_that_take_the_blob_have_a_story(tmp_path: Path) -> None:
    place = Place.in_folder(tmp_path)
    assert takers([place.settings], "day=1/notes.txt") == []
    assert takers([place.settings], "day=1/a.parquet") == [place.settings]
    assert takers([place.settings], "day=1/_SUCCESS") == [place.settings]


def test_a_batch_is_found_by_the_beginning_of_its_key(tmp_path: Path) -> None:
    place, script = Place.in_folder(tmp_path), Script()
    place.put("day=1/a.parquet", "day=1/_SUCCESS")
    go(place.watcher(script))
    key = script.jobs[0].batches[0]
    assert find_batch(place.book, key[:8]) == key
    for start in ("", key[:3], "f" * 64):
        with pytest.raises(UsageError):
            find_batch(place.book, start)
