"""Every estimator of scikit-learn, fitted to the same 400 records, and what of them each keeps in its file.

Two look: the scanner at the pickle, and an oracle that walks through the object in memory and knows nothing of files.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils import all_estimators, get_tags
from sklearn.utils._test_common.instance_generator import _construct_instances
from sklearn.utils.estimator_checks import _enforce_estimator_tags_X, _enforce_estimator_tags_y

from insitu.residency.decode import parts
from insitu.residency.scan import Scanner, Source
from insitu.residency.sources import Matrix
from insitu.residency.verdict import Ruling, rule

RECORDS, COLUMNS = 400, ("a", "b", "c", "d", "e", "f")
_DEEPEST = 12


@dataclass(frozen=True)
class Kept:
    """What an estimator keeps: single values by the oracle, and the scanner's verdict."""

    name: str
    values: int
    ruling: Ruling

    @property
    def is_missed(self) -> bool:
        """It keeps data and is clear, or holds more than the scanner counts."""
        return self.values > self.ruling.cells_found and self.ruling.rows_found == 0

    @property
    def is_alarmed(self) -> bool:
        """It keeps none and is blocked."""
        return self.values == 0 and self.ruling.verdict == "blocked"


def census() -> Iterator[Kept]:
    """Yield every estimator that can be fitted to numbers."""
    random = np.random.default_rng(0)
    x = random.normal(size=(RECORDS, len(COLUMNS))) * 3 + 10
    classes, numbers = (x[:, 0] > 10) * 1, x[:, 1] * 2 + random.normal(size=RECORDS)
    for name, cls in all_estimators():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fitted = _fitted(cls, x, classes, numbers)
        if fitted:
            yield _kept(name, *fitted)


def _fitted(cls: Any, x: Any, classes: Any, numbers: Any) -> tuple[Any, Any, Any] | None:
    """Return an estimator and what it was fitted to; None where it takes words, or other things than these."""
    try:
        model = next(iter(_construct_instances(cls)))
        tags = get_tags(model)
        y = _enforce_estimator_tags_y(model, (numbers if tags.estimator_type == "regressor" else classes).copy())
        given = _enforce_estimator_tags_X(model, x.copy())
        return model.fit(given, y), given, y
    except Exception:  # noqa: BLE001 - some want words, some nothing but labels
        return None


def _kept(name: str, model: Any, x: Any, y: Any) -> Kept:
    matrices = [Matrix(("X",), COLUMNS, np.asarray(x, float).reshape(len(x), -1))]
    if np.asarray(y).dtype.kind == "f":
        matrices.append(Matrix((f"{name}.fit",), ("y",), np.asarray(y, float).reshape(len(y), -1)))
    ruling = rule(Scanner(Source(matrices)).scan(parts(f"{name}.pkl", pickle.dumps(model))))
    held = np.concatenate([np.zeros(0), *_numbers(model, set(), [], 0)])
    strong = np.unique(np.concatenate([one.values[one.told[1]] for one in matrices]))
    return Kept(name, int(np.isin(strong, held).sum()), ruling)


def _numbers(thing: Any, seen: set[int], alive: list[Any], depth: int) -> Iterator[Any]:
    """Yield the numbers that can be reached from *thing*; *alive* keeps what was made, so that ids stay its own."""
    if id(thing) in seen or depth > _DEEPEST or thing is None or isinstance(thing, str | bytes | type):
        return
    seen.add(id(thing))
    alive.append(thing)
    if isinstance(thing, np.ndarray) and thing.dtype.kind in "fiu":
        yield thing.astype(float).ravel()
    elif isinstance(thing, np.ndarray) and thing.dtype.names:
        yield from (thing[name].astype(float).ravel() for name in thing.dtype.names)
    elif isinstance(thing, float | int | np.number):
        yield np.array([float(thing)])
    elif hasattr(thing, "tocsr"):
        yield thing.tocsr().data.astype(float)
    else:
        for part in _parts(thing):
            yield from _numbers(part, seen, alive, depth + 1)


def _parts(thing: Any) -> list[Any]:
    if isinstance(thing, dict):
        return [*thing.keys(), *thing.values()]
    if isinstance(thing, list | tuple | set | np.ndarray):
        return list(thing.ravel() if isinstance(thing, np.ndarray) else thing)
    try:
        made = list(thing.__reduce_ex__(2)[1:])
    except Exception:  # noqa: BLE001 - what cannot be pickled is in no file
        made = []
    return [*made, vars(thing)] if hasattr(thing, "__dict__") else made
