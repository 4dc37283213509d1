"""Verdicts: from what was measured to GX's judgement, with a second look where that is needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from data_checks.judge import Judge, Result
from data_checks.measures import Partial
from data_checks.passes import Passes
from data_checks.plan import Plan, Step, columns_read, exactly, settled


@dataclass(frozen=True)
class Verdict:
    """GX's result for one expectation, and what should be known about how it came about."""

    result: Result
    note: str = ""


def verdicts(plan: Plan, whole: Partial, passes: Passes) -> list[Verdict]:
    """Return the verdict on each step of *plan*; raise `DataError`, `BlobChanged` when rows must be read."""
    first = [None if step.needs_rows else settled(step, plan.judge, whole) for step in plan.steps]
    is_open = [verdict is None and not step.needs_rows for verdict, step in zip(first, plan.steps, strict=True)]
    second = _second_look([step for step, it_is in zip(plan.steps, is_open, strict=True) if it_is], plan, whole, passes)
    return [
        next(second) if it_is else _by_gx_alone(step, passes) if found is None else _noted(step, *found)
        for step, found, it_is in zip(plan.steps, first, is_open, strict=True)
    ]


def _noted(step: Step, result: Result, within: float) -> Verdict:
    said = f"the value shown is an estimate, known within {within:.1%}; the verdict is exact"
    return Verdict(result, f"{step.name}: {said}" if within else "")


def _second_look(steps: Sequence[Step], plan: Plan, whole: Partial, passes: Passes) -> Iterator[Verdict]:
    """Yield the verdicts on *steps*, which summaries left open, by one more pass over their columns."""
    exact = [exactly(step, whole) for step in steps]
    before = passes.bytes_read
    found = passes.measured({m.key: m for step in exact for m in step.measures}.values(), kept=False) if exact else {}
    note = f"its summary did not settle it: read again, {passes.bytes_read - before} bytes"
    for step in exact:
        settled_now = settled(step, plan.judge, found)
        assert settled_now  # what is exact leaves nothing open
        yield Verdict(settled_now[0], f"{step.name}: {note}")


def _by_gx_alone(step: Step, passes: Passes) -> Verdict:
    before = passes.bytes_read
    rows = passes.rows(columns_read(step, passes.table.schema.names))
    return Verdict(
        Judge(rows).own_verdict(step.expectation),
        f"{step.name} needs more than one pass: it ran on Great Expectations' own engine,"
        f" read another {passes.bytes_read - before} bytes and held {rows.nbytes} bytes in memory",
    )
