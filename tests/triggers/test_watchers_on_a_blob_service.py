"""The same over a real blob service that speaks no newer version than Azure Stack Hub: its ETags, conditions, clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from stack_hub import StackHub
from trigger_helpers import Place, Recorder, Script, go, model

from insitu.adapters.azure.blobs import AzureBlobs
from insitu.errors import BackendUnavailable
from insitu.settings import AzureBlobStore
from insitu.triggers.claims import ClaimLost


@pytest.fixture
def place(hub_settings: AzureBlobStore, new_container: Callable[[], str]) -> Place:
    data, state = AzureBlobs(hub_settings, new_container()), AzureBlobs(hub_settings, new_container())
    return Place(model(coalesce=False, lease_s=5.0), data, state)


def complete(place: Place, *days: int) -> None:
    for day in days:
        place.put(f"day={day}/a.parquet", f"day={day}/b.parquet", f"day={day}/_SUCCESS")


def test_watchers_side_by_side_do_each_work_once(place: Place, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "record", pause_s=0.02)

    def watch(owner: int) -> None:
        watcher = place.watcher(recorder, f"watcher {owner}")
        while len(recorder.counts()) < 8 or place.book.queues.read()[0].entries:
            with suppress(BackendUnavailable, ClaimLost):
                go(watcher)

    with ThreadPoolExecutor(5) as pool:
        watching = [pool.submit(watch, owner) for owner in range(4)]
        for day in range(8):
            complete(place, day)
            time.sleep(0.1)
        for one in watching:
            one.result()
    assert recorder.counts().total() == len(recorder.counts()) == 8
    assert [len(place.book.batch(key)["works"]) for key in recorder.counts()] == [1] * 8  # type: ignore[index]


def test_a_marker_that_is_written_again_completes_what_came_late(place: Place) -> None:
    script = Script()
    complete(place, 1)
    go(place.watcher(script))
    time.sleep(1.1)  # the service counts in seconds
    place.put("day=1/late.parquet")
    go(place.watcher(script))
    assert len(script.jobs) == 1
    place.overwrite("day=1/_SUCCESS", b"rows")
    go(place.watcher(script))
    assert script.names[1] == ["day=1/a.parquet", "day=1/b.parquet", "day=1/late.parquet"]


def test_a_silent_holder_loses_its_work_by_the_clock_of_the_service(place: Place) -> None:
    state = place.state
    first = replace(place.claims("one"), lease_s=1.0)
    second = replace(first, owner="two")
    claim = first.take("w", lambda: place.book.now("one"))
    assert claim
    assert second.take("w", lambda: place.book.now("two")) is None
    time.sleep(2.5)
    heir = second.take("w", lambda: place.book.now("two"))
    assert heir
    assert heir.epoch == 2
    with pytest.raises(ClaimLost):
        first.write(claim)
    assert state.stat(f"{place.book.folder}claims/w.json").etag == heir.etag


def test_a_look_at_known_blobs_costs_the_pages_of_the_listing(place: Place, hub: StackHub) -> None:
    complete(place, *range(5))
    go(place.watcher(Script()))
    watcher = place.watcher(Script())
    watcher.look()
    hub.reset()
    watcher.look()
    assert hub.requests.total() <= 10  # of these one lists the data; the others are of the state


def test_a_name_that_the_service_cannot_list_keeps_no_other_prefix_waiting(place: Place) -> None:
    script = Script()
    complete(place, 1)
    place.put("b\x07ell/x.parquet")
    with pytest.raises(BackendUnavailable):
        list(place.data.list())
    watcher = place.watcher(script)
    go(watcher)
    assert script.names == [["day=1/a.parquet", "day=1/b.parquet"]]
    assert watcher.look().unread == ("b",)
