"""A lease has one holder at a time, falls when its holder is gone, and refuses a holder that comes back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from threading import Barrier, Event

import pytest
from loopback import wait_until

from insitu.adapters.azure.blobs import AzureBlobs
from insitu.adapters.local.blobs import FolderBlobs
from insitu.errors import RunTakenOver, StateDamaged
from insitu.journal import Journal
from insitu.leases import Held, Lease, look, take
from insitu.ports import BlobStore
from insitu.processes import ProcessId
from insitu.settings import AzureBlobStore
from insitu.triggers import documents

NAME = "leases/models/flights.json"
OVER = -1.0
"""Seconds of a lease that is over at once, also by a clock of whole seconds."""
HOLDER = """
import sys, time
from pathlib import Path
from insitu.adapters.local.blobs import FolderBlobs
from insitu.leases import take

lease = take(FolderBlobs(Path(sys.argv[1])), "leases/models/flights.json", "a run", lease_s=0.2)
with lease.kept_alive(lambda: print("lost", flush=True)):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(params=["folder", "blob service"])
def state(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    """A folder, and a real blob service behind a proxy that speaks no newer version than a hub."""
    if request.param == "folder":
        return FolderBlobs(tmp_path)
    new_container: Callable[[], str] = request.getfixturevalue("new_container")
    settings: AzureBlobStore = request.getfixturevalue("hub_settings")
    return AzureBlobs(settings, new_container())


def mine(state: BlobStore, work: str = "a run", **options: float) -> Lease:
    lease = take(state, NAME, work, **options)
    assert isinstance(lease, Lease)
    return lease


def of_another_machine(lease: Lease) -> Lease:
    """Return the lease as if a machine that this one cannot look into had it."""
    elsewhere = ProcessId("elsewhere", 1, "another boot", "1")
    held = replace(lease.held, holder=elsewhere, beats=lease.held.beats + 1)
    etag = documents.write(lease._state, NAME, asdict(held), lease._etag)
    assert etag
    return Lease(lease._state, NAME, held, etag)


def test_who_comes_second_learns_who_was_first(state: BlobStore) -> None:
    lease = mine(state)
    second = take(state, NAME, "another run")
    assert isinstance(second, Held)
    assert second == lease.held
    assert second.told()["pid"] == os.getpid()


def test_what_was_given_back_is_taken_at_once_in_the_next_epoch(state: BlobStore) -> None:
    lease = mine(state)
    with lease.kept_alive(lambda: None):
        pass
    assert mine(state).held.epoch == 2


def test_a_lease_of_another_machine_falls_when_its_holder_is_silent_for_so_long(state: BlobStore) -> None:
    lease = of_another_machine(mine(state, lease_s=1.5))
    assert isinstance(take(state, NAME, "another run"), Held)
    wait_until(lambda: isinstance(take(state, NAME, "another run"), Lease), 30, "the end of the lease")
    with pytest.raises(RunTakenOver, match="taken over"):
        lease.confirm()
    assert lease.lost


def test_a_holder_that_beats_keeps_its_lease(state: BlobStore) -> None:
    lease = of_another_machine(mine(state, lease_s=2.0))
    with lease.kept_alive(lambda: None):
        wait_until(lambda: lease.held.beats > 6, 30, "more beats than a lease has")
        assert isinstance(take(state, NAME, "another run"), Held)


def test_a_holder_that_comes_back_writes_nothing_over_what_its_heir_wrote(state: BlobStore) -> None:
    revenant = of_another_machine(mine(state, lease_s=OVER))
    journal = Journal(state, "flights", "k", revenant.confirm)
    journal.keep("gate", "of the first")
    heir = mine(state)
    Journal(state, "flights", "k", heir.confirm).keep("gate", "of the heir")
    for write in (lambda: journal.keep("gate", "late"), lambda: journal.once("train", str, lambda: "effect")):
        with pytest.raises(RunTakenOver):
            write()
    assert journal.entry("gate") == "of the heir"
    assert journal.entry("train") is None


def test_a_holder_that_is_taken_over_between_its_look_and_its_write_is_refused_by_the_store(state: BlobStore) -> None:
    revenant, asked = of_another_machine(mine(state, lease_s=OVER)), 0
    Journal(state, "flights", "k").keep("gate", "of an earlier start")

    def fence() -> None:
        """Pass; the second time be suspended right afterwards, while an heir writes."""
        nonlocal asked
        asked += 1
        revenant.confirm()
        if asked == 2:
            Journal(state, "flights", "k", mine(state).confirm).keep("gate", "of the heir")

    with pytest.raises(RunTakenOver):
        Journal(state, "flights", "k", fence).keep("gate", "of the revenant")
    assert asked == 3
    assert Journal(state, "flights", "k").entry("gate") == "of the heir"


def test_the_thread_that_beats_tells_that_the_lease_was_lost(state: BlobStore) -> None:
    told = Event()
    lease = of_another_machine(mine(state, lease_s=0.4))
    heir = replace(lease.held, token="heir", epoch=2)
    assert documents.write(state, NAME, asdict(heir), lease._etag)
    with lease.kept_alive(told.set):
        assert told.wait(30)
    assert look(state, NAME) == heir  # not given back by the revenant


def test_a_write_whose_answer_was_lost_is_no_loss(state: BlobStore) -> None:
    lease = mine(state)
    wanted = replace(lease.held, beats=1)
    assert documents.write(state, NAME, asdict(wanted), lease._etag)
    lease.confirm()
    assert lease.held.beats == 1
    assert documents.write(state, NAME, asdict(replace(wanted, beats=2)), lease._etag)
    lease.give_back()  # another write than the one whose answer was lost
    assert look(state, NAME) == replace(wanted, beats=2, free=True)


def test_a_flow_run_that_begins_again_elsewhere_does_not_wait_for_its_killed_process(state: BlobStore) -> None:
    first = take(state, NAME, "a run", flow_run="7")
    assert isinstance(first, Lease)
    of_another_machine(first)
    assert isinstance(take(state, NAME, "a run", flow_run="8"), Held)
    again = take(state, NAME, "a run", flow_run="7")
    assert isinstance(again, Lease)
    assert again.held.epoch == 2


def test_the_lease_of_a_killed_process_falls_at_once_and_that_of_a_stopped_one_does_not(tmp_path: Path) -> None:
    state = FolderBlobs(tmp_path)
    with subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path], stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"held\n"
        holder.send_signal(signal.SIGSTOP)
        stopped = look(state, NAME)
        wait_until(lambda: documents.server_now(state, "leases/clock.json", "x").timestamp()
                   > state.stat(NAME).last_modified.timestamp() + 1, 30, "a silence of five leases")  # fmt: skip
        assert take(state, NAME, "another run", lease_s=60) == look(state, NAME)
        assert stopped
        holder.send_signal(signal.SIGCONT)
        wait_until(lambda: (look(state, NAME) or stopped).beats > stopped.beats, 30, "another beat")
        holder.kill()
    assert mine(state).held.epoch == 2


def test_a_process_number_that_is_used_again_is_another_process() -> None:
    me = ProcessId.of_this_process()
    assert me.life() == "alive"
    assert replace(me, started="1").life() == "dead"
    assert replace(me, machine="another boot").life() == "unknown"


def test_a_damaged_lease_is_an_error_that_names_it(tmp_path: Path) -> None:
    state = FolderBlobs(tmp_path)
    state.create(NAME, b'{"work": 3}')
    with pytest.raises(StateDamaged, match=r"leases/models/flights\.json"):
        take(state, NAME, "a run")


def test_of_a_thousand_starts_at_once_one_works_and_the_others_name_it(tmp_path: Path) -> None:
    state, at_once = FolderBlobs(tmp_path), 1000
    barrier = Barrier(at_once)

    def start(_: int) -> Lease | Held:
        barrier.wait()
        return take(state, NAME, "a run")

    with ThreadPoolExecutor(at_once) as pool:
        taken = list(pool.map(start, range(at_once)))
    (winner,) = [one for one in taken if isinstance(one, Lease)]
    assert {one.token for one in taken if isinstance(one, Held)} == {winner.held.token}
    assert winner.held.epoch == 1
