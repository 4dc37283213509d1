"""What people ask of the queue: out of quarantine, once more, and runs of the past."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

from insitu.errors import UsageError
from insitu.triggers.book import Book
from insitu.triggers.queue import Entry, Quarantined, Queue


def release(book: Book, start: str) -> Quarantined:
    """Let what is quarantined go on: a batch waits for a run of its own, what is incomplete is taken as it is.

    Args:
        book: The model's triggers.
        start: The beginning of the key, or the whole prefix.

    Raises:
        UsageError: There is no such thing in quarantine, or it is a name, which must be changed.
    """
    one = _find(book, start)
    if one.trouble == "name":
        raise UsageError(
            f"{one.prefix} cannot be released: {one.reason}",
            next_action="rename the blob: it is new under another name",
        )

    def edit(queue: Queue) -> Queue:
        if one.trouble == "incomplete":
            marked = tuple(replace(q, released=True) if q.key == one.key else q for q in queue.quarantine)
            return replace(queue, quarantine=marked)
        kept = tuple(q for q in queue.quarantine if q.key != one.key)
        if len(kept) == len(queue.quarantine):  # somebody else was faster
            return queue
        return replace(queue, quarantine=kept).with_entries((_entry(one.key, one.prefix),))

    book.queues.change(edit)
    return one


def replay(book: Book, key: str) -> Entry:
    """Let the batch's last run happen once more, on the same blobs.

    A batch in quarantine, or without a run, gets one on the blobs that lie there now.
    """
    kept = book.batch(key)
    assert kept, "the caller has found it"
    fresh = _entry(key, kept["prefix"])
    again = replace(fresh, again=kept["works"][-1]) if kept["works"] else fresh

    def edit(queue: Queue) -> Queue:
        out = tuple(one for one in queue.quarantine if one.key != key)
        entry = again if out == queue.quarantine else fresh
        return replace(queue, quarantine=out).with_entries((entry,))

    book.queues.change(edit)
    return again


def backfill(book: Book, first: str, last: str) -> list[Entry]:
    """Let a run happen for each prefix from *first* to *last*, in name order, on the batches up to it; oldest first.

    They wait in line: one run of a model at a time.

    Raises:
        UsageError: No batch lies in between.
    """
    batches: dict[str, str] = {}
    for name, versions in book.ledger.all():
        prefix = book.prefix(name)
        if _is_between(prefix, first, last):
            batches[prefix] = versions[-1][1]
    if not batches:
        raise UsageError(
            f"{book.model.name} has no batch from {first} to {last}",
            wanted="prefixes such as month=04/, in name order",
            next_action="`insitu watch --once` finds batches in what lies there",
        )
    entries = [replace(_entry(batches[prefix], prefix), upto=prefix) for prefix in sorted(batches)]
    book.queues.change(lambda queue: queue.with_entries(tuple(entries)))
    return entries


def _is_between(prefix: str, first: str, last: str) -> bool:
    """Tell whether the prefix lies in the window; *last* takes in what lies below it."""
    return first.rstrip("/") <= prefix.rstrip("/") and (
        prefix.rstrip("/") <= last.rstrip("/") or prefix.startswith(last.rstrip("/") + "/")
    )


def _entry(key: str, prefix: str) -> Entry:
    now = datetime.now(UTC).isoformat(timespec="seconds")  # for people only
    return Entry(key, prefix, now, folded=True, alone=True, turn=uuid4().hex)


def _find(book: Book, start: str) -> Quarantined:
    quarantine = book.queues.read()[0].quarantine
    found = [one for one in quarantine if one.prefix == start or (len(start) >= 6 and one.key.startswith(start))]
    if len(found) == 1:
        return found[0]
    raise UsageError(
        f"{book.model.name} has {len(found) or 'nothing'} in quarantine that begins with {start}",
        wanted="6 or more digits of a key, or a prefix",
        next_action=f"insitu quarantine list {book.model.name}",
    )
