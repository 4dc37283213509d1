"""What a scan means: clear, warned or blocked, who holds data, and what to use instead. Names and counts, no values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from shlex import quote
from types import MappingProxyType
from typing import Any, Literal

from insitu.errors import LeakFound
from insitu.residency.origin import NO_ROWS, instead_of
from insitu.residency.scan import SCANNER, Leak, Scan
from insitu.residency.waivers import Find, Scope, root_of

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
        columns: Whose values they are; the first few are told.
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
        columns = f" of {', '.join(self.columns[:_NAMED])}" if self.columns else ""
        return f"{self.file}: {self.count:,} {self.what}{columns}" + (f" in {name}" if name else "")


@dataclass(frozen=True)
class Waived:
    """A find that a person lets pass, and the waiver: its number, by whom, why, until when."""

    find: Find
    waiver: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return what goes on record."""
        return {**asdict(self.find), "columns": list(self.find.columns), "waiver": dict(self.waiver)}


@dataclass(frozen=True)
class Allowance:
    """A waiver as a scan needs it: what it is about, and what is said of it."""

    scope: Scope
    told: Mapping[str, Any]

    @staticmethod
    def of(value: Mapping[str, Any]) -> Allowance:
        """Return what a job was told of a waiver."""
        scope = Scope(**{**value["scope"], "columns": tuple(value["scope"]["columns"])})
        return Allowance(scope, {key: one for key, one in value.items() if key not in ("scope", "status")})


@dataclass(frozen=True)
class Ruling:
    """A verdict over a scan; of one that is blocked, *holders* and *unopened* are what nobody waives."""

    verdict: Literal["clear", "warned", "waived", "blocked"]
    rows_found: int
    cells_found: int
    holders: tuple[Holder, ...]
    unopened: tuple[tuple[str, str], ...]
    scan: Scan
    waived: tuple[Waived, ...] = ()
    digests: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return what goes on record: counts, names, thresholds."""
        return {
            "verdict": self.verdict,
            "rows_found": self.rows_found,
            "cells_found": self.cells_found,
            "bytes_scanned": self.scan.bytes_scanned,
            "entries": self.scan.entries,
            "unopened": [self._unopened(path, why) for path, why in self.unopened],
            "threshold_bits": round(self.scan.threshold_bits, 1),
            "seconds": round(self.scan.seconds, 3),
            "scanner": SCANNER,
            "holders": [asdict(one) | {"columns": list(one.columns[:_NAMED])} for one in self.holders],
            "waived": [one.to_json() for one in self.waived],
        }

    def _unopened(self, path: str, why: str) -> dict[str, str]:
        digest = self.digests.get(root_of(path))
        return {"path": path, "why": why, **({"sha256": digest} if digest else {})}

    def require_clear(self, what: str, waivable: str | None = None) -> None:
        """Raise `LeakFound` where *what* must not leave; *waivable*: the model, where people may waive its finds."""
        if self.verdict == "blocked":
            raise refusal(what, self.to_json(), waivable)


def rule(
    scan: Scan,
    max_cells: int = MAX_CELLS,
    waivers: Sequence[Allowance] = (),
    digests: Mapping[str, str] = MappingProxyType({}),
) -> Ruling:
    """Return the verdict: a row or a line blocks, so do more than *max_cells* single values, and what stays shut.

    Args:
        scan: What was found.
        max_cells: Single values that are let pass.
        waivers: What people let pass; nothing else of what was found is.
        digests: Hex sha256 of the files that were scanned.
    """
    shut = list(dict.fromkeys((part.path, part.why) for part in scan.unopened))
    waived, leaks = _sift(scan.leaks, waivers, digests)
    opened, unopened = _sift_unopened(shut, waivers, digests)
    rows, cells = _most(leaks), _cells(leaks)
    if rows or cells > max_cells or unopened:
        holders = tuple(_holders(leaks, rows > 0))
        return Ruling("blocked", rows, cells, holders, tuple(unopened), scan, digests=digests)
    verdict: Literal["clear", "warned", "waived"] = "waived" if waived or opened else "warned" if cells else "clear"
    rows, cells = _most(scan.leaks), _cells(scan.leaks)
    holders = tuple(_holders(scan.leaks, rows > 0))
    return Ruling(verdict, rows, cells, holders, tuple(shut), scan, (*waived, *opened), digests)


def _sift(
    leaks: Sequence[Leak], waivers: Sequence[Allowance], digests: Mapping[str, str]
) -> tuple[list[Waived], list[Leak]]:
    """Return what *waivers* let pass of *leaks*, and the leaks that are left."""
    waived, left = list[Waived](), list(leaks)
    for one in waivers:
        scope, most = replace(one.scope, most=None), one.scope.most
        mine = [leak for leak in left if scope.covers(_find(leak, digests))]
        alone = _alone(mine)
        for these in ([leak for leak in mine if leak not in alone], alone):
            if these and (most is None or (_most(these) or _cells(these)) <= most):
                waived += [Waived(find, one.told) for find in _finds(these, digests)]
                left = [leak for leak in left if leak not in these and not _is_echo(leak, these)]
    return waived, left


def _alone(leaks: Sequence[Leak]) -> list[Leak]:
    """Return the single values among *leaks* that are not of their rows: of another file, other columns, or too many.

    Rows hold one value of a column each.
    """
    values: dict[tuple[Any, ...], list[Leak]] = {}
    for leak in leaks:
        if leak.what == "cells":
            values.setdefault((root_of(leak.path), leak.source, leak.columns), []).append(leak)
    alone = []
    for (file, _, columns), cells in values.items():
        whole = [leak for leak in leaks if leak.what != "cells" and root_of(leak.path) == file]
        known = {name for leak in whole for name in leak.columns}
        is_theirs = set(columns) <= known or any(not leak.columns for leak in whole)  # a line is a whole row
        if not is_theirs or _cells(cells) > _most(whole):
            alone += cells
    return alone


def _finds(leaks: Sequence[Leak], digests: Mapping[str, str]) -> Iterator[Find]:
    """Yield what *leaks* come to, file by file; single values that are of whole rows are told with them."""
    for file in dict.fromkeys(root_of(leak.path) for leak in leaks):
        mine = [leak for leak in leaks if root_of(leak.path) == file]
        for held in _holders(mine, _most(mine) > 0):
            yield Find(held.what, held.file, held.estimator, held.columns, held.count, digests.get(file))


def _find(leak: Leak, digests: Mapping[str, str]) -> Find:
    count = len(leak.ids)
    return Find(leak.what, leak.path, _estimator(leak), leak.columns, count, digests.get(root_of(leak.path)))


def _is_echo(leak: Leak, waived: Sequence[Leak]) -> bool:
    """Tell whether a leak that no object is named for tells of the very records that were waived in the same file."""
    if leak.origin is not None or leak.what == "cells":
        return False
    about = (leak.what, root_of(leak.path), leak.source)
    same = [one for one in waived if (one.what, root_of(one.path), one.source) == about]
    return bool(same) and leak.ids <= frozenset[Any]().union(*(one.ids for one in same))


def _sift_unopened(
    shut: Sequence[tuple[str, str]], waivers: Sequence[Allowance], digests: Mapping[str, str]
) -> tuple[list[Waived], list[tuple[str, str]]]:
    """Return what *waivers* let pass of what cannot be opened, and what is left of it."""
    waived, left = list[Waived](), list[tuple[str, str]]()
    for path, why in shut:
        find = Find("unopened", path, None, (), 1, digests.get(root_of(path)))
        told = next((one.told for one in waivers if one.scope.covers(find)), None)
        if told is None:
            left.append((path, why))
        else:
            waived.append(Waived(find, told))
    return waived, left


def refusal(what: str, told: Mapping[str, Any], waivable: str | None = None) -> LeakFound:
    """Return the error that says why *what* must not leave, from a ruling as JSON; see `Ruling.require_clear`."""
    holders = [Holder(**{**holder, "columns": tuple(holder["columns"])}) for holder in told["holders"]]
    lines = [holder.render() for holder in holders[:_NAMED]]
    lines += [_shut(part) for part in told["unopened"][:_NAMED]]
    beyond = max(0, len(holders) - _NAMED) + max(0, len(told["unopened"]) - _NAMED)
    first, once, others = "; or ".join(list(dict.fromkeys(one.instead for one in holders))[:3]).partition(NO_ROWS)
    advice = [f"use {first}{once}{others.replace(NO_ROWS, '')}"] if holders else []
    if told["unopened"]:
        advice.append("leave what cannot be opened out of the artifact")
    if waivable:
        find = f"--file {quote(root_of(holders[0].file))}" if holders else _option(told["unopened"][0])
        advice.append(f"if it may leave, have it waived: insitu waive {waivable} {find} ...")
    return LeakFound(
        f"{what} {'holds records of the data' if holders else 'cannot be cleared'}: it must not leave the site",
        found="; ".join(lines) + (f"; and {beyond} more" if beyond else ""),
        wanted="no row, and single values within residency.max_cells of model.toml",
        next_action="; or ".join(advice),
    )


def _option(unopened: Mapping[str, str]) -> str:
    return f"--unopened {quote(root_of(unopened['path']))} --digest {unopened.get('sha256', 'SHA256')}"


def _shut(part: Mapping[str, str]) -> str:
    of = f" (sha256 {part['sha256']})" if "sha256" in part else ""
    return f"{part['path']} cannot be opened: {part['why']}{of}"


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

    What was found again in a part of the same file that was decoded from a named object adds nothing.
    """
    groups: dict[tuple[str, str | None, str | None, str], list[Leak]] = {}
    told: dict[tuple[str, ...], set[Any]] = {}
    for leak in sorted(leaks, key=lambda leak: (leak.origin is None, leak.path)):
        of_file = (root_of(leak.path), leak.what, *(leak.source if leak.what == "rows" else ()))
        known = told.setdefault(of_file, set())
        if (leak.what == "cells" and any_rows) or (leak.origin is None and leak.ids <= known):
            continue
        known |= leak.ids
        attribute = leak.origin.attribute if leak.origin else None
        groups.setdefault((leak.path, _estimator(leak), attribute, leak.what), []).append(leak)
    found = []
    for (path, estimator, attribute, what), members in groups.items():
        count = _cells(members) if what == "cells" else _most(members)
        columns = tuple(dict.fromkeys(name for leak in members for name in leak.columns))
        found.append(Holder(path, estimator, attribute, what, count, columns, instead_of(estimator)))
    yield from sorted(found, key=lambda holder: -holder.count)


def _estimator(leak: Leak) -> str | None:
    return (leak.origin and leak.origin.estimator) or _fitted(leak.source)


def _fitted(source: tuple[str, ...]) -> str | None:
    """Return the last estimator whose `fit` was given the source: those around it hand it on."""
    names = [label.removesuffix(".fit") for label in source if label.endswith(".fit")]
    return names[-1] if names else None
