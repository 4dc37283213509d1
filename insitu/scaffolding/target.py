"""What is predicted: as the person said, or as plain from the data; where it is neither, a question."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from insitu.errors import DataError, UsageError
from insitu.scaffolding.columns import Column

_NAMES = ("target", "label", "y", "class", "outcome", "response")
_CLASSES = 20
"""Distinct values up to which a column can hold classes."""

Task = Literal["classification", "regression"]


@dataclass(frozen=True)
class Question:
    """What only a person knows.

    Attributes:
        option: The option that answers it.
        choices: The answers; classes among them are values of the data.
    """

    text: str
    option: str
    choices: tuple[str, ...]


@dataclass(frozen=True)
class Wishes:
    """What the person has said; None where nothing."""

    target: str | None = None
    task: Task | None = None
    positive: str | None = None

    def may_be_target(self, name: str) -> bool:
        """Tell whether a column of that name is the one to predict, or may be taken for it."""
        return name.casefold() in _NAMES if self.target is None else name == self.target


@dataclass(frozen=True)
class Target:
    """What is predicted.

    Attributes:
        above: For a classification, the label is column > this.
        one: For a classification, the label is column == this.
        classes: For a classification, all of three or more, each with an answer of its own; none where one is told
            from the others.
    """

    column: Column
    task: Task
    above: float | None = None
    one: Any = None
    classes: tuple[Any, ...] = ()

    @property
    def rarer(self) -> int:
        """How many rows the rarest class has."""
        return self.rarest_of(dict(self.column.categories))

    def rarest_of(self, counts: Mapping[Any, int]) -> int:
        """Return how many rows the rarest class has where each value has so many."""
        if self.classes:
            return min(counts.get(one, 0) for one in self.classes)
        positive = sum(rows for value, rows in counts.items() if self._is_positive(value))
        return min(positive, sum(counts.values()) - positive)

    def _is_positive(self, value: Any) -> bool:
        if self.one is not None:
            return bool(value == self.one)
        return bool(value > (self.above or 0))


def settle(columns: Sequence[Column], wishes: Wishes) -> Target | Question:
    """Return what is predicted, or what to ask first.

    Raises:
        UsageError: There is no such column or class, or the column cannot be predicted so.
        DataError: No column can be predicted, or the one that was named holds infinite values.
    """
    column = _column(columns, wishes.target)
    if isinstance(column, Question):
        return column
    _require_usable(column)
    task = wishes.task or _task(column)
    if isinstance(task, Question):
        return task
    if task == "classification":
        return _classes(column, wishes.positive)
    if wishes.positive is not None:
        raise UsageError("a regression has no classes", next_action="leave out --positive, or --task regression")
    if column.kind not in ("integer", "number"):
        raise UsageError(f"a regression predicts numbers, and {column.name} has none", found=column.kind)
    return Target(column, "regression")


def _column(columns: Sequence[Column], name: str | None) -> Column | Question:
    able = [column for column in columns if column.kind not in ("date", "other") and column.distinct > 1]
    if not able:
        raise DataError("no column of the data can be predicted: none has two different values")
    names = tuple(column.name for column in able)
    if name is None:
        clear = [column for column in able if column.name.casefold() in _NAMES]
        return clear[0] if len(clear) == 1 else Question("Which column shall be predicted?", "--target", names)
    for column in columns:
        if column.name == name:
            return column
    raise UsageError(f"the data has no column {name}", wanted=f"one of {', '.join(names[:40])}")


def _require_usable(column: Column) -> None:
    if column.kind in ("date", "other"):
        raise UsageError(f"{column.name} cannot be predicted", found=column.kind, wanted="numbers, flags or classes")
    if column.distinct < 2:
        raise UsageError(f"{column.name} cannot be predicted: it has one value only", wanted="two or more")
    if column.has_commas:
        raise DataError(
            f"{column.name} cannot be predicted: it is text",
            found="numbers with a decimal comma",
            wanted="a decimal point",
            next_action="write the data with decimal points",
        )
    if column.infinite:
        raise DataError(
            f"{column.name} cannot be predicted: it has infinite values",
            found=f"{column.infinite:,} of {column.rows:,} rows",
            next_action="leave these rows out of the data, or their values empty",
        )
    if column.name != column.name.strip():
        raise UsageError(f"the name of the column {column.name!r} has space around it", next_action="mend the header")


def _task(column: Column) -> Task | Question:
    if column.kind in ("text", "flag") or column.distinct == 2:
        return "classification"
    if column.kind == "integer" and column.distinct <= _CLASSES:
        text = f"{column.name} has {column.distinct} different whole numbers: are they classes, or amounts?"
        return Question(text, "--task", ("classification", "regression"))
    return "regression"


def _classes(column: Column, positive: str | None) -> Target | Question:
    """Return the class that is told from all others, or all where there are more than two and none is named."""
    values = [value for value, _ in column.categories]
    if not 2 <= len(values) <= _CLASSES:
        raise UsageError(
            f"{column.name} has {column.distinct:,} different values: too many for classes",
            wanted=f"at most {_CLASSES}",
            next_action="name another column with --target, or say --task regression",
        )
    if positive is not None:
        return _of_class(column, values, positive)
    if column.kind == "flag" or set(values) == {0, 1}:
        return Target(column, "classification")
    if len(values) == 2 and column.kind != "text":
        return Target(column, "classification", above=float(min(values)))
    if len(values) > 2:
        return Target(column, "classification", classes=tuple(sorted(values)))
    spoken = tuple(sorted(map(_spoken, values)))
    return Question(f"Which class of {column.name} shall be told from all others?", "--positive", spoken)


def _of_class(column: Column, values: Sequence[Any], positive: str) -> Target:
    one = next((value for value in values if _spoken(value) == positive), None)
    if one is None:
        raise UsageError(f"{column.name} has no such class: the one that --positive names")
    return Target(column, "classification", one=one)


def _spoken(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


Ask = Callable[[Question], str]


def settled(columns: Sequence[Column], wishes: Wishes, ask: Ask) -> Target:
    """Return what is predicted; *ask* answers questions, or raises."""
    while isinstance(found := settle(columns, wishes), Question):
        wishes = Wishes(**(vars(wishes) | {found.option.removeprefix("--"): ask(found)}))
    return found
