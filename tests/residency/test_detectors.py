"""Each detector finds what no other does: with it off the same bytes pass."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pytest
from sklearn.preprocessing import OneHotEncoder

from insitu.residency.batch import rows_of, source_of
from insitu.residency.decode import parts
from insitu.residency.fingerprints import ENCODINGS
from insitu.residency.scan import Detectors, Scanner, Source
from insitu.residency.sources import Matrix
from insitu.residency.verdict import rule
from tests.residency.leaky import COLUMNS, PEOPLE, X

COUNTS = np.random.default_rng(1).integers(0, 200, (300, 16)).astype(float)
NAMES = [f"Ada Lovelace {n * 7919 % 100_003:06} of St James's Square" for n in range(300)]
IDENTIFIERS = [f"NHS{n * 7919 % 1_000_003:09}" for n in range(300)]
TABLE = pa.table({"name": NAMES, "identifier": IDENTIFIERS, **dict(zip(COLUMNS, PEOPLE.T, strict=True))})
BATCH = source_of(rows_of(TABLE.to_batches()))


@dataclass(frozen=True)
class Case:
    """Bytes that hold data, and all detectors but the one that finds it."""

    data: Callable[[], bytes]
    without: Detectors
    source: Source = BATCH


def but(encoding: str) -> Detectors:
    kept = tuple(one for one in ENCODINGS if one.name != encoding)
    assert len(kept) == len(ENCODINGS) - 1
    return Detectors(encodings=kept, cells=False)


def counts(dtype: str, encoding: str) -> Case:
    return Case(lambda: COUNTS[:50].astype(dtype).tobytes(), but(encoding), Source([Matrix(("b",), (), COUNTS)]))


def people(dtype: str, encoding: str) -> Case:
    return Case(lambda: b"\n\n\n" + X[:50].astype(dtype).tobytes(), but(encoding))


def printed(form: str) -> Case:
    text = "\n".join(" ".join(form % value for value in row) for row in X[:50])
    # The decoder reads them as singles, too, of which eight digits are the number itself.
    return Case(lambda: text.encode(), replace(but("f32"), printed=False))


CASES = {
    "f64": people("<f8", "f64"),
    "f64 big-endian": people(">f8", "f64 big-endian"),
    "f32": people("<f4", "f32"),
    "f32 big-endian": people(">f4", "f32 big-endian"),
    "f16": people("<f2", "f16"),
    "f16 big-endian": people(">f2", "f16 big-endian"),
    "i64": counts("<i8", "i64"),
    "i32": counts("<i4", "i32"),
    "i16": counts("<i2", "i16"),
    "u8": counts("u1", "u8"),
    "cells": Case(lambda: pickle.dumps(OneHotEncoder().fit(X)), Detectors(cells=False)),
    "rows": Case(lambda: X[:1].tobytes(), Detectors(rows=False)),
    "lines": Case(lambda: f"dear {NAMES[7]}, dear {NAMES[8]}".encode(), Detectors(lines=False)),
    "words": Case(lambda: pickle.dumps(sorted(IDENTIFIERS)), Detectors(words=False)),
    **{form: printed(form) for form in ("%.3f", "%.5f", "%.5g", "%.6g", "%.7g", "%.8g", "%.9g")},
}


@pytest.mark.parametrize("name", CASES)
def test_what_one_detector_finds_passes_without_it(name: str) -> None:
    case = CASES[name]
    data = case.data()

    assert rule(Scanner(case.source).scan(parts("model", data))).verdict == "blocked"
    assert rule(Scanner(case.source, case.without).scan(parts("model", data))).verdict != "blocked"
