"""Who works on what now: a lease in the site's state, which its holder keeps alive and which nobody holds twice.

A lease is a blob that is written under conditions only. Its holder knows the version that it wrote last and names it
in every further write. It falls when it is given back, at once when its holder's process is gone from this machine,
and elsewhere when the holder has been silent for `lease_s` by the store's own clock. Whoever takes it over writes
the next epoch; a holder that wakes up after that finds its next write refused, and stops.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from itertools import count
from typing import Any
from uuid import uuid4

from pydantic import TypeAdapter, ValidationError

from insitu.errors import BlobNotFound, InsituError, RunTakenOver, RunUnderWay, StateDamaged
from insitu.ports import BlobStore
from insitu.processes import ProcessId
from insitu.triggers import documents

log = logging.getLogger(__name__)

LEASE_S = 120.0
PRUNING = "prune"
"""What the holder of a model's lease works on while it removes what nobody needs: seconds, which a run waits for."""

_BEATS_PER_LEASE = 4
_PATIENCE_S, _LOOK_S, _PRUNE_S = 25.0, 0.1, 600.0
OF_MODELS = "leases/models/"
_CLOCK = "leases/clock.json"


@dataclass(frozen=True)
class Held:
    """One version of a lease.

    Attributes:
        work: What the holder works on: the key of a run.
        token: Tells this taking apart from every other.
        epoch: How often the lease was taken, from 1.
        since: When it was taken (UTC, ISO), by the holder's clock: for people.
        flow_run: The Prefect flow run of the holder.
        beats: How often the holder has said that it is alive.
        free: Whether it was given back.
    """

    work: str
    holder: ProcessId
    token: str
    epoch: int
    since: str
    lease_s: float
    flow_run: str | None = None
    beats: int = 0
    free: bool = False

    def told(self) -> dict[str, Any]:
        """Return what others may know of the holder, as JSON values."""
        who = {"host": self.holder.host, "pid": self.holder.pid, "flow_run": self.flow_run}
        return {"run_key": self.work, **who, "since": self.since}

    def __str__(self) -> str:
        flow_run = f", flow run {self.flow_run}" if self.flow_run else ""
        return f"run {self.work[:12]} by {self.holder}{flow_run}, since {self.since}"


_ADAPTER = TypeAdapter(Held)


def of_model(model: str) -> str:
    """Return the lease of whoever works on *model*."""
    return f"{OF_MODELS}{model}.json"


def look(state: BlobStore, name: str) -> Held | None:
    """Return the lease as it is; None when nobody ever took it; raise `StateDamaged`."""
    found = documents.read(state, name)
    return _parsed(name, found[0]) if found else None


def is_over(state: BlobStore, name: str, held: Held) -> bool:
    """Tell whether *held*, the lease's newest version, may be taken over."""
    life = held.holder.life()
    if held.free or life == "dead":
        return True
    if life == "alive":
        return False  # also one that is stopped for an hour
    now = documents.server_now(state, _CLOCK, held.token)
    with suppress(BlobNotFound):
        return (now - state.stat(name).last_modified).total_seconds() > held.lease_s
    return True


def take(
    state: BlobStore, name: str, work: str, *, lease_s: float = LEASE_S, flow_run: str | None = None
) -> Lease | Held:
    """Return the lease, which is the caller's from now on, or what is known of who holds it."""
    for attempt in count():
        found = documents.read(state, name)
        there = _parsed(name, found[0]) if found else None
        # Nobody does one flow run twice: what another machine or container left of it is a process that was killed.
        mine_before = there and flow_run and there.flow_run == flow_run and there.holder.life() == "unknown"
        if there and not mine_before and not is_over(state, name, there):
            return there
        me, since = ProcessId.of_this_process(), datetime.now(UTC).isoformat(timespec="seconds")
        mine = Held(work, me, uuid4().hex, there.epoch + 1 if there else 1, since, lease_s, flow_run)
        if etag := documents.write(state, name, asdict(mine), found[1] if found else None):
            return Lease(state, name, mine, etag)
        documents.pause(attempt)  # another was faster: see who
    raise AssertionError("it counts for ever")


class Lease:
    """A lease that this process holds; any of its threads may use it."""

    def __init__(self, state: BlobStore, name: str, held: Held, etag: str) -> None:
        self.held = held
        self.lost = False
        self._state, self._name, self._etag = state, name, etag
        self._writing = threading.Lock()

    def confirm(self, work: str | None = None) -> None:
        """Say that the holder is alive, and what it works on when that has changed.

        Raises:
            RunTakenOver: Another has taken the lease; the caller must not go on.
        """
        with self._writing:
            self._write(replace(self.held, beats=self.held.beats + 1, work=work or self.held.work))

    def give_back(self) -> None:
        """Let others have it at once; of one that was lost nothing is written."""
        with suppress(RunTakenOver), self._writing:
            self._write(replace(self.held, beats=self.held.beats + 1, free=True))

    @contextmanager
    def kept_alive(self, on_lost: Callable[[], None]) -> Iterator[Lease]:
        """Beat in a thread for as long as the block lasts, then give the lease back; call *on_lost* when it is lost."""
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(self.held.lease_s / _BEATS_PER_LEASE):
                try:
                    self.confirm()
                except RunTakenOver:
                    on_lost()
                    return
                except Exception as exc:  # noqa: BLE001 - the store is away: nobody else can take the lease there, either
                    log.debug("lease %s cannot be kept up now: %s", self._name, type(exc).__name__)

        thread = threading.Thread(target=beat, name=f"lease {self._name}", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            ended.set()
            thread.join()
            with suppress(InsituError):  # it lapses then, or falls with this process
                self.give_back()

    def _write(self, wanted: Held) -> None:
        etag = None if self.lost else documents.write(self._state, self._name, asdict(wanted), self._etag)
        if etag is None and not self.lost:
            found = documents.read(self._state, self._name)
            if found and _parsed(self._name, found[0]).token == wanted.token:  # ours: an answer was lost
                etag = documents.write(self._state, self._name, asdict(wanted), found[1])
        if etag is None:
            self.lost = True
            raise RunTakenOver(
                f"run {self.held.work[:12]} was taken over by another process",
                found=f"epoch {self.held.epoch} of its lease is over",
                next_action="nothing: the other one goes on with it",
            )
        self.held, self._etag = wanted, etag


@contextmanager
def alone_with(state: BlobStore, thing: str) -> Iterator[None]:
    """Keep other processes from changing *thing*, such as `champions/MODEL`, meanwhile; wait until they are done.

    Raises:
        RunUnderWay: Another process has been at it for long.
    """
    name, deadline = f"leases/{thing}.json", time.monotonic() + _PATIENCE_S
    while isinstance(lease := take(state, name, thing), Held):
        if time.monotonic() > deadline:
            raise RunUnderWay(
                f"another process is changing {thing}",
                found=str(lease.holder),
                next_action="wait for it, then start again",
            )
        time.sleep(_LOOK_S)
    with lease.kept_alive(lambda: None):
        yield


@contextmanager
def only_run(
    state: BlobStore,
    model: str,
    run_key: str,
    *,
    flow_run: str | None = None,
    lease_s: float = LEASE_S,
    on_lost: Callable[[], None] = lambda: None,
) -> Iterator[Lease]:
    """Keep other runs of *model* out, here and on every machine that has this state.

    A prune that is at work on the model is waited for.

    Raises:
        RunUnderWay: Another process runs this model now; the error's `winner` says who, and which run.
    """
    take_it = partial(take, state, of_model(model), run_key, lease_s=lease_s, flow_run=flow_run)
    lease, deadline = take_it(), time.monotonic() + _PRUNE_S
    while isinstance(lease, Held) and PRUNING == lease.work != run_key and time.monotonic() < deadline:
        time.sleep(_LOOK_S)
        lease = take_it()
    if isinstance(lease, Held):
        busy = RunUnderWay(
            f"another run of {model} is under way at this site",
            found=str(lease),
            next_action="wait for it, then start again: a batch that is done is not done twice",
        )
        busy.winner = lease.told()
        raise busy
    with lease.kept_alive(on_lost):
        yield lease


def _parsed(name: str, value: Any) -> Held:
    try:
        return _ADAPTER.validate_python(value)
    except ValidationError as exc:
        raise StateDamaged(
            f"{name} in the site's state is damaged",
            found="not what a run writes",
            next_action="remove that file when no run of the model is under way",
        ) from exc
