"""The watcher of one model: looks, and sees to it that what is due is done, by it or by another one.

Everything that it decides on lies in the site's state, so it may end anywhere; the next one goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from insitu.crashpoints import crashpoint
from insitu.errors import InsituError, StateDamaged
from insitu.ports import BlobStore
from insitu.triggers.book import Book
from insitu.triggers.claims import Claim, ClaimLost, Claims, State
from insitu.triggers.queue import Quarantined, Queue, Work
from insitu.triggers.sealing import Scan, Scanner
from insitu.triggers.work import Job, Outcome, Runner, Running, assign, settle

READY, QUARANTINED = "insitu.batch.ready", "insitu.batch.quarantined"
STARTED, ENDED = "insitu.work.started", "insitu.work.ended"
Tell = Callable[[str, Mapping[str, Any]], None]
_NOT_ENDED: Mapping[str, State] = {"stopped": "free", "busy": "failed", "failed": "failed"}


@dataclass
class _Held:
    """The work that this watcher does."""

    work: Work
    claim: Claim
    running: Running
    beat_at: float


@dataclass
class Watcher:
    """One watcher of one model.

    Attributes:
        claims: Gives a work to one watcher at a time.
        runner: Starts runs.
        tell: Called with the name of an event and what it says, once each unless the watcher is killed before.
        owner: What people call this watcher.
    """

    book: Book
    store: BlobStore
    claims: Claims
    runner: Runner
    tell: Tell
    owner: str
    _held: _Held | None = field(default=None, init=False)
    _broken: tuple[str, ...] = field(default=(), init=False)
    _is_kept: bool = field(default=False, init=False)
    """Whether something that is new in a partition that is not open keeps a work from beginning."""

    def look(self, whole: bool = False) -> Scan:
        """Find what is new, with *whole* in all partitions; raise `StoreRefused`, `BackendUnavailable`."""
        scan = Scanner(self.book, self.store, self.owner, self._broken, whole or self._is_kept).scan()
        self._broken = scan.unread
        for entry in scan.sealed:
            self.tell(READY, {"batch": entry.key, "prefix": entry.prefix})
        self._tell_quarantined(scan.quarantined)
        return scan

    def advance(self) -> bool:
        """Do the next bit of what is due; return whether there was anything to do, here and now."""
        if self._held:
            return self._go_on(self._held)
        queue = self.book.queues.read()[0]
        if queue.work is None and queue.entries:
            queue = assign(self.book, self.store, self._now(), self._broken)
            self._is_kept = queue.work is None
        if queue.work is None:
            return False
        return self._begin(queue.work)

    @property
    def busy(self) -> str | None:
        """The key of the work that this watcher does."""
        return self._held.work.key if self._held else None

    def stop(self) -> None:
        """End what this watcher does, and let others take it over at once."""
        if held := self._held:
            held.running.stop()
            self._end(held, held.running.outcome() or Outcome("stopped", {"state": "Stopped"}))

    def _begin(self, work: Work) -> bool:
        claim = self.claims.take(work.key, self._now)
        if claim is None:
            there = self.claims.look(work.key)
            if there is None or there.state != "done":
                return False
            return self._settle(work, there)
        crashpoint("watch:claimed")
        batch = self.book.manifest(work.key)
        if batch is None:
            raise StateDamaged(f"{self.book.folder}work/{work.key}.json is not in the site's state any more")
        job = Job(self.book.model.name, work.key, claim.failures + 1, claim.epoch, work.batches, batch, claim.waits)
        if not batch.blobs:
            running: Running = _Nothing()
        else:
            running = self._start(job, claim)
        self._held = _Held(work, claim, running, time.monotonic())
        said = {"work": work.key, "batches": len(work.batches), "blobs": len(batch.blobs)}
        self.tell(STARTED, {**said, "attempt": job.attempt, "epoch": claim.epoch})
        crashpoint("watch:started")
        return True

    def _start(self, job: Job, claim: Claim) -> Running:
        """Start the run; when it cannot even be started, it is tried again later, and no attempt is counted."""
        try:
            return self.runner.start(job)
        except InsituError as error:
            self.claims.write(replace(claim, state="failed", outcome={"verdict": "busy", "error": error.to_json()}))
            raise

    def _go_on(self, held: _Held) -> bool:
        outcome = held.running.outcome()
        if outcome is not None:
            return self._end(held, outcome)
        if time.monotonic() - held.beat_at > self.book.model.trigger.lease_s / 4:
            try:
                held.claim, held.beat_at = self.claims.write(held.claim), time.monotonic()
            except ClaimLost:
                self._held = None
                held.running.stop()
                raise
        return False

    def _end(self, held: _Held, outcome: Outcome) -> bool:
        """Write the outcome into the claim, which the store refuses to whoever has lost it; then the queue follows."""
        self._held = None
        crashpoint("watch:ended")
        state: State = _NOT_ENDED.get(outcome.verdict, "done")
        failures = held.claim.failures + (outcome.verdict == "failed")
        waits = held.claim.waits + (outcome.verdict == "busy")
        if failures >= self.book.model.trigger.attempts:
            state = "done"
        told = {"verdict": outcome.verdict, **outcome.told}
        claim = self.claims.write(replace(held.claim, state=state, failures=failures, waits=waits, outcome=told))
        crashpoint("watch:outcome-written")
        self.tell(ENDED, {"work": claim.work, "attempt": held.claim.failures + 1, "claim": state, **told})
        return state == "done" and self._settle(held.work, claim)

    def _settle(self, work: Work, claim: Claim) -> bool:
        told = dict(claim.outcome or {"verdict": "failed"})
        outcome = Outcome(told.pop("verdict"), told)
        self._tell_quarantined(settle(self.book, work, outcome, self._now()))
        return True

    def _tell_quarantined(self, quarantined: tuple[Quarantined, ...]) -> None:
        for one in quarantined:
            said = {"batch": one.key, "prefix": one.prefix, "trouble": one.trouble, "reason": one.reason}
            self.tell(QUARANTINED, said)

    def _now(self) -> datetime:
        return self.book.now(self.owner)


class _Nothing:
    """The run of a work of which no blob is left: every one was overwritten, and is a new batch or becomes one."""

    def outcome(self) -> Outcome:
        return Outcome("done", {"state": "Superseded"})

    def stop(self) -> None:
        """Do nothing."""


def oldest_s(queue: Queue, now: datetime) -> float | None:
    """Return for how many seconds the oldest batch has waited for its work's end; None when none waits."""
    waiting = [datetime.fromisoformat(entry.since) for entry in queue.entries]
    return (now - min(waiting)).total_seconds() if waiting else None
