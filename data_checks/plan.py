"""The plan: for each expectation, how it will be judged, and all that the pass must measure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any

import pyarrow as pa

from data_checks.judge import Expectation, Judge, MetricId, Result, columns_of, failed
from data_checks.measures import ROWS, Measure, Partial
from data_checks.parquet import Table
from data_checks.recipes import Recipe, recipe
from data_checks.scan import frame_of

MISSING = "ColumnMissing"


@dataclass(frozen=True)
class Step:
    """One expectation and its way: missing columns, or recipes, or else (None) GX's own engine."""

    expectation: Expectation
    missing: tuple[str, ...] = ()
    known: Mapping[MetricId, Any] | None = None
    recipes: Mapping[MetricId, Recipe] | None = None


@dataclass(frozen=True)
class Plan:
    """The steps in the suite's order, over one schema."""

    judge: Judge
    steps: tuple[Step, ...]

    @cached_property
    def measures(self) -> tuple[Measure, ...]:
        """Everything to measure, each once, in key order."""
        recipes = (found for step in self.steps for found in (step.recipes or {}).values())
        wanted = {m.key: m for found in recipes for m in found.measures} | {ROWS.key: ROWS}
        return tuple(wanted[key] for key in sorted(wanted))

    @cached_property
    def fingerprint(self) -> str:
        """Hex sha256 over the measures: partials of equal plans can be merged."""
        return sha256("\n".join(m.key for m in self.measures).encode()).hexdigest()


@dataclass(frozen=True)
class Verdict:
    """GX's result for one expectation, and what it cost beyond the one pass."""

    result: Result
    bytes_read: int = 0
    note: str = ""


def make(expectations: Iterable[Expectation], schema: pa.Schema) -> Plan:
    """Return how to judge *expectations* over data of this schema."""
    judge = Judge(schema.empty_table())
    types = frame_of(schema.empty_table()).schema
    return Plan(judge, tuple(_step(judge, expectation, types) for expectation in expectations))


def settle(step: Step, plan: Plan, whole: Partial, table: Table) -> Verdict:
    """Return the verdict on one expectation; raise `DataError`, `BlobChanged` when rows must be read."""
    if step.missing:
        return Verdict(failed(step.expectation, MISSING))
    if step.recipes is None:
        return _by_gx_alone(step.expectation, table)
    try:
        answers = {
            metric: found.answer(*(whole[m.key] for m in found.measures)) for metric, found in step.recipes.items()
        }
    except Exception as exc:  # noqa: BLE001  # an argument that GX let pass, such as an unhashable value
        return Verdict(failed(step.expectation, type(exc).__name__))
    return Verdict(plan.judge.verdict(step.expectation, {**(step.known or {}), **answers}))


def _step(judge: Judge, expectation: Expectation, types: Mapping[str, Any]) -> Step:
    missing = tuple(name for name in columns_of(expectation) if name not in types)
    if missing and expectation.expectation_type != "expect_column_to_exist":
        return Step(expectation, missing=missing)
    try:
        known = judge.schema_metrics(expectation)
        asked = {k: metric for k, metric in judge.wanted(expectation).items() if k not in known}
        recipes = {k: recipe(metric, types) for k, metric in asked.items()}
    except Exception:  # noqa: BLE001  # GX or Polars refuses the arguments: GX with rows has the last word
        return Step(expectation)
    found = {k: r for k, r in recipes.items() if r is not None}
    return Step(expectation, known=known, recipes=found) if len(found) == len(asked) else Step(expectation)


def _by_gx_alone(expectation: Expectation, table: Table) -> Verdict:
    columns = _columns_read(expectation, table.schema.names)
    parts = [table.read(part, columns) for part in table.row_groups]
    bytes_read = sum(n for _, n in parts)
    rows = pa.concat_tables([rows for rows, _ in parts])
    named = f"{expectation.expectation_type} on {', '.join(columns_of(expectation)) or 'the table'}"
    return Verdict(
        Judge(rows).own_verdict(expectation),
        bytes_read,
        f"{named} needs more than one pass: it ran on Great Expectations' own engine"
        f" and read another {bytes_read} bytes",
    )


def _columns_read(expectation: Expectation, names: Sequence[str]) -> Sequence[str]:
    """Return the columns that GX needs: all, where the expectation names none or has a condition."""
    if expectation.configuration.kwargs.get("row_condition"):
        return names
    return columns_of(expectation) or names
