"""Whether two sets of answers are the same, and how far they are apart: to the rounding of their precision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Answers = npt.NDArray[np.float64]

ROUNDING: Mapping[str, float] = {"float32": 2e-6, "float64": 1e-12}
"""How far apart, as a share of an answer, the same arithmetic ends in a precision; whole numbers are exact."""


@dataclass(frozen=True)
class Agreement:
    """What a comparison found.

    Attributes:
        max_difference: The largest difference of two answers; infinite where one is no number and the other is.
        beyond: Rows with a difference that is too large.
        flips: Rows whose most likely class is another one, by more than rounding.
    """

    rows: int
    max_difference: float
    beyond: int
    flips: int

    @property
    def holds(self) -> bool:
        """Whether the answers are the same."""
        return not self.beyond and not self.flips


def compare(
    answers: Answers, wanted: Answers, tolerance: float, rounding: float = 0.0, *, classes: bool = False
) -> Agreement:
    """Return how far *answers* are from those that are *wanted*, both (n,) or (n, k) of the same shape.

    Args:
        answers: What is judged.
        wanted: What the trained model says.
        tolerance: The largest difference that is none.
        rounding: What may come on top, as a share of each answer; see `ROUNDING`.
        classes: Whether answers are probabilities: of each class, or of the class 1.
    """
    equal = (np.isnan(answers) & np.isnan(wanted)) | (answers == wanted)
    with np.errstate(invalid="ignore"):
        gap = np.where(equal, 0.0, np.abs(answers - wanted))
    gap = np.where(np.isnan(gap), np.inf, gap)
    allowed = tolerance + rounding * np.abs(np.where(np.isfinite(wanted), wanted, 0.0))
    beyond = (gap > allowed).any(axis=tuple(range(1, gap.ndim)))
    largest = float(gap.max()) if gap.size else 0.0
    return Agreement(len(wanted), largest, int(beyond.sum()), _flips(answers, wanted, rounding) if classes else 0)


def per_row(answers: Answers) -> Answers:
    """Return *answers* of shape (n, 1) as (n,): one number for each row, however a library shapes that."""
    return answers[:, 0] if answers.ndim == 2 and answers.shape[1] == 1 else answers


def _flips(answers: Answers, wanted: Answers, rounding: float) -> int:
    """Return the number of rows with another class; which of two equally likely ones comes first is none."""
    if wanted.ndim == 1:
        answers, wanted = (np.column_stack([1 - one, one]) for one in (answers, wanted))
    chosen = np.nan_to_num(answers, nan=-np.inf).argmax(axis=1)
    lead = wanted.max(axis=1, initial=-np.inf) - wanted[np.arange(len(wanted)), chosen]
    return int((lead > 2 * rounding).sum())
