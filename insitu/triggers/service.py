"""The rounds of a watcher: every model in turn, one that fails does not keep the others waiting."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from insitu.errors import InsituError
from insitu.ports import BlobStore
from insitu.triggers.claims import ClaimLost
from insitu.triggers.sealing import Scan
from insitu.triggers.watcher import Watcher, oldest_s

Say = Callable[[str, str, Mapping[str, Any]], None]
"""Takes the model, what happened (a dotted word) and what is known of it."""

STATUS, PROBLEM = "insitu.watch.status", "insitu.watch.problem"
_TICK_S = 1.0
_BUSY_TICK_S = 0.2


@dataclass
class Hints:
    """The events of a model: each that is new means "look now", and nothing else; truth is the listing."""

    state: BlobStore
    model: str
    _seen: set[str] | None = field(default=None, init=False)

    def anything(self) -> bool:
        """Tell whether there is an event that was not there at the last call; false at the first call."""
        now = set(self.state.names(f"events/{self.model}/"))
        before, self._seen = self._seen, now
        return before is not None and not now <= before


@dataclass
class Round:
    """One model of the service.

    Attributes:
        problem: What kept the last look or step from being done.
        scan: The last look that was done.
    """

    watcher: Watcher
    say: Say
    hints: Hints
    due_at: float = 0.0
    problem: InsituError | None = field(default=None, init=False)
    scan: Scan | None = field(default=None, init=False)
    _status: dict[str, Any] = field(default_factory=dict, init=False)

    @property
    def model(self) -> str:
        """The model's name."""
        return self.watcher.book.model.name

    def look_if_due(self) -> None:
        """Look when it is time, or when somebody says that there is something."""
        hinted = self._hinted()
        if hinted or time.monotonic() >= self.due_at:
            self.look(whole=hinted)

    def look(self, whole: bool = False) -> None:
        """Look now, with *whole* in all partitions; a problem is said and kept."""
        self.due_at = time.monotonic() + self.watcher.book.model.trigger.poll_s
        self._guarded(partial(self._look, whole))

    def advance(self) -> bool:
        """Do the next bit; return whether there was one."""
        return bool(self._guarded(self.watcher.advance))

    def stop(self) -> None:
        """End what is under way here; others may take it over at once."""
        self._guarded(self.watcher.stop)

    def _look(self, whole: bool) -> None:
        self.scan = self.watcher.look(whole)
        if self.scan.unread:
            self._problem(InsituError(
                f"some names in container {self.watcher.book.model.data.container} break its listing",
                found="names that begin with " + ", ".join(ascii(part) for part in self.scan.unread[:5]),
                wanted="names without control characters",
                next_action="rename or remove these blobs; all other prefixes are watched",
            ))  # fmt: skip
        else:
            self.problem = None
        self._say_status(self.scan)

    def _say_status(self, scan: Scan) -> None:
        queue = self.watcher.book.queues.read()[0]
        status = {
            "batches": len(queue.entries),
            "oldest_s": oldest_s(queue, scan.now),
            "work": queue.work.key if queue.work else None,
            "incomplete": {prefix: one["waits"] for prefix, one in scan.waiting.items()},
            "quarantined": len(queue.quarantine),
        }
        if {**status, "oldest_s": None} != {**self._status, "oldest_s": None} or status["batches"]:
            self.say(self.model, STATUS, status)
        self._status = status

    def _hinted(self) -> bool:
        return bool(self._guarded(self.hints.anything))

    def _guarded(self, step: Callable[[], Any]) -> Any:
        try:
            return step()
        except ClaimLost as error:
            self.say(self.model, PROBLEM, error.to_json())
        except InsituError as error:
            self._problem(error)
        return None

    def _problem(self, error: InsituError) -> None:
        if self.problem is None or self.problem.to_json() != error.to_json():
            self.say(self.model, PROBLEM, error.to_json())
        self.problem = error


def look_once(rounds: Sequence[Round]) -> None:
    """Look at every model, and do what is due then, to its end; raise the first problem when all is done."""
    for one in rounds:
        one.look()
    _work_off(rounds)
    for one in rounds:
        if one.problem:
            raise one.problem


def go_on(rounds: Sequence[Round]) -> None:
    """Look at every model again and again, until this process is stopped."""
    try:
        while True:
            for one in rounds:
                one.look_if_due()
            while any(_advanced(rounds)):
                pass
            time.sleep(_pause_s(rounds))
    finally:
        stop(rounds)


def _pause_s(rounds: Sequence[Round]) -> float:
    """Return the seconds until there may be something to do: a look is not late by what is left of a tick."""
    if _are_busy(rounds):
        return _BUSY_TICK_S
    due_s = min((one.due_at for one in rounds), default=float("inf")) - time.monotonic()
    return min(_TICK_S, max(due_s, _BUSY_TICK_S))


def stop(rounds: Sequence[Round]) -> None:
    """End what is under way here, of every model."""
    for one in rounds:
        one.stop()


def _work_off(rounds: Sequence[Round]) -> None:
    try:
        while any(_advanced(rounds)) or _are_busy(rounds):
            if _are_busy(rounds):
                time.sleep(_BUSY_TICK_S)
    finally:
        stop(rounds)


def _advanced(rounds: Sequence[Round]) -> list[bool]:
    """Return of every model whether something could be done; none keeps another waiting."""
    return [one.advance() for one in rounds]


def _are_busy(rounds: Sequence[Round]) -> bool:
    return any(one.watcher.busy for one in rounds)
