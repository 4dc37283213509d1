"""What a validation says: a redacted part without a value of the data, and the full result, which has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Progress:
    """How far a validation is.

    Attributes:
        rows: Rows of the batch; None while that is not known.
        bytes_done: Bytes that were asked of the store.
        bytes_total: Bytes that will have been asked at the end, as far as that can be told.
        blobs_done: Blobs that need no more reading, *cached_blobs* among them.
        cached_blobs: Blobs that an earlier run has measured.
        seconds: Since the start.
    """

    rows_done: int = 0
    rows: int | None = None
    bytes_done: int = 0
    bytes_total: int = 0
    blobs_done: int = 0
    blobs: int = 0
    cached_blobs: int = 0
    seconds: float = 0.0

    @property
    def fraction(self) -> float:
        """The part that is done, 0 to 1, by bytes; by blobs where nothing has to be read."""
        done, total = (self.bytes_done, self.bytes_total) if self.bytes_total else (self.blobs_done, self.blobs)
        return min(1.0, done / total) if total else 0.0

    @property
    def rate(self) -> float:
        """Bytes per second."""
        return self.bytes_done / self.seconds if self.seconds else 0.0

    @property
    def text(self) -> str:
        """What people read, such as "12 of 32 blobs (4 known), 3.1 of 5.0 M rows, 72 of 149 MB, 81 MB/s"."""
        known = f" ({self.cached_blobs:,} known)" if self.cached_blobs else ""
        digits = 1 if self.bytes_total < 10_000_000 else 0
        done, total = (f"{size_bytes / 1e6:,.{digits}f}" for size_bytes in (self.bytes_done, self.bytes_total))
        return (
            f"{self.blobs_done:,} of {self.blobs:,} blobs{known}, {_rows(self.rows_done, self.rows)}, "
            f"{done} of {total} MB, {self.rate / 1e6:,.0f} MB/s"
        )


def _rows(done: int, total: int | None) -> str:
    known = (done,) if total is None else (done, total)
    if max(known) < 1_000_000:
        return " of ".join(f"{rows:,}" for rows in known) + " rows"
    return " of ".join(f"{rows / 1e6:,.1f}" for rows in known) + " M rows"


@dataclass(frozen=True)
class Outlook:
    """What a validation would do.

    Attributes:
        known_blobs: Blobs that were measured before and need not be read.
        rows: None where only reading tells.
        columns: How many columns of the others are read.
        bytes_to_read: To open the others, and of those columns.
        second_pass: Expectations that Great Expectations' own engine will judge, in a pass of its own each.
        notes: What should be known about how the blobs fit together, and which expectations are bound to fail.
        looked_at: How many blobs this follows from; fewer than all: the figures are estimates.
    """

    suite: str
    expectations: int
    blobs: int
    known_blobs: int
    rows: int | None
    columns: int
    bytes_to_read: int
    second_pass: tuple[str, ...]
    notes: tuple[str, ...]
    looked_at: int = 0


@dataclass(frozen=True)
class Outcome:
    """How one expectation went: which, on what, how often and why it failed; never a value of the data.

    Attributes:
        expectation: The expectation's type.
        columns: The columns that it names.
        unexpected_count: Rows (or distinct values) that break it, where it counts them.
        rows: Rows that it looked at, where it counts them.
        reason: A fixed phrase; empty when it holds.
        blobs: Where it fails row by row: names of blobs and how many such rows each has, the most first. They stay on
            site, as names of blobs do.
        more_blobs: How many others have such rows.
    """

    expectation: str
    columns: tuple[str, ...]
    success: bool
    unexpected_count: int | None
    rows: int | None
    reason: str
    blobs: tuple[tuple[str, int], ...] = ()
    more_blobs: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the outcome as JSON values."""
        blobs = [{"name": name, "rows": rows} for name, rows in self.blobs]
        return {**asdict(self), "columns": list(self.columns), "blobs": blobs}


@dataclass(frozen=True)
class Report:
    """The result of one validation: values of the data are in *full* and *profile* alone, which stay on site.

    The rest may leave it, but for the names of blobs in *outcomes*.

    Attributes:
        expectations: How many were judged.
        failed: How many of them failed.
        rows: Rows of the batch.
        bytes_read: Bytes that were asked of the store.
        outcomes: How each went, in the suite's order.
        notes: What the reader should know about how it was checked.
        drift: How far the new data is from the champion's: `champion`, `rows` and `blobs` of the new data,
            and per column four figures (see `data_checks.drift`); None without a champion.
        full: The complete Great Expectations result as JSON values, with values of the data.
        profile: What the next champion is compared by (see `data_checks.profiles`), likewise.
    """

    success: bool
    suite: str
    expectations: int
    failed: int
    rows: int
    bytes_read: int
    outcomes: tuple[Outcome, ...]
    notes: tuple[str, ...]
    drift: Mapping[str, Any] | None = None
    full: Mapping[str, Any] = field(default_factory=dict, repr=False)
    profile: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def failures(self) -> tuple[Outcome, ...]:
        """The outcomes of the expectations that failed."""
        return tuple(outcome for outcome in self.outcomes if not outcome.success)

    def to_json(self) -> dict[str, Any]:
        """Return the redacted part as JSON values; its outcomes name blobs, which stay on site."""
        return {
            "success": self.success,
            "suite": self.suite,
            "expectations": self.expectations,
            "failed": self.failed,
            "rows": self.rows,
            "bytes_read": self.bytes_read,
            "drift": self.drift,
            "failures": [outcome.to_json() for outcome in self.failures],
            "outcomes": [outcome.to_json() for outcome in self.outcomes],
            "notes": list(self.notes),
        }
