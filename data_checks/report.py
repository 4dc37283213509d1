"""What a validation says: a redacted part that may leave the site, and the full result that may not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Progress:
    """How far the scan is."""

    row_groups_done: int
    row_groups: int
    rows_done: int
    bytes_read: int


@dataclass(frozen=True)
class Outcome:
    """How one expectation went: which, on what, how often and why it failed; never a value of the data.

    Attributes:
        expectation: The expectation's type.
        columns: The columns that it names.
        unexpected_count: Rows (or distinct values) that break it, where it counts them.
        rows: Rows that it looked at, where it counts them.
        reason: A fixed phrase; empty when it holds.
    """

    expectation: str
    columns: tuple[str, ...]
    success: bool
    unexpected_count: int | None
    rows: int | None
    reason: str

    def to_json(self) -> dict[str, Any]:
        """Return the outcome as JSON values."""
        return {**asdict(self), "columns": list(self.columns)}


@dataclass(frozen=True)
class Report:
    """The result of one validation; everything but *full* may leave the site.

    Attributes:
        expectations: How many were judged.
        failed: How many of them failed.
        rows: Rows of the batch.
        bytes_read: Bytes that were asked of the store.
        outcomes: How each went, in the suite's order.
        notes: What the reader should know about how it was checked.
        drift: Reserved; always None.
        full: The complete Great Expectations result as JSON values, with values of the data.
    """

    success: bool
    suite: str
    expectations: int
    failed: int
    rows: int
    bytes_read: int
    outcomes: tuple[Outcome, ...]
    notes: tuple[str, ...]
    drift: None = None
    full: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def failures(self) -> tuple[Outcome, ...]:
        """The outcomes of the expectations that failed."""
        return tuple(outcome for outcome in self.outcomes if not outcome.success)

    def to_json(self) -> dict[str, Any]:
        """Return the redacted part as JSON values."""
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
