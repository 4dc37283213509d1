"""The primary metric in slices of the holdout: by the values of a column, or by bins of its numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from insitu.edge.metrics import BY_CLASS, MIN_BIN_ROWS, Vector, class_count, measure, rarer_rows
from insitu.edge.paired import Difference, difference

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

MOST = 50
"""Slices of one column that are measured, the largest ones: more would be a list of the data."""


def measure_slices(
    column: str,
    settings: Mapping[str, Any],
    rows: pd.Series,
    primary: str,
    y: Vector,
    challenger: Vector,
    champion: Vector | None,
    error: float | None,
) -> list[dict[str, Any]]:
    """Return per slice its name, rows, and the primary metric of both models, largest slice first.

    Slices with fewer than `min_rows` rows are left out: they could describe a person. So is the smallest of the
    others where fewer than ten rows would be left, which the whole less the slices would tell of. A slice with
    fewer than ten rows of a class has no metric of `BY_CLASS`. The difference takes an equal share of *error* in each
    slice, and all of it where every slice must be proven (see `insitu.slices`).

    Args:
        column: Its name.
        settings: `bins`, `min_rows` and `proof` of `[gate.slices.COLUMN]`.
        rows: Its values, (n,).
    """
    told = [(name, at) for name, at in _slices(rows, settings["bins"]) if at.sum() >= settings["min_rows"]]
    told = sorted(told, key=lambda item: -item[1].sum())[:MOST]
    while told and 0 < len(y) - sum(at.sum() for _, at in told) < MIN_BIN_ROWS:
        told.pop()
    share = (error or 0) / (1 if settings["proof"] else max(1, len(told)))
    found = []
    for name, at in told:
        silent = primary in BY_CLASS and not rarer_rows(y[at], class_count(challenger))
        new = np.nan if silent else measure([primary], y[at], challenger[at])[primary]
        entry = {"column": column, "slice": name, "rows": int(at.sum()), "challenger": new, "difference": None}
        if champion is not None:
            found_here = (
                Difference(np.nan, np.nan, np.nan, share, "none")
                if silent
                else difference(primary, y[at], challenger[at], champion[at], share)
            )
            entry["difference"] = found_here.to_json()
        found.append(entry)
    return found


def _slices(rows: pd.Series, bins: list[float]) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
    """Yield the name of each slice and which rows are in it, (n,)."""
    missing = rows.isna().to_numpy()
    if missing.any():
        yield "missing", missing
    if bins:
        values, ends = rows.to_numpy(dtype=np.float64, na_value=np.nan), [-np.inf, *bins, np.inf]
        for low, high in pairwise(ends):
            yield f"{low:g} to {high:g}", (values >= low) & (values < high)
        return
    codes, names = rows.factorize()
    for code, name in enumerate(names):
        yield str(name), codes == code
