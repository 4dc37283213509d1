"""From batches to one piece of work, and from its outcome back to the queue."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from typing import Any, Literal, Protocol
from uuid import uuid4

from insitu.batch import Batch, Blob
from insitu.crashpoints import crashpoint
from insitu.ports import BlobStore
from insitu.triggers.book import Book
from insitu.triggers.ledger import Versions, version_of
from insitu.triggers.listing import listed
from insitu.triggers.queue import Entry, Quarantined, Queue, Work
from insitu.triggers.rules import is_data, strangeness

Verdict = Literal["done", "data", "changed", "failed", "busy", "stopped", "cancelled"]


@dataclass(frozen=True)
class Outcome:
    """How an attempt at a work ended.

    Attributes:
        verdict: `done`; `data` when the data is at fault; `changed` when a pinned blob was overwritten; `failed`,
            which is tried again; `busy` when another run of the model was under way; `stopped` with its watcher;
            `cancelled` by somebody, which is not tried again.
        told: What is known: `state`, `run_key`, `version`, `flow_run`, `error`.
    """

    verdict: Verdict
    told: Mapping[str, Any]


@dataclass(frozen=True)
class Job:
    """What a runner gets: one run of one model on pinned blobs.

    Attributes:
        key: Of the work: the same blobs for the same batches have the same.
        attempt: From 1; a new one after an attempt that failed.
        epoch: Whose turn it is; a larger one is a later holder's.
        waits: How often another run of the model was in the way; each time is another start.
    """

    model: str
    key: str
    attempt: int
    epoch: int
    batches: tuple[str, ...]
    batch: Batch
    waits: int = 0


class Running(Protocol):
    """A run under way."""

    def outcome(self) -> Outcome | None:
        """Return how it ended; None while it goes on."""
        ...

    def stop(self) -> None:
        """End it, and return when it has ended."""
        ...


class Runner(Protocol):
    """Starts runs."""

    def start(self, job: Job) -> Running:
        """Start the run, or find the one that this key and attempt started."""
        ...


def assign(book: Book, store: BlobStore, now: datetime, broken: Sequence[str] = ()) -> Queue:
    """Make the oldest batches of the queue the next work, unless there is one or none can begin; return the queue.

    Its run uses every blob that is in a batch now, except those of batches in quarantine, and of batches that wait
    for a work of their own. While a blob is being overwritten, or cannot be listed, nothing begins: the run would
    lack it. *broken* is what the last look could not list.
    """
    queue, etag = book.queues.read()
    chosen = _next(book, queue)
    if queue.work or not chosen:
        return queue
    book.ledger.refresh()
    batch = _manifest(book, store, queue, chosen, broken)
    if batch is None:
        return queue
    work = Work(_work_key(batch, chosen), tuple(entry.key for entry in chosen), now.isoformat())
    book.keep_manifest(work.key, batch)
    crashpoint("watch:manifest-kept")
    wanted = replace(queue, work=work)
    written = book.queues.write(wanted, etag)
    crashpoint("watch:assigned")
    return wanted if written else book.queues.read()[0]


def settle(book: Book, work: Work, outcome: Outcome, now: datetime) -> tuple[Quarantined, ...]:
    """Take a work that has ended out of the queue; return what was quarantined by it.

    Anybody may do it, and twice does no harm.
    """
    for key in work.batches:
        book.note_work(key, work.key)
        crashpoint("watch:batch-noted")
    quarantined: tuple[Quarantined, ...] = ()

    def edit(queue: Queue) -> Queue:
        nonlocal quarantined
        if queue.work is None or queue.work.key != work.key:
            quarantined = ()
            return queue
        mine, others = _split(queue, work)
        quarantined, again = _consequences(mine, outcome, now)
        there = {one.key for one in quarantined}
        kept = tuple(one for one in queue.quarantine if one.key not in there)
        return replace(queue, entries=again + others, work=None, quarantine=kept + quarantined)

    book.queues.change(edit)
    crashpoint("watch:settled")
    return quarantined


def _next(book: Book, queue: Queue) -> list[Entry]:
    """Return the batches of the next work: the oldest, and those after it that may go along."""
    ready = [entry for entry in queue.entries if entry.folded]
    if not ready:
        return []
    first = ready[0]
    if first.alone or not book.model.trigger.coalesce:
        return [first]
    return [entry for entry in ready if not entry.alone]


def _manifest(
    book: Book, store: BlobStore, queue: Queue, chosen: Sequence[Entry], broken: Sequence[str]
) -> Batch | None:
    """Return the blobs of the next run; None while one is being overwritten or cannot be listed."""
    first = chosen[0]
    if first.again:
        return book.manifest(first.again)
    mine = {entry.key for entry in chosen}
    apart = {entry.key for entry in queue.entries if not entry.is_rerun} | {one.key for one in queue.quarantine}
    excluded = _blobs(book, apart - mine) - _blobs(book, mine)
    stuck = {one.prefix for one in queue.quarantine if one.trouble == "incomplete"}
    found: dict[str, Blob] = {}
    under: dict[str, Versions] = {}
    unread: list[str] = []
    for blob in listed(store, unread, broken):
        prefix = book.prefix(blob.name)
        if not is_data(blob.name, book.model.data.blobs, book.model.trigger) or strangeness(blob.name):
            continue
        if not book.ledger.knows(prefix, blob.name, version_of(blob)):
            if prefix not in stuck and blob.name in under.setdefault(prefix, book.ledger.under(prefix)):
                return None
        elif (blob.name, blob.etag) not in excluded and (first.upto is None or prefix <= first.upto):
            found[blob.name] = blob
    if unread and any(name.startswith(tuple(unread)) for name, _ in book.ledger.all()):
        return None
    return Batch.of(book.model.data.container, found.values())


def _blobs(book: Book, keys: set[str]) -> set[tuple[str, str]]:
    return {blob for key in keys for blob in book.blobs(key)}


def _work_key(batch: Batch, chosen: Sequence[Entry]) -> str:
    parts = [batch.fingerprint, sorted([entry.key, entry.turn] for entry in chosen)]
    return sha256(json.dumps(parts).encode()).hexdigest()


def _split(queue: Queue, work: Work) -> tuple[tuple[Entry, ...], tuple[Entry, ...]]:
    """Return the entries that the work took, and the others: of two turns of one batch it took the older one."""
    wanted = set(work.batches)
    mine: list[Entry] = []
    others: list[Entry] = []
    for entry in queue.entries:
        (mine if entry.key in wanted else others).append(entry)
        wanted.discard(entry.key)
    return tuple(mine), tuple(others)


def _consequences(
    mine: tuple[Entry, ...], outcome: Outcome, now: datetime
) -> tuple[tuple[Quarantined, ...], tuple[Entry, ...]]:
    """Return what is quarantined, and what is to be done again: one bad batch takes no other along."""
    if outcome.verdict == "done":
        return (), ()
    if outcome.verdict == "changed":
        return (), tuple(replace(entry, turn=uuid4().hex, again=None) for entry in mine)
    if outcome.verdict == "data" and len(mine) > 1:
        return (), tuple(replace(entry, turn=uuid4().hex, alone=True) for entry in mine)
    error = outcome.told.get("error") or {}
    reason = str(error.get("what") or outcome.told.get("state") or "failed")
    trouble: Literal["data", "failed"] = "data" if outcome.verdict == "data" else "failed"
    bad = tuple(entry for entry in mine if not entry.is_rerun)
    return tuple(Quarantined(one.key, one.prefix, trouble, reason, now.isoformat()) for one in bad), ()
