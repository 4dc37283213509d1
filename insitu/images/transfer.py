"""Bring blobs from one registry to another: what the other lacks, a few at a time, and told as it goes."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock
from typing import Any

from insitu.ports import Descriptor, ImageRegistry

_TELL_S = 0.5


@dataclass(frozen=True)
class Sent:
    """One thing that went to a registry."""

    what: str
    destination: str
    size_bytes: int
    sha256: str

    def to_json(self) -> dict[str, Any]:
        """Return the entry as the run record has it."""
        return {
            "what": self.what,
            "destination": self.destination,
            "bytes": self.size_bytes,
            "sha256": self.sha256,
        }


@dataclass(frozen=True)
class Progress:
    """How much of what a registry lacked is there or on its way, after how long."""

    sent_bytes: int
    total_bytes: int
    seconds: float

    @property
    def fraction(self) -> float:
        """0 to 1."""
        return self.sent_bytes / self.total_bytes if self.total_bytes else 1.0

    def __str__(self) -> str:
        """Say `12.0 of 522.1 MB, 60.3 MB/s`."""
        rate = self.sent_bytes / self.seconds / 1e6 if self.seconds else 0.0
        return f"{self.sent_bytes / 1e6:,.1f} of {self.total_bytes / 1e6:,.1f} MB, {rate:,.1f} MB/s"


class _Stopped(Exception):
    """Another blob failed, or the wait was interrupted."""


@dataclass
class Transfer:
    """Copies blobs from *source* to *target* and notes in `sent` what was handed over, in order.

    Args:
        on_send: Is told of each object before it goes; never by two threads at once.
        on_progress: Is told now and then, by the thread that called `copy`.
        at_once: How many blobs go at a time.
    """

    source: ImageRegistry
    target: ImageRegistry
    on_send: Callable[[Sent], None]
    on_progress: Callable[[Progress], None]
    at_once: int
    sent: list[Sent] = field(default_factory=list)
    _bytes: dict[str, int] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)
    _stop: Event = field(default_factory=Event)
    _started: float = field(default_factory=time.monotonic)

    def note(self, what: str, one: Descriptor) -> None:
        """Write down an object that is about to go."""
        self.sent.append(Sent(what, self.target.name, one.size_bytes, one.digest.removeprefix("sha256:")))
        self.on_send(self.sent[-1])

    def copy(self, parts: Sequence[tuple[str, Descriptor]]) -> None:
        """Send *parts*, each with what it is called, in their order; the first error ends it all."""
        total_bytes = sum(part.size_bytes for _, part in parts)

        def tell() -> None:
            self.on_progress(Progress(sum(self._bytes.values()), total_bytes, time.monotonic() - self._started))

        self._bytes, self._started, left = {}, time.monotonic(), iter(parts)
        self._stop.clear()  # it is set when earlier parts are done
        at_once = min(self.at_once, len(parts))
        if at_once < 2:
            self._work(left, tell)
            return
        with ThreadPoolExecutor(at_once) as pool:
            self._wait([pool.submit(copy_context().run, self._work, left) for _ in range(at_once)], tell)

    def _wait(self, workers: list[Future[None]], tell: Callable[[], None]) -> None:
        try:
            while wait(workers, _TELL_S, FIRST_EXCEPTION).not_done and not self._stop.is_set():
                tell()
        finally:  # also when a person interrupts
            self._stop.set()
        errors = [error for worker in workers if (error := worker.exception())]
        for error in sorted(errors, key=lambda error: isinstance(error, _Stopped)):
            raise error
        tell()

    def _work(self, left: Iterator[tuple[str, Descriptor]], tell: Callable[[], None] = lambda: None) -> None:
        try:
            while one := self._next(left):
                self._copy(one, tell)
        except BaseException:
            self._stop.set()
            raise

    def _next(self, left: Iterator[tuple[str, Descriptor]]) -> Descriptor | None:
        """Take the next part and note it: in order, however many take."""
        with self._lock:
            what, part = next(left, ("", None))
            if part and not self._stop.is_set():
                self.note(what, part)
            return part

    def _copy(self, part: Descriptor, tell: Callable[[], None]) -> None:
        def on_bytes(there: int) -> None:
            if self._stop.is_set():
                raise _Stopped
            self._bytes[part.digest] = there
            tell()

        if path := self.source.local_blob(part.digest):
            self.target.put_blob(part, path, on_bytes)
            return
        with tempfile.TemporaryDirectory(prefix="insitu-") as scratch:
            path = Path(scratch) / "blob"
            self.source.fetch_blob(part, path)
            self.target.put_blob(part, path, on_bytes)
