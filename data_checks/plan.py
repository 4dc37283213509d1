"""The plan: for each expectation, how it will be judged, and all that the pass must measure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import polars as pl
import pyarrow as pa

from data_checks.asked import Asked
from data_checks.judge import Expectation, Judge, MetricId, Result, columns_of, failed
from data_checks.measures import ROWS, Measure, Partial, measure
from data_checks.recipes import Recipe, recipe
from data_checks.scan import frame_of
from data_checks.sketches import Bounds

MISSING = "ColumnMissing"


@dataclass(frozen=True)
class Step:
    """One expectation and its way: missing columns, or recipes, or else (None) GX's own engine."""

    expectation: Expectation
    missing: tuple[str, ...] = ()
    known: Mapping[MetricId, Any] | None = None
    recipes: Mapping[MetricId, Recipe] | None = None

    @property
    def name(self) -> str:
        """What people call it: its type and columns."""
        return f"{self.expectation.expectation_type} on {', '.join(columns_of(self.expectation)) or 'the table'}"

    @property
    def needs_rows(self) -> bool:
        """Whether GX itself must see the rows, in a pass of its own."""
        return self.recipes is None and not self.missing

    @property
    def measures(self) -> tuple[Measure, ...]:
        """What must be measured to judge it."""
        return tuple(m for found in (self.recipes or {}).values() for m in found.measures)


@dataclass(frozen=True)
class Plan:
    """The steps in the suite's order, over one schema."""

    judge: Judge
    steps: tuple[Step, ...]

    @cached_property
    def measures(self) -> tuple[Measure, ...]:
        """Everything to measure, each once, in key order."""
        wanted = {m.key: m for step in self.steps for m in step.measures} | {ROWS.key: ROWS}
        return tuple(wanted[key] for key in sorted(wanted))

    def asked(self, names: Sequence[str]) -> Asked:
        """Return what is asked of data with the columns *names*, without how it is judged."""
        unmeasured = tuple(step.name for step in self.steps if step.needs_rows)
        return Asked(self.columns, self.measures, unmeasured, tuple(self._lacking(names)))

    def _lacking(self, names: Sequence[str]) -> Iterator[str]:
        """Yield which expectations are bound to fail, as data with the columns *names* lack one of theirs."""
        for step in self.steps:
            if missing := [name for name in columns_of(step.expectation) if name not in names]:
                yield f"{step.name} will fail: there is no column {', '.join(missing)}"

    @property
    def columns(self) -> frozenset[str]:
        """The columns that the expectations are about."""
        return frozenset(name for step in self.steps for name in columns_of(step.expectation))


def make(expectations: Iterable[Expectation], schema: pa.Schema) -> Plan:
    """Return how to judge *expectations* over data of this schema."""
    judge = Judge(schema.empty_table())
    # What Polars refuses is found on a row of nulls, before any byte is read.
    probe = frame_of(pa.table([pa.nulls(1, field.type) for field in schema], schema.names))
    steps = [_step(judge, expectation, probe.schema) for expectation in expectations]
    if not _computes(probe, steps):
        steps = [step if _computes(probe, [step]) else Step(step.expectation) for step in steps]
    return Plan(judge, tuple(steps))


def settled(step: Step, judge: Judge, whole: Partial) -> tuple[Result, float] | None:
    """Return the verdict on one expectation and within what its value is known; None where summaries do not tell.

    Answers that are only known to lie between bounds settle it when the expectation holds at both ends:
    what GX wants of an observed value is an interval, so it holds in between, too.
    """
    if step.missing:
        return failed(step.expectation, MISSING), 0.0
    answers = _answers(step, whole)
    if isinstance(answers, Exception):  # an argument that GX let pass, such as an unhashable value
        return failed(step.expectation, type(answers).__name__, str(answers)), 0.0
    low, high, middle = ({**(step.known or {}), **_at(answers, end)} for end in ("low", "high", "middle"))
    result = judge.verdict(step.expectation, middle)
    if not (within := _within(answers)):
        return result, 0.0
    holds = result.success and all(judge.verdict(step.expectation, end).success for end in (low, high))
    return (result, within) if holds else None


def exactly(step: Step, whole: Partial) -> Step:
    """Return the step that settles what the summaries left open, by a second pass."""
    recipes = {
        metric: found.exactly(*(whole[m.key] for m in found.measures)) if found.exactly else found
        for metric, found in (step.recipes or {}).items()
    }
    return Step(step.expectation, known=step.known, recipes=recipes)


def _answers(step: Step, whole: Partial) -> Mapping[MetricId, Any] | Exception:
    try:
        return {
            metric: found.answer(*(whole[m.key] for m in found.measures))
            for metric, found in (step.recipes or {}).items()
        }
    except MemoryError:
        raise
    except Exception as exc:  # noqa: BLE001  # reported as the failure of the expectation
        return exc


def _at(answers: Any, end: Literal["low", "high", "middle"]) -> Any:
    if isinstance(answers, Mapping):
        return {metric: _at(answer, end) for metric, answer in answers.items()}
    if isinstance(answers, list):
        return [_at(answer, end) for answer in answers]
    return getattr(answers, end) if isinstance(answers, Bounds) else answers


def _within(answers: Any) -> float:
    if isinstance(answers, Mapping | list):
        return max(map(_within, answers.values() if isinstance(answers, Mapping) else answers), default=0.0)
    return answers.within if isinstance(answers, Bounds) and not answers.exact else 0.0


def _computes(probe: pl.DataFrame, steps: Iterable[Step]) -> bool:
    try:
        measure(probe, {m.key: m for step in steps for m in step.measures}.values())
    except Exception:  # noqa: BLE001  # whatever it is, GX can have it
        return False
    return True


def _step(judge: Judge, expectation: Expectation, types: Mapping[str, pl.DataType]) -> Step:
    missing = tuple(name for name in columns_of(expectation) if name not in types)
    if missing and expectation.expectation_type != "expect_column_to_exist":
        return Step(expectation, missing=missing)
    try:
        known, asked = judge.wanted(expectation)
        recipes = {k: recipe(metric, types) for k, metric in asked.items()}
    except Exception:  # noqa: BLE001  # GX or Polars refuses the arguments: GX with rows has the last word
        return Step(expectation)
    found = {k: r for k, r in recipes.items() if r is not None}
    return Step(expectation, known=known, recipes=found) if len(found) == len(asked) else Step(expectation)


def columns_read(step: Step, names: Sequence[str]) -> Sequence[str]:
    """Return the columns that GX needs: all, where the expectation names none or has a condition."""
    if step.expectation.configuration.kwargs.get("row_condition"):
        return names
    return columns_of(step.expectation) or names
