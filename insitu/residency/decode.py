"""Opens everything that may hold records before it is scanned: `parts` yields a file and all that it contains.

Nothing is executed, unpickled or loaded as code; what cannot be opened is `Unopened` and named. See docs/residency.md.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from insitu.residency.decoding.formats import is_container, opened
from insitu.residency.decoding.pieces import Budget, Limits, Part, Piece, TooMuch, Unopened, windows

__all__ = ["Limits", "Part", "Unopened", "folder_parts", "parts"]

LIMITS = Limits()


def parts(name: str, data: bytes | memoryview | Path, limits: Limits = LIMITS) -> Iterator[Part | Unopened]:
    """Yield the file *name* itself, then whatever it contains, down to a depth; never raises for what is in it."""
    budget = Budget(limits)
    view = _mapped(data) if isinstance(data, Path) else memoryview(data).cast("B")
    yield Part(name, name.encode("utf-8", "surrogatepass"), "name")
    yield from _walk(Piece(name, view), budget, 0)


def folder_parts(folder: Path, limits: Limits = LIMITS) -> Iterator[Part | Unopened]:
    """Yield the parts of every file below *folder*, in the order of their names; links are named, not followed."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            yield Unopened(name, "it is a link")
        elif path.is_file():
            yield from parts(name, path, limits)
        elif not path.is_dir():
            yield Unopened(name, "it is no ordinary file")


def _mapped(path: Path) -> memoryview:
    with path.open("rb") as file:
        if not path.stat().st_size:
            return memoryview(b"")
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _walk(piece: Piece, budget: Budget, depth: int) -> Iterator[Part | Unopened]:
    """Yield *piece*, then what is found in it; whatever goes wrong is told as `Unopened`."""
    try:
        budget.count()
        yield from windows(piece)
        if piece.leaf or not len(piece.data):
            return
        if depth >= budget.limits.depth:
            if is_container(piece.data):
                yield Unopened(piece.path, f"it is nested more than {budget.limits.depth} deep")
            return
        for found in opened(piece, budget):
            if isinstance(found, Unopened):
                yield found
            else:
                yield from _walk(found, budget, depth + 1)
    except TooMuch as exc:
        if exc.final and depth:
            raise
        yield Unopened(piece.path, exc.why)
    except Exception as exc:  # noqa: BLE001 - hostile bytes make the readers of formats raise anything
        yield Unopened(piece.path, f"it is damaged, or is not what it begins as: {type(exc).__name__}")
