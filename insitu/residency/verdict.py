"""What a scan means: clear, warned or blocked, who holds data, and what to use instead. Names and counts, no values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from insitu.errors import LeakFound
from insitu.residency.origin import instead_of
from insitu.residency.scan import SCANNER, Leak, Scan

MAX_CELLS = 32
"""Single values that an artifact may hold: extremes, edges of bins."""

_NAMED = 8
"""How many columns, holders or parts a message names."""


@dataclass(frozen=True)
class Holder:
    """Something in an artifact that holds data.

    Attributes:
        file: The file, and the part of it.
        estimator: What its bytes, or else the matrix, say; None where nothing does.
        attribute: Of the estimator.
        what: "rows", "lines" or "cells".
        count: How many different ones.
        columns: Whose values they are, the first few.
        instead: What to use.
    """

    file: str
    estimator: str | None
    attribute: str | None
    what: str
    count: int
    columns: tuple[str, ...]
    instead: str

    def render(self) -> str:
        """Return one line for people."""
        name = ".".join(part for part in (self.estimator, self.attribute) if part)
        columns = f" of {', '.join(self.columns)}" if self.columns else ""
        return f"{self.file}: {self.count:,} {self.what}{columns}" + (f" in {name}" if name else "")


@dataclass(frozen=True)
class Ruling:
    """A verdict over a scan."""

    verdict: Literal["clear", "warned", "blocked"]
    rows_found: int
    cells_found: int
    holders: tuple[Holder, ...]
    unopened: tuple[tuple[str, str], ...]
    scan: Scan

    def to_json(self) -> dict[str, Any]:
        """Return what goes on record: counts, names, thresholds."""
        return {
            "verdict": self.verdict,
            "rows_found": self.rows_found,
            "cells_found": self.cells_found,
            "bytes_scanned": self.scan.bytes_scanned,
            "entries": self.scan.entries,
            "unopened": [{"path": path, "why": why} for path, why in self.unopened],
            "threshold_bits": round(self.scan.threshold_bits, 1),
            "seconds": round(self.scan.seconds, 3),
            "scanner": SCANNER,
            "holders": [asdict(holder) for holder in self.holders],
        }

    def require_clear(self, what: str) -> None:
        """Raise `LeakFound` where *what* must not leave."""
        if self.verdict == "blocked":
            raise refusal(what, self.to_json())


def rule(scan: Scan, max_cells: int = MAX_CELLS) -> Ruling:
    """Return the verdict: a row or a line blocks, so do more than *max_cells* single values, and what stays shut."""
    rows, cells = _most(scan.leaks), _cells(scan.leaks)
    blocked = rows > 0 or cells > max_cells or bool(scan.unopened)
    verdict: Literal["clear", "warned", "blocked"] = "blocked" if blocked else "warned" if cells else "clear"
    unopened = tuple(dict.fromkeys((part.path, part.why) for part in scan.unopened))
    return Ruling(verdict, rows, cells, tuple(_holders(scan.leaks, rows > 0)), unopened, scan)


def refusal(what: str, told: Mapping[str, Any]) -> LeakFound:
    """Return the error that says why *what* must not leave, from a ruling as JSON."""
    holders = [Holder(**{**holder, "columns": tuple(holder["columns"])}) for holder in told["holders"]]
    lines = [holder.render() for holder in holders[:_NAMED]]
    lines += [f"{part['path']} cannot be opened: {part['why']}" for part in told["unopened"][:_NAMED]]
    beyond = max(0, len(holders) - _NAMED) + max(0, len(told["unopened"]) - _NAMED)
    advice = list(dict.fromkeys(holder.instead for holder in holders))[:3]
    if told["unopened"]:
        advice.append("leave what cannot be opened out of the artifact")
    return LeakFound(
        f"{what} {'holds records of the data' if holders else 'cannot be cleared'}: it must not leave the site",
        found="; ".join(lines) + (f"; and {beyond} more" if beyond else ""),
        wanted="no row, and single values within residency.max_cells of model.toml",
        next_action="use " + "; or ".join(advice) if holders else advice[0],
    )


def _most(leaks: Iterable[Leak]) -> int:
    """Return how many records were found: the most of one source, for the batch and `fit` know the same ones."""
    by_source: dict[tuple[str, ...], set[Any]] = {}
    for leak in leaks:
        if leak.what != "cells":
            by_source.setdefault((leak.what, *leak.source), set()).update(leak.ids)
    return max(map(len, by_source.values()), default=0)


def _cells(leaks: Iterable[Leak]) -> int:
    return len({mark for leak in leaks if leak.what == "cells" for mark in leak.ids})


def _holders(leaks: Iterable[Leak], any_rows: bool) -> Iterator[Holder]:
    """Yield one holder per file, object and kind, the largest first; cells only where no rows tell more.

    What was found again in a part that was decoded from a named object adds nothing.
    """
    groups: dict[tuple[str, str | None, str | None, str], list[Leak]] = {}
    told: dict[tuple[str, ...], set[Any]] = {}
    for leak in sorted(leaks, key=lambda leak: (leak.origin is None, leak.path)):
        known = told.setdefault((leak.what, *(leak.source if leak.what == "rows" else ())), set())
        if (leak.what == "cells" and any_rows) or (leak.origin is None and leak.ids <= known):
            continue
        known |= leak.ids
        estimator = (leak.origin and leak.origin.estimator) or _fitted(leak.source)
        attribute = leak.origin.attribute if leak.origin else None
        groups.setdefault((leak.path, estimator, attribute, leak.what), []).append(leak)
    found = []
    for (path, estimator, attribute, what), members in groups.items():
        count = _cells(members) if what == "cells" else _most(members)
        columns = tuple(dict.fromkeys(name for leak in members for name in leak.columns))[:_NAMED]
        found.append(Holder(path, estimator, attribute, what, count, columns, instead_of(estimator)))
    yield from sorted(found, key=lambda holder: -holder.count)


def _fitted(source: tuple[str, ...]) -> str | None:
    """Return the last estimator whose `fit` was given the source: those around it hand it on."""
    names = [label.removesuffix(".fit") for label in source if label.endswith(".fit")]
    return names[-1] if names else None
