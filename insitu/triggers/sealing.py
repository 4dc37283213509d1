"""From a look at the data to batches: each version of each blob goes into one batch at most, whoever looks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from hashlib import sha256
from typing import Any

from insitu.batch import Batch, Blob
from insitu.crashpoints import crashpoint
from insitu.errors import BackendUnavailable
from insitu.ports import BlobStore
from insitu.triggers import documents
from insitu.triggers.book import Book
from insitu.triggers.ledger import version_of
from insitu.triggers.listing import BROKEN, Seen, look, open_partitions
from insitu.triggers.queue import Entry, Quarantined, Queue
from insitu.triggers.rules import Group, Ready, batch_key, judge

_TRIES = 60
_MOST_WAITING, _MOST_STRANGE = 10_000, 1_000


@dataclass(frozen=True)
class Scan:
    """What one look has led to.

    Attributes:
        sealed: The batches that this look has found.
        quarantined: What this look has set aside.
        waiting: By prefix, what is incomplete; see `Book.waiting`.
        unread: Beginnings of names that the store could not list.
        now: The time of the look, by the state's clock.
    """

    sealed: tuple[Entry, ...]
    quarantined: tuple[Quarantined, ...]
    waiting: Mapping[str, Any]
    unread: tuple[str, ...]
    now: datetime


@dataclass(frozen=True)
class Scanner:
    """Looks at the data of one model.

    Attributes:
        broken: What the last look could not read.
        whole: Whether to look at all prefixes, also where only some are open.
    """

    book: Book
    store: BlobStore
    owner: str
    broken: tuple[str, ...] = ()
    whole: bool = False

    def scan(self) -> Scan:
        """Look once; raise `StoreRefused`, `BackendUnavailable`."""
        now = self.book.now(self.owner)
        self.book.ledger.refresh()
        before = self.book.waiting()
        seen = self._look(now)
        for attempt in range(_TRIES):
            queue, etag = self.book.queues.read()
            if any(not entry.folded for entry in queue.entries):
                fold(self.book)
                continue
            self.book.ledger.refresh()  # after the queue was read: nothing that had left it is missed
            seen.drop_known(self.book)
            plan = _Plan(self.book, self.store, self.owner, now)
            plan.judge(seen, queue, before)
            wanted = plan.apply(queue)
            plan.keep_batches()
            crashpoint("watch:batches-kept")
            if wanted == queue or self.book.queues.write(wanted, etag):
                crashpoint("watch:sealed")
                break
            documents.pause(attempt)
        else:
            raise BackendUnavailable(f"{self.book.queues.name} in the site's state is written by others all the time")
        if plan.entries:
            fold(self.book)
        if plan.waiting != before:
            self.book.keep_waiting(plan.waiting)
        return Scan(plan.entries, plan.quarantined, plan.waiting, tuple(seen.unread), now)

    def _look(self, now: datetime) -> Seen:
        """Look at the open partitions; at everything when that is due, or when they cannot be listed by themselves."""
        rule, last = self.book.model.trigger, self.book.last_whole_look()
        is_due = last is None or (now - last).total_seconds() > rule.whole_every_s
        if rule.open_partitions and not self.whole and not is_due:
            with suppress(*BROKEN):
                if (partitions := open_partitions(self.store, self.book)) is not None:
                    return look(self.store, self.book, partitions=partitions)
        seen = look(self.store, self.book, self.broken)
        if rule.open_partitions:
            self.book.note_whole_look(self.owner)
        return seen


@dataclass
class _Plan:
    """What a look would change, as long as nobody else changes the queue."""

    book: Book
    store: BlobStore
    owner: str
    now: datetime
    ready: list[tuple[str, Ready]] = field(default_factory=list)
    waiting: dict[str, Any] = field(default_factory=dict)
    quarantined: tuple[Quarantined, ...] = ()

    def judge(self, seen: Seen, queue: Queue, before: Mapping[str, Any]) -> None:
        model = self.book.model
        released = {one.prefix for one in queue.quarantine if one.trouble == "incomplete" and one.released}
        stuck = list(self._strange(seen))
        for prefix, blobs in sorted(seen.new.items()):
            group = self._group(prefix, blobs, seen.controls.get(prefix), before)
            found = _as_it_is(group) if prefix in released else judge(group, model.trigger, self.store)
            if isinstance(found, Ready):
                self.ready.append((batch_key(model.name, model.trigger, prefix, found.blobs), found))
            stuck.extend(self._left(group, found, before))
        known = {one.key for one in queue.quarantine}
        self.quarantined = tuple(one for one in stuck if one.key not in known)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The new batches, as they enter the queue."""
        since = self.now.isoformat()
        return tuple(Entry(key, ready.prefix, since) for key, ready in self.ready)

    def apply(self, queue: Queue) -> Queue:
        """Return the queue with the new batches, and without what they complete."""
        complete = {ready.prefix for _, ready in self.ready}
        kept = tuple(q for q in queue.quarantine if not (q.trouble == "incomplete" and q.prefix in complete))
        return replace(queue.with_entries(self.entries), quarantine=kept + self.quarantined)

    def keep_batches(self) -> None:
        """Keep what the new batches are; a batch that does not enter the queue in the end is nobody's."""
        container, rule = self.book.model.data.container, self.book.model.trigger
        for key, ready in self.ready:
            control = ready.control
            self.book.keep_batch(key, {
                "key": key, "prefix": ready.prefix, "rule": rule.rule, "why": ready.why,
                "found": self.now.isoformat(), "by": self.owner,
                "batch": Batch.of(container, ready.blobs).to_json(),
                "control": [control.name, version_of(control, is_control=True)] if control else None,
                "works": [],
            })  # fmt: skip

    def _group(self, prefix: str, blobs: Mapping[str, Blob], control: Blob | None, before: Mapping[str, Any]) -> Group:
        new = tuple(sorted(blobs.values()))
        sealed = frozenset(name for name in self.book.ledger.under(prefix) if self.book.prefix(name) == prefix)
        return Group(prefix, new, control, sealed, self._seconds_since(self._since(prefix, new, before)))

    def _left(self, group: Group, found: Ready | str, before: Mapping[str, Any]) -> Iterator[Quarantined]:
        """Note what stays behind of a group, and yield it when it has done so for too long."""
        taken = set(found.blobs) if isinstance(found, Ready) else set()
        left = tuple(blob for blob in group.new if blob not in taken)
        if not left:
            return
        waits = found if isinstance(found, str) else "a manifest that names it"
        since = self._since(group.prefix, group.new, before)
        if len(self.waiting) < _MOST_WAITING:
            self.waiting[group.prefix] = {
                "seen": _content(group.new), "since": since.isoformat(), "blobs": len(left),
                "names": [blob.name for blob in left[:5]], "waits": waits,
            }  # fmt: skip
        if self._seconds_since(since) >= self.book.model.trigger.incomplete_after_s:
            key = sha256(f"incomplete {group.prefix}".encode()).hexdigest()
            yield Quarantined(key, group.prefix, "incomplete", f"waits for {waits}", self.now.isoformat())

    def _strange(self, seen: Seen) -> Iterator[Quarantined]:
        for name, problem in sorted(seen.strange.items())[:_MOST_STRANGE]:
            key = sha256(f"name {name}".encode(errors="surrogatepass")).hexdigest()
            shown = ascii(name)[1:-1]
            yield Quarantined(key, shown, "name", f"the name {problem}", self.now.isoformat())

    def _since(self, prefix: str, new: tuple[Blob, ...], before: Mapping[str, Any]) -> datetime:
        """Return since when the group is as it is, as far as was looked."""
        last = before.get(prefix)
        return datetime.fromisoformat(last["since"]) if last and last["seen"] == _content(new) else self.now

    def _seconds_since(self, moment: datetime) -> float:
        return (self.now - moment).total_seconds()


def fold(book: Book) -> None:
    """Let the ledger know the blobs of the batches that have just entered the queue."""
    queue, _ = book.queues.read()
    new = [entry for entry in queue.entries if not entry.folded]
    if not new:
        return
    for chunk in (new[i : i + 500] for i in range(0, len(new), 500)):
        book.ledger.add(known for entry in chunk for known in _versions(book, entry))
    crashpoint("watch:ledger-written")
    keys = {entry.key for entry in new}
    book.queues.change(lambda q: replace(q, entries=tuple(
        replace(entry, folded=True) if entry.key in keys else entry for entry in q.entries
    )))  # fmt: skip
    crashpoint("watch:folded")


def _versions(book: Book, entry: Entry) -> Iterator[tuple[str, str, str, str]]:
    kept = book.batch(entry.key)
    if kept is None:
        raise BackendUnavailable(f"batch {entry.key[:12]} is not in the site's state yet")
    for blob in kept["batch"]["blobs"]:
        yield entry.prefix, blob["name"], blob["etag"], entry.key
    if kept["control"]:
        name, version = kept["control"]
        yield entry.prefix, name, version, entry.key


def _as_it_is(group: Group) -> Ready:
    return Ready(group.prefix, group.new, group.control, "released from quarantine as it was")


def _content(blobs: tuple[Blob, ...]) -> str:
    digest = sha256()
    for blob in blobs:
        digest.update(f"{blob.name}\0{blob.etag}\0".encode())
    return digest.hexdigest()[:16]
