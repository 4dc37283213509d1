"""What the gate judges on: which blobs, how many rows of them a verdict needs, and by which metrics."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from insitu.errors import DataError
from insitu.scaffolding.sample import Sample
from insitu.scaffolding.target import Target

if TYPE_CHECKING:
    import polars as pl

_ROWS = 100
_LEAST_ROWS = 20
_LEAST_RARER = 10
_SHARES = (0.2, 0.25, 0.3, 0.4, 0.5)


@dataclass(frozen=True)
class Holdout:
    """What is never trained on.

    Attributes:
        blobs: How many of the latest.
        min_rows: Rows below which the gate gives no verdict.
        share: Of a single file: how much of it becomes the holdout.
        max_overlap: Share of its rows that others equal, by nature.
    """

    blobs: int
    min_rows: int
    share: float = 0.0
    max_overlap: float = 0.0


def holdout_of(sample: Sample, target: Target) -> Holdout:
    """Return the smallest holdout that allows a verdict; raise `DataError` when the data is too small for any."""
    return _of_one(target) if len(sample.blobs) == 1 else _of_many(sample, target)


def metrics_of(target: Target) -> dict[str, str]:
    """Return the metrics, the primary one first, and the floors of a model that knows nothing."""
    if target.task == "regression":
        return {"rmse": "", "r2": "0.0  # always the mean"}
    if target.classes:
        return {"macro_f1": f"{1 / len(target.classes):.2f}  # chance", "accuracy": "", "log_loss": ""}
    return {"roc_auc": "0.5  # chance", "log_loss": ""}


def _of_one(target: Target) -> Holdout:
    rows, rarer = target.column.known, _rarer(target)
    for share in _SHARES:
        if rows * share >= 1.3 * _ROWS and rarer * share >= 2 * _LEAST_RARER:
            return Holdout(1, _ROWS, share)
    share = _SHARES[-1]
    if rows * share < 1.5 * _LEAST_ROWS or rarer * share < 2 * _LEAST_RARER:
        raise _too_few(rows, rarer, target)
    return Holdout(1, int(min(_ROWS, rows * share * 0.7)), share)


def _rarer(target: Target) -> int:
    return target.rarer if target.task == "classification" else target.column.known


def _of_many(sample: Sample, target: Target) -> Holdout:
    whole = len(sample.frames) == len(sample.blobs)
    best = None
    for count in range(1, len(sample.frames) if whole else 2):
        rows, rarer = _counts(sample.frames[-count:], target)
        if rows >= _LEAST_ROWS and rarer >= _LEAST_RARER and (best is None or count <= len(sample.frames) // 2):
            best = Holdout(count, int(min(_ROWS, max(rows * 0.7, _LEAST_ROWS))), max_overlap=_overlap(sample, count))
        if rows >= 1.3 * _ROWS and rarer >= 2 * _LEAST_RARER:
            break
    if best is None:
        raise _too_few(*_counts(sample.frames[-1:], target), target, "the latest blob")
    return best


def _counts(frames: tuple[pl.DataFrame, ...], target: Target) -> tuple[int, int]:
    """Return how many rows have a label, and how many of them the rarest class."""
    import polars as pl

    labels = pl.concat(frame[target.column.name] for frame in frames).drop_nulls()
    if target.task == "regression":
        return labels.len(), labels.len()
    return labels.len(), target.rarest_of(dict(labels.value_counts().iter_rows()))


def _overlap(sample: Sample, count: int) -> float:
    """Return twice the share of the holdout's rows that equal others, where equal rows are natural."""
    import polars as pl

    frames = [frame.select(sample.held) for frame in sample.frames]
    last = pl.concat(frames[-count:])
    seen = pl.concat(frames[:-count]).hash_rows().unique()
    return math.ceil(min(2 * last.hash_rows().is_in(seen.implode()).mean(), 1.0) * 100) / 100  # type: ignore[operator]


def _too_few(rows: int, rarer: int, target: Target, where: str = "the data") -> DataError:
    name = target.column.name
    if target.task == "regression":
        return DataError(
            f"{where} has too few rows with a value of {name} to judge a model on",
            found=f"{rows:,}",
            wanted="some hundreds; at least 60 in one file, or 20 in the latest blobs",
        )
    return DataError(
        f"{where} has too few rows of {name} to judge a model on",
        found=f"{rows:,} rows, {rarer:,} of them of the rarest class",
        wanted="some hundreds of each class; at least 40 in one file, or 10 in the latest blobs",
        next_action="add rows, or tell another class from the others with --positive",
    )
