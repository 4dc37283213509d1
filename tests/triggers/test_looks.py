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
        self.asked[f"list {prefix}".strip()] += 1
        for blob in self.blobs:
            if blob.name.startswith(prefix):
                if self.breaks_at in blob.name:
                    raise BackendUnavailable("the page cannot be read")
                yield blob

    def names(self, prefix: str = "") -> Iterator[str]:
        return (blob.name for blob in self.list(prefix))

    def folders(self, prefix: str = "") -> Iterator[str]:
        self.asked["folders"] += 1
        below = {blob.name[: blob.name.index("/", len(prefix)) + 1] for blob in self.blobs
                 if blob.name.startswith(prefix) and "/" in blob.name[len(prefix):]}  # fmt: skip
        yield from sorted(below)

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

    def delete(self, name: str, *, etag: str) -> None:
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


def days(*numbers: int) -> list[Blob]:
    return [blob(f"year=2026/day={day}/a.parquet") for day in numbers]


def test_where_partitions_are_closed_a_look_reads_the_last_ones_alone(tmp_path: Path) -> None:
    listed = Listed(days(*range(1, 201)))
    place = over(listed, tmp_path, open_partitions=2)
    go(place.watcher(Script()))
    listed.blobs += [blob("year=2026/day=200/late.parquet"), *days(201)]
    listed.asked.clear()
    sealed = place.watcher(Script(), owner="after a kill").look().sealed
    assert [entry.prefix for entry in sealed] == ["year=2026/day=200/", "year=2026/day=201/"]
    assert listed.asked == {"folders": 4, "list year=2026/day=200/": 1, "list year=2026/day=201/": 1}


def test_a_partition_stays_open_for_as_long_as_it_is_incomplete(tmp_path: Path) -> None:
    listed = Listed([blob("day=1/a.parquet")])
    place, script = over(listed, tmp_path, files=2, open_partitions=1), Script()
    go(place.watcher(script))
    listed.blobs += [blob("day=2/a.parquet"), blob("day=2/b.parquet")]
    go(place.watcher(script))
    since = place.book.waiting()["day=1/"]["since"]
    listed.blobs += [blob("day=3/a.parquet"), blob("day=3/b.parquet")]
    go(place.watcher(script))
    assert place.book.waiting()["day=1/"]["since"] == since
    listed.blobs.append(blob("day=1/b.parquet"))
    go(place.watcher(script))
    assert [len(names) for names in script.names] == [2, 4, 6]


def test_what_comes_late_into_a_closed_partition_is_found_when_all_are_looked_at(tmp_path: Path) -> None:
    listed = Listed(days(1, 2, 3))
    place, script = over(listed, tmp_path, open_partitions=1, poll_s=3600.0), Script()
    one = Round(place.watcher(script), lambda *_: None, Hints(place.state, "rides"))
    one.look()
    one.look_if_due()
    listed.blobs.append(blob("year=2026/day=1/late.parquet"))
    one.look()
    assert one.scan
    assert one.scan.sealed == ()
    place.state.create("events/rides/1.json", b"{}")  # a hint: somebody knows better
    one.look_if_due()
    assert [entry.prefix for entry in one.scan.sealed] == ["year=2026/day=1/"]
    listed.blobs.append(blob("year=2026/day=1/later.parquet"))
    soon = over(listed, tmp_path, open_partitions=1, whole_every_s=1e-6)
    assert [entry.prefix for entry in soon.watcher(script).look().sealed] == ["year=2026/day=1/"]


def test_a_blob_that_is_overwritten_in_a_closed_partition_delays_a_run_by_one_look(tmp_path: Path) -> None:
    listed = Listed(days(1, 2))
    place, script = over(listed, tmp_path, open_partitions=1), Script()
    watcher = place.watcher(script)
    go(watcher)
    listed.blobs[0] = blob("year=2026/day=1/a.parquet", version=2)
    listed.blobs += days(3)
    go(watcher)
    assert len(script.jobs) == 1  # its run would lack day 1
    go(watcher)
    assert [one.etag for one in script.jobs[1].batch.blobs] == ['"2"', '"1"', '"1"']


def test_a_partition_that_cannot_be_listed_by_itself_is_looked_at_with_all_others(tmp_path: Path) -> None:
    listed = Listed(days(1, 2), breaks_at="bell")
    place, script = over(listed, tmp_path, open_partitions=1), Script()
    go(place.watcher(script))
    listed.blobs += [blob("year=2026/day=1/late.parquet"), *days(3), blob("year=2026/day=3/bell.parquet")]
    sealed = place.watcher(script).look().sealed
    assert [entry.prefix for entry in sealed] == ["year=2026/day=1/"]


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
