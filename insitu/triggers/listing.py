"""One look at a container: what is new, by prefix, while only new blobs are held."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from insitu.batch import Blob
from insitu.errors import BackendUnavailable, InsituError, StoreRefused
from insitu.ports import BlobStore
from insitu.triggers.book import Book
from insitu.triggers.ledger import version_of
from insitu.triggers.rules import control_name, is_data, strangeness

_FIRST = string.ascii_letters + string.digits + "_=-/. +@,()~#&'!$;[]{}"
_DEEPEST = 16
_MOST_WAITING = 100
_NUMBER = re.compile(r"([0-9]+)")
_PROBE = "insitu-does-not-look-here/"
BROKEN = (StoreRefused, BackendUnavailable, ValueError, KeyError)


@dataclass
class Seen:
    """What a look has found.

    Attributes:
        new: By prefix: the data blobs that no batch holds, by name.
        controls: By prefix: the marker or manifest, when it is new.
        strange: Names that are set aside, and what is wrong with them.
        unread: Beginnings of names that the store could not list.
    """

    new: dict[str, dict[str, Blob]] = field(default_factory=dict)
    controls: dict[str, Blob] = field(default_factory=dict)
    strange: dict[str, str] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)

    def drop_unsure(self) -> None:
        """Forget prefixes of which a part could not be listed: what is missing of them is not known."""
        for prefix in list(self.new):
            if any(part.startswith(prefix) or prefix.startswith(part) for part in self.unread):
                del self.new[prefix]

    def drop_known(self, book: Book) -> None:
        """Forget what others have taken into batches since."""
        for prefix, blobs in list(self.new.items()):
            self.new[prefix] = {n: b for n, b in blobs.items() if not book.ledger.knows(prefix, n, version_of(b))}
            if not self.new[prefix]:
                del self.new[prefix]
        for prefix, control in list(self.controls.items()):
            if book.ledger.knows(prefix, control.name, version_of(control, is_control=True)):
                del self.controls[prefix]


def look(store: BlobStore, book: Book, broken: Sequence[str] = (), partitions: Sequence[str] | None = None) -> Seen:
    """Return what *store* holds that no batch does, of everything or of some *partitions* alone.

    *broken* is what the last look could not read.

    Raises:
        StoreRefused: The container is gone or may not be used.
        BackendUnavailable: No answer.
    """
    seen, model = Seen(), book.model
    last = control_name(model.trigger)
    blobs = listed(store, seen.unread, broken) if partitions is None else (b for p in partitions for b in store.list(p))
    for blob in blobs:
        prefix = book.prefix(blob.name)
        if last and blob.name == prefix + last:
            if not book.ledger.knows(prefix, blob.name, version_of(blob, is_control=True)):
                seen.controls[prefix] = blob
        elif is_data(blob.name, model.data.blobs, model.trigger):
            if book.ledger.knows(prefix, blob.name, version_of(blob)):
                continue
            if problem := strangeness(blob.name):
                seen.strange[blob.name] = problem
            else:
                seen.new.setdefault(prefix, {})[blob.name] = blob
    seen.drop_unsure()
    return seen


def open_partitions(store: BlobStore, book: Book) -> list[str] | None:
    """Return the prefixes that a look lists: the last ones in name order, and what waits; None when it is all of them.

    Numbers in names count as numbers: day=9 comes before day=10.
    """
    rule, waiting = book.model.trigger, book.waiting()
    if rule.open_partitions is None or len(waiting) > _MOST_WAITING:
        return None
    last = _last(store, rule.open_partitions, rule.depth)
    found = sorted({*last, *waiting})
    return [one for one in found if not any(one.startswith(other) for other in found if other != one)]


def _last(store: BlobStore, most: int, depth: int | None, prefix: str = "") -> list[str]:
    below = [] if depth == 0 else sorted(store.folders(prefix), key=_with_numbers, reverse=True)
    found: list[str] = []
    for folder in below:
        if len(found) < most:
            found += _last(store, most - len(found), depth and depth - 1, folder)
    return found or [prefix]


def _with_numbers(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in _NUMBER.split(name)]


def listed(store: BlobStore, unread: list[str], broken: Sequence[str] = (), prefix: str = "") -> Iterator[Blob]:
    """Yield the blobs under *prefix*; those that break a listing are gone around, and *unread* says where.

    What was *broken* the last time is gone around at once, since a service takes its time to fail. A blob may come
    twice then, and names with a character that is not in ASCII where others branch off do not come.
    """
    tried = not any(part.startswith(prefix) and part != prefix for part in broken)
    if tried:
        try:
            yield from store.list(prefix)
            return
        except BROKEN as exc:
            if not prefix:
                _require_answer(store, exc)
            if len(prefix) >= _DEEPEST or prefix in broken:
                unread.append(prefix)
                return
    before = len(unread)
    for char in _FIRST:
        if prefix or char not in "/.":  # no name begins so
            yield from listed(store, unread, broken, prefix + char)
    if tried and len(unread) == before:  # the name goes on with a character that was not tried
        unread.append(prefix)


def _require_answer(store: BlobStore, problem: Exception) -> None:
    """Raise *problem* when the store lists nothing at all: then it is no name's fault."""
    try:
        next(iter(store.names(_PROBE)), None)
    except BROKEN:
        if isinstance(problem, InsituError):
            raise problem from None
        raise BackendUnavailable("the listing of a container cannot be read", found=type(problem).__name__) from None
