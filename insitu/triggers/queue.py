"""What is to be done for one model: one small document under conditional writes, so that no two watchers disagree.

A batch enters it in the same write that takes its blobs out of reach for other batches, and leaves it when the
outcome of its work is known.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from insitu.errors import StateDamaged
from insitu.ports import BlobStore
from insitu.triggers import documents

Trouble = Literal["incomplete", "name", "data", "failed"]


@dataclass(frozen=True)
class Entry:
    """A batch that waits for work.

    Attributes:
        key: The batch's key.
        since: When it was found (UTC, ISO).
        folded: Whether the ledger knows its blobs; before that no work begins.
        alone: Whether its run takes no other batch along.
        turn: Empty, or what tells another turn of the same batch apart from the first.
        upto: For a backfill: the last prefix that its run may use.
        again: For a replay: the work whose blobs are used once more.
    """

    key: str
    prefix: str
    since: str
    folded: bool = False
    alone: bool = False
    turn: str = ""
    upto: str | None = None
    again: str | None = None

    @property
    def is_rerun(self) -> bool:
        """Whether the batch has had its turn: then its blobs are in use, however this run ends."""
        return self.upto is not None or self.again is not None


@dataclass(frozen=True)
class Work:
    """The one run that is due or under way, by batches; its blobs are in `work/KEY.json`."""

    key: str
    batches: tuple[str, ...]
    since: str


@dataclass(frozen=True)
class Quarantined:
    """What does not become a run by itself.

    Attributes:
        key: Of the batch; of what is incomplete or has a strange name, a key of its own.
        released: Whether somebody wants what is incomplete to be taken as it is.
    """

    key: str
    prefix: str
    trouble: Trouble
    reason: str
    since: str
    released: bool = False


@dataclass(frozen=True)
class Queue:
    """Everything of one model, oldest first; a value, which `Queues` reads and writes.

    Attributes:
        writes: How often it was written: a folder tells versions apart by their content, and this one never returns.
    """

    entries: tuple[Entry, ...] = ()
    work: Work | None = None
    quarantine: tuple[Quarantined, ...] = ()
    writes: int = 0

    def with_entries(self, added: tuple[Entry, ...]) -> Queue:
        """Return the queue with batches at its end; one that is there already is not added."""
        there = {(entry.key, entry.turn) for entry in self.entries}
        return replace(self, entries=self.entries + tuple(e for e in added if (e.key, e.turn) not in there))

    def find(self, key: str) -> Quarantined | None:
        """Return what is quarantined under the key."""
        return next((one for one in self.quarantine if one.key == key), None)


_ADAPTER = TypeAdapter(Queue)


@dataclass(frozen=True)
class Queues:
    """The document of one model."""

    state: BlobStore
    name: str

    def read(self) -> tuple[Queue, str | None]:
        """Return the queue and its version, which is None before the first write; raise `StateDamaged`."""
        found = documents.read(self.state, self.name)
        return (self._parsed(found[0]), found[1]) if found else (Queue(), None)

    def write(self, queue: Queue, etag: str | None) -> bool:
        """Write the queue over the version *etag*; return whether it was still that one."""
        return documents.write(self.state, self.name, _dump(queue), etag) is not None

    def change(self, edit: Callable[[Queue], Queue]) -> Queue:
        """Write what *edit* makes of the queue, until nobody else came between; return it."""

        def edited(found: Any) -> Any:
            queue = self._parsed(found) if found else Queue()
            wanted = edit(queue)
            return None if wanted == queue else _dump(wanted)

        written = documents.change(self.state, self.name, edited)
        return self._parsed(written) if written else Queue()

    def _parsed(self, value: Any) -> Queue:
        try:
            return _ADAPTER.validate_python(value)
        except ValidationError as exc:
            raise StateDamaged(
                f"{self.name} in the site's state is damaged",
                found="not what a watcher writes",
                next_action=documents.FOUND_AGAIN,
            ) from exc


def _dump(queue: Queue) -> Any:
    """Return the queue's next version as JSON values."""
    return _ADAPTER.dump_python(replace(queue, writes=queue.writes + 1), mode="json", exclude_defaults=True)
