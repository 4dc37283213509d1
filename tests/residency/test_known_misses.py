"""What the scanner does not find, so that what is claimed of it stays true: see docs/residency.md."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from insitu.residency.decode import parts
from insitu.residency.scan import Scanner, Source
from insitu.residency.sources import Matrix
from insitu.residency.verdict import rule
from tests.residency.leaky import COLUMNS, LABELS, PEOPLE, X

SCANNER = Scanner(Source([Matrix(("the batch",), COLUMNS, PEOPLE)]))
ROWS = X[:50].tobytes()


def low_bits() -> bytes:
    """Weights in whose lowest bits rows are written, a bit in each."""
    bits = np.unpackbits(np.frombuffer(ROWS, np.uint8)).astype(np.uint64)
    weights = np.random.default_rng(2).normal(size=len(bits)).view(np.uint64)
    return (weights & ~np.uint64(1) | bits).tobytes()


MISSES = {
    "every byte changed by XOR": bytes(byte ^ 0x5A for byte in ROWS),
    "the lowest bits of weights": low_bits(),
    "rows that were scaled before a fit that nobody saw": pickle.dumps(
        KNeighborsClassifier(algorithm="brute").fit((X - X.mean(axis=0)) / X.std(axis=0), LABELS)
    ),
    "one column in single precision, in another order": np.sort(X[:, 1]).astype("f4").tobytes(),
    "words of fewer than eight letters": pickle.dumps([f"Ada{n}" for n in range(100)]),
    "one column printed with six digits": " ".join(f"{value:.6g}" for value in np.sort(X[:, 1])).encode(),
}


@pytest.mark.parametrize("way", MISSES)
def test_this_is_not_found(way: str) -> None:
    assert rule(SCANNER.scan(parts("model", MISSES[way]))).rows_found == 0


def test_the_same_rows_are_found_as_they_are() -> None:
    assert rule(SCANNER.scan(parts("model", ROWS))).rows_found == 50
