"""When the blobs of a prefix become a batch, and when they wait."""

from __future__ import annotations

import hashlib
import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from trigger_helpers import Place, Script, go

from insitu.triggers.rules import prefix_of, strangeness


@pytest.fixture
def script() -> Script:
    return Script()


def age(place: Place, name: str, seconds: float) -> None:
    """Let a blob be as old as that; the folder's clock is that of its files."""
    path = place.data.root / name  # type: ignore[attr-defined]
    moment = path.stat().st_mtime - seconds
    os.utime(path, (moment, moment))


def manifest_of(*entries: dict[str, Any]) -> bytes:
    return json.dumps({"blobs": list(entries)}).encode()


def entry(name: str, content: bytes, **digests: str) -> dict[str, Any]:
    return {"name": name, "size_bytes": len(content), **digests}


# --- marker ---


def test_blobs_without_their_marker_wait(tmp_path: Path, script: Script) -> None:
    place = Place.in_folder(tmp_path)
    place.put("day=1/a.parquet", "day=1/b.parquet")
    go(place.watcher(script), looks=2)
    assert script.jobs == []
    assert place.book.waiting()["day=1/"]["waits"] == "day=1/_SUCCESS"


def test_a_marker_completes_its_own_prefix_alone(tmp_path: Path, script: Script) -> None:
    place = Place.in_folder(tmp_path)
    place.put("day=1/a.parquet", "day=2/a.parquet", "day=1/_SUCCESS")
    go(place.watcher(script))
    assert script.names == [["day=1/a.parquet"]]


def test_a_marker_that_came_before_the_data_says_nothing(tmp_path: Path, script: Script) -> None:
    place = Place.in_folder(tmp_path)
    place.put("day=1/_SUCCESS", "day=1/a.parquet")
    age(place, "day=1/_SUCCESS", 10)
    go(place.watcher(script))
    assert script.jobs == []
    assert "newer than day=1/a.parquet" in place.book.waiting()["day=1/"]["waits"]
    place.overwrite("day=1/_SUCCESS", b"")
    go(place.watcher(script))
    assert script.names == [["day=1/a.parquet"]]


def test_a_marker_without_any_data_makes_no_batch(tmp_path: Path, script: Script) -> None:
    place = Place.in_folder(tmp_path)
    place.put("day=1/_SUCCESS")
    go(place.watcher(script))
    assert script.jobs == []


def test_late_blobs_wait_for_another_marker_and_are_a_batch_of_their_own(tmp_path: Path, script: Script) -> None:
    place = Place.in_folder(tmp_path)
    place.put("day=1/a.parquet", "day=1/_SUCCESS")
    go(place.watcher(script))
    place.put("day=1/late.parquet")
    go(place.watcher(script), looks=2)
    assert len(script.jobs) == 1
    place.overwrite("day=1/_SUCCESS", b"rows")  # with the same bytes
    go(place.watcher(script))
    assert [len(job.batches) for job in script.jobs] == [1, 1]
    assert script.names[1] == ["day=1/a.parquet", "day=1/late.parquet"]  # a run uses what was sealed before, too
    first, second = (place.book.batch(job.batches[0]) for job in script.jobs)
    assert [blob["name"] for blob in second["batch"]["blobs"]] == ["day=1/late.parquet"]
    assert [blob["name"] for blob in first["batch"]["blobs"]] == ["day=1/a.parquet"]


def test_late_blobs_without_another_marker_are_a_batch_when_it_is_quiet(tmp_path: Path, script: Script) -> None:
    place = Place.in_folder(tmp_path, quiet_s=0.0)
    place.put("day=1/a.parquet", "day=1/_SUCCESS")
    go(place.watcher(script))
    place.put("day=1/late.parquet")
    go(place.watcher(script))
    assert len(script.jobs) == 2


# --- files ---


def test_a_prefix_is_complete_when_it_holds_that_many_blobs(tmp_path: Path, script: Script) -> None:
    place = Place.in_folder(tmp_path, rule="files", files=3)
    place.put("day=1/a.parquet", "day=1/b.parquet", "day=1/readme.txt")
    go(place.watcher(script))
    assert script.jobs == []
    assert place.book.waiting()["day=1/"]["waits"] == "1 more of 3 blobs"
    place.put("day=1/c.parquet")
    go(place.watcher(script))
    assert script.names == [["day=1/a.parquet", "day=1/b.parquet", "day=1/c.parquet"]]


def test_an_overwritten_blob_of_a_complete_prefix_is_a_batch(tmp_path: Path, script: Script) -> None:
    place = Place.in_folder(tmp_path, rule="files", files=2)
    place.put("day=1/a.parquet", "day=1/b.parquet")
    go(place.watcher(script))
    place.overwrite("day=1/a.parquet", b"other rows")
    go(place.watcher(script), looks=2)
    assert len(script.jobs) == 2
    assert script.jobs[1].batch.blobs[0].etag == place.data.stat("day=1/a.parquet").etag


# --- quiet ---


def test_a_prefix_is_complete_when_nothing_new_has_come_for_so_long(tmp_path: Path, script: Script) -> None:
    place = Place.in_folder(tmp_path, rule="quiet", quiet_s=0.3)
    place.put("day=1/a.parquet")
    age(place, "day=1/a.parquet", 3600)  # the producer's times do not count
    go(place.watcher(script))
    assert script.jobs == []
    since = datetime.fromisoformat(place.book.waiting()["day=1/"]["since"])
    while not script.jobs:
        go(place.watcher(script))
    found = datetime.fromisoformat(place.book.batch(script.jobs[0].batches[0])["found"])
    assert (found - since).total_seconds() >= 0.3


def test_a_blob_that_comes_starts_the_wait_again(tmp_path: Path, script: Script) -> None:
    place = Place.in_folder(tmp_path, rule="quiet", quiet_s=3600.0)
    place.put("day=1/a.parquet")
    go(place.watcher(script))
    before = place.book.waiting()["day=1/"]["since"]
    go(place.watcher(script))
    assert place.book.waiting()["day=1/"]["since"] == before
    place.put("day=1/b.parquet")
    go(place.watcher(script))
    assert place.book.waiting()["day=1/"]["since"] > before


# --- manifest ---


def test_a_manifest_waits_until_every_blob_is_as_it_says(tmp_path: Path, script: Script) -> None:
    place = Place.in_folder(tmp_path, rule="manifest")
    sha256, md5 = hashlib.sha256(b"rows").hexdigest(), hashlib.md5(b"rows", usedforsecurity=False).hexdigest()
    place.put("day=1/a.parquet", content=b"rows")
    named = manifest_of(entry("a.parquet", b"rows", sha256=sha256), entry("b.parquet", b"rows", md5=md5))
    place.put("day=1/manifest.json", content=named)
    go(place.watcher(script))
    assert "day=1/b.parquet" in place.book.waiting()["day=1/"]["waits"]
    place.put("day=1/b.parquet", content=b"rows")
    go(place.watcher(script))
    assert script.names == [["day=1/a.parquet", "day=1/b.parquet"]]


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"row", "it has 3"), (b"sowr", "sha256")],
    ids=["another size", "other bytes"],
)
def test_a_blob_that_is_not_as_the_manifest_says_keeps_its_batch_waiting(
    tmp_path: Path, script: Script, content: bytes, problem: str
) -> None:
    place = Place.in_folder(tmp_path, rule="manifest")
    sha256 = hashlib.sha256(b"rows").hexdigest()
    place.put("day=1/manifest.json", content=manifest_of(entry("a.parquet", b"rows", sha256=sha256)))
    place.put("day=1/a.parquet", content=content)
    go(place.watcher(script))
    assert script.jobs == []
    assert problem in place.book.waiting()["day=1/"]["waits"]
    place.overwrite("day=1/a.parquet", b"rows")
    go(place.watcher(script))
    assert len(script.jobs) == 1


@pytest.mark.parametrize(
    "content", [b"", b"{}", b'{"blobs": []}', b'{"blobs": [{"name": "a.parquet"}]}', b'{"blobs": 3}']
)
def test_what_is_no_manifest_completes_nothing(tmp_path: Path, script: Script, content: bytes) -> None:
    place = Place.in_folder(tmp_path, rule="manifest")
    place.put("day=1/manifest.json", content=content)
    place.put("day=1/a.parquet")
    go(place.watcher(script))
    assert script.jobs == []
    assert "of the form" in place.book.waiting()["day=1/"]["waits"]


def test_a_blob_that_no_manifest_names_is_never_trained_on(tmp_path: Path, script: Script) -> None:
    place = Place.in_folder(tmp_path, rule="manifest")
    place.put("day=1/a.parquet", "day=1/stranger.parquet")
    place.put("day=1/manifest.json", content=manifest_of(entry("a.parquet", b"rows")))
    go(place.watcher(script), looks=2)
    assert script.names == [["day=1/a.parquet"]]
    later = manifest_of(entry("a.parquet", b"rows"), entry("stranger.parquet", b"rows"))
    place.overwrite("day=1/manifest.json", later)
    go(place.watcher(script))
    assert script.names[1:] == [["day=1/a.parquet", "day=1/stranger.parquet"]]


# --- what never becomes complete ---


def test_what_is_incomplete_for_too_long_is_quarantined_once_and_still_completes(
    tmp_path: Path, script: Script
) -> None:
    place = Place.in_folder(tmp_path, rule="files", files=2, incomplete_after_s=1e-6)
    place.put("day=1/a.parquet", "day=2/a.parquet", "day=2/b.parquet")
    go(place.watcher(script), looks=4)
    quarantine = place.book.queues.read()[0].quarantine
    assert [(one.prefix, one.trouble, one.reason) for one in quarantine] == [
        ("day=1/", "incomplete", "waits for 1 more of 2 blobs")
    ]
    assert [said["prefix"] for event, said in place.events if event == "insitu.batch.quarantined"] == ["day=1/"]
    assert script.names == [["day=2/a.parquet", "day=2/b.parquet"]]
    place.put("day=1/b.parquet")
    go(place.watcher(script))
    assert place.book.queues.read()[0].quarantine == ()
    assert len(script.jobs[1].batch.blobs) == 4


# --- names ---


@pytest.mark.parametrize(
    ("name", "depth", "prefix"),
    [
        ("a/b/c", None, "a/b/"),
        ("a/b/c", 1, "a/"),
        ("a/b/c", 0, ""),
        ("a/b/c", 7, "a/b/"),
        ("c", None, ""),
        ("c", 2, ""),
    ],
)
def test_a_prefix_is_the_folders_of_a_name(name: str, depth: int | None, prefix: str) -> None:
    assert prefix_of(name, depth) == prefix


@pytest.mark.parametrize(
    "name",
    ["a\x07b", "a\u202eb", "a\u200bb", "day\\1", "x" * 881, "--rm", "a/-b", "a /b", "a.", "a/b.", "cafe\u0301"],
)
def test_names_that_tools_stumble_over_are_strange(name: str) -> None:
    assert strangeness(name)


@pytest.mark.parametrize(
    "name", ["month=01/flights.parquet", "caf\u00e9/ä b.parquet", "x" * 880, "year=2026/$(id).csv"]
)
def test_ordinary_names_are_not(name: str) -> None:
    assert strangeness(name) is None
