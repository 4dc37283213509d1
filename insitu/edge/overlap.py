"""Rows of the holdout that the training part holds, too: found by fingerprints, of which only counts leave.

A fingerprint is a hash over all columns that both parts have, without those in the names of the blobs: a blob that
was copied into another month is found. Rows without a label count in neither part.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from insitu.edge.data import EdgeBatch
from insitu.errors import GateFailed

if TYPE_CHECKING:
    import pyarrow as pa

Hashes = npt.NDArray[np.uint64]


def require_apart(train: EdgeBatch, holdout: EdgeBatch, max_overlap: float) -> dict[str, int]:
    """Return how many rows of the holdout were looked for, and how many the training part holds, too.

    Args:
        max_overlap: The share of the holdout's rows that is no failure.

    Raises:
        GateFailed: There are more: a model that has seen the holdout cannot be judged on it.
    """
    rows, found = count_overlap(train, holdout)
    if found > max_overlap * rows:
        raise GateFailed(
            "rows of the holdout are in the training part, too",
            found=f"{found:,} of {rows:,} rows, by a fingerprint over their columns",
            wanted=f"at most {max_overlap:.4g} of them (gate.max_overlap)",
            next_action="see whether a blob was delivered twice; where equal rows are natural, raise gate.max_overlap",
        )
    return {"rows": rows, "found": found}


def count_overlap(train: EdgeBatch, holdout: EdgeBatch) -> tuple[int, int]:
    """Return how many rows the holdout has, and how many of them the training part holds, too."""
    columns = _common(train.schema(), holdout.schema())
    seen = np.concatenate([np.empty(0, np.uint64), *_fingerprints(holdout, columns)])
    known, rows_of_each = np.unique(seen, return_counts=True)
    hit = np.zeros(len(known), dtype=bool)
    for hashes in _fingerprints(train, columns) if len(known) else ():
        at = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
        hit[at[known[at] == hashes]] = True
    return len(seen), int(rows_of_each[hit].sum())


def _common(one: pa.Schema, other: pa.Schema) -> list[str]:
    """Return the columns that the blobs of both parts hold."""
    return [field.name for field in one if field.name in other.names and not (field.metadata or {}).get(b"insitu")]


def _fingerprints(batch: EdgeBatch, columns: Sequence[str]) -> Iterator[Hashes]:
    import pyarrow.compute as pc

    label = str(batch.target["label_column"])
    for rows in batch.record_batches(list(dict.fromkeys([*columns, label]))):
        known = rows.filter(pc.invert(pc.is_null(rows[label], nan_is_null=True)))
        mixed = np.zeros(known.num_rows, np.uint64)
        for name in columns:
            mixed = mixed * np.uint64(0x9E3779B97F4A7C15) + _hashed(known[name])  # wraps around, as it should
        yield mixed


def _hashed(column: pa.Array) -> Hashes:
    """Return a hash of each value, (n,), which is the same whether the column holds whole numbers or numbers."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_boolean(column.type):
        column = column.cast(pa.uint8())
    if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
        numbers = column.cast(pa.float64(), safe=False)
        hashes: Hashes = pd.util.hash_array(numbers.to_numpy(zero_copy_only=False))
        return hashes
    if pa.types.is_nested(column.type):
        return _words([repr(value) for value in column.to_pylist()])
    coded = column.dictionary_encode()
    words = _words([str(value) for value in coded.dictionary.to_pylist()])
    codes: npt.NDArray[np.int64] = pc.fill_null(coded.indices, len(words)).to_numpy(zero_copy_only=False)
    return np.append(words, np.uint64(0))[codes]


def _words(texts: list[str]) -> Hashes:
    import pandas as pd

    hashes: Hashes = pd.util.hash_array(np.asarray(texts, dtype=object), categorize=False)
    return hashes
