"""What a look costs, what it survives, and what hints are worth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from trigger_helpers import Place, Script, go, model

from insitu.adapters.local.blobs import FolderBlobs
from insitu.batch import Blob
from insitu.errors import BackendUnavailable, BlobNotFound, StateDamaged, StoreRefused
from insitu.triggers.service import PROBLEM, Hints, Round, look_once


@dataclass
class Listed:
    """A container of blobs that exist in its listing only, and which counts what it is asked."""

    blobs: list[Blob]
    asked: Counter[str] = field(default_factory=Counter)
    breaks_at: str = "\0"

    def list(self, prefix: str = "") -> Iterator[Blob]:
        self.asked["list"] += 1
        for blob in self.blobs:
            if blob.name.startswith(prefix):
                if self.breaks_at in blob.name:
                    raise BackendUnavailable("the page cannot be read")
                yield blob

    def names(self, prefix: str = "") -> Iterator[str]:
        return (blob.name for blob in self.list(prefix))

    def stat(self, name: str) -> Blob:
        self.asked["stat"] += 1
        raise BlobNotFound(name)

    def read(self, name: str, *, etag: str | None = None, offset: int = 0, length: int | None = None) -> bytes:
        self.asked["read"] += 1
        raise BlobNotFound(name)

    def create(self, name: str, data: bytes) -> Blob:
        raise StoreRefused("read only")

    def replace(self, name: str, data: bytes, *, etag: str) -> Blob:
        raise StoreRefused("read only")


def blob(name: str, version: int = 1) -> Blob:
    return Blob(name, f'"{version}"', 4, datetime(2026, 1, 1, tzinfo=UTC))


def over(listed: Listed, root: Path, **trigger: object) -> Place:
    (root / "state").mkdir(exist_ok=True)
    return Place(model(rule="files", **trigger), listed, FolderBlobs(root / "state"))


def test_a_look_at_known_blobs_asks_for_the_listing_and_nothing_else(tmp_path: Path) -> None:
    listed = Listed([blob(f"p{n % 50:02d}/{n:05d}.parquet") for n in range(2_000)])
    place = over(listed, tmp_path)
    go(place.watcher(Script()))
    listed.blobs += [blob(f"q/{n}.parquet") for n in range(10)]
    listed.asked.clear()
    sealed = place.watcher(Script(), owner="after a kill").look().sealed
    assert [entry.prefix for entry in sealed] == ["q/"]
    assert listed.asked == {"list": 1}


def test_a_blob_behind_the_mark_of_time_is_found(tmp_path: Path) -> None:
    listed = Listed([blob("b/1.parquet")])
    place, script = over(listed, tmp_path), Script()
    watcher = place.watcher(script)
    go(watcher)
    listed.blobs.insert(0, Blob("a/1.parquet", '"1"', 4, datetime(2001, 1, 1, tzinfo=UTC)))
    go(watcher)
    assert script.names[1] == ["a/1.parquet", "b/1.parquet"]


@pytest.mark.parametrize("bad", ["b/bell\x07x.parquet", "b/ok.parquet"])
def test_a_name_that_breaks_the_listing_keeps_no_other_prefix_waiting(tmp_path: Path, bad: str) -> None:
    listed = Listed([blob("a/1.parquet"), blob("b/1.parquet"), blob(bad), blob("c/1.parquet")], breaks_at=bad)
    place, script = over(listed, tmp_path), Script()
    said: list[tuple[str, str, object]] = []
    one = Round(place.watcher(script), lambda *what: said.append(what), Hints(place.state, "rides"))
    with pytest.raises(Exception, match="container rides break its listing"):
        look_once([one])
    assert script.names == [["a/1.parquet", "c/1.parquet"]]
    (problem,) = [what for _, event, what in said if event == PROBLEM]
    assert "names that begin with 'b/" in str(problem)


def test_a_container_that_cannot_be_listed_is_a_problem_and_not_nothing_new(tmp_path: Path) -> None:
    listed = Listed([], breaks_at="")
    listed.blobs = [blob("a/1.parquet"), blob("insitu-does-not-look-here/1")]
    with pytest.raises(BackendUnavailable):
        over(listed, tmp_path).watcher(Script()).look()


def test_blobs_with_strange_names_are_set_aside_once_and_shown_escaped(tmp_path: Path) -> None:
    listed = Listed([blob("a/1.parquet"), blob("a/bell\x07x.parquet"), blob("a/\u202etac.parquet")])
    place, script = over(listed, tmp_path), Script()
    go(place.watcher(script), looks=2)
    assert script.names == [["a/1.parquet"]]
    quarantine = place.book.queues.read()[0].quarantine
    assert [(one.trouble, one.prefix) for one in quarantine] == [
        ("name", "a/bell\\x07x.parquet"),
        ("name", "a/\\u202etac.parquet"),
    ]


def test_names_that_differ_in_case_alone_are_two(tmp_path: Path) -> None:
    listed = Listed([blob("a/X.parquet"), blob("a/x.parquet")])
    place, script = over(listed, tmp_path), Script()
    go(place.watcher(script))
    assert script.names == [["a/X.parquet", "a/x.parquet"]]


def test_a_damaged_ledger_is_an_error_and_starts_no_run(tmp_path: Path) -> None:
    place, script = Place.in_folder(tmp_path, rule="files"), Script()
    place.put("a/1.parquet")
    go(place.watcher(script))
    (shard,) = (tmp_path / "state/triggers/rides/known").iterdir()
    shard.write_text(shard.read_text()[:-3])
    with pytest.raises(StateDamaged, match=shard.name):
        place.watcher(script).look()
    assert len(script.jobs) == 1


def test_each_new_event_is_a_hint_once(tmp_path: Path) -> None:
    place = Place.in_folder(tmp_path)
    place.state.create("events/rides/before.json", b"{}")
    hints = Hints(place.state, "rides")
    assert not hints.anything()
    place.state.create("events/rides/1.json", b"{}")
    place.state.create("events/others/1.json", b"{}")
    assert hints.anything()
    assert not hints.anything()


def test_a_hint_brings_the_next_look_forward_and_a_lost_one_costs_an_interval_only(tmp_path: Path) -> None:
    place, script = Place.in_folder(tmp_path, rule="files", poll_s=3600.0), Script()
    one = Round(place.watcher(script), lambda *_: None, Hints(place.state, "rides"))
    one.look_if_due()
    one.look_if_due()
    place.put("a/1.parquet")
    one.look_if_due()
    assert one.scan is not None
    assert one.scan.sealed == ()
    place.state.create("events/rides/1.json", b"not even JSON")
    one.look_if_due()
    assert [entry.prefix for entry in one.scan.sealed] == ["a/"]
    place.put("b/1.parquet")
    one.due_at = 0
    one.look_if_due()
    assert [entry.prefix for entry in one.scan.sealed] == ["b/"]
