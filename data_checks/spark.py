"""The pass as Spark tasks: executors read and measure parts, this process keeps and merges what they found.

A task is some parts; what is found in each is pickled and collected, with the keys of uniqueness (8 to 16
bytes a row), and no row ever leaves an executor. Merging is that of `LocalScanner`, in the same order, so
the results are equal. Executors open the store themselves: they need the way to it, and its secret where the
settings say.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from operator import itemgetter

import pyarrow as pa
from polars.exceptions import PanicException

from data_checks.cluster import Cluster
from data_checks.scan import Keep, LocalScanner, Measured, Work, folded, in_flight, pieces
from insitu.errors import InsituError

_PARTS_PER_CORE = 4
_TASKS_PER_CORE = 2
_KEYS_BYTES = 256 << 20
_KEY_BYTES = 16


@dataclass(frozen=True)
class SparkScanner(LocalScanner):
    """Opens blobs here and measures them on a cluster; the store is pickled, and opened again over there."""

    cluster: Cluster

    def measured(self, works: Sequence[Work], schema: pa.Schema, keep: Keep) -> Iterator[Measured]:
        chunks = _chunks(works, _PARTS_PER_CORE * self.cluster.cores) if works else ()
        for chunk, found in in_flight(lambda some: (some, self._run(some, schema)), chunks):
            for work, some in zip(chunk, found, strict=True):
                yield folded(map(_known, some), work, keep)

    def _run(self, works: Sequence[Work], schema: pa.Schema) -> list[list[bytes]]:
        measure = partial(_measure, LocalScanner(self.store, self.reading), tuple(works), schema)
        found = self.cluster.run(measure, len(works), _TASKS_PER_CORE * self.cluster.cores)
        by_number = {number: [piece for _, piece in some] for number, some in groupby(found, itemgetter(0))}
        return [by_number.get(number, []) for number in range(len(works))]


def _chunks(works: Sequence[Work], most: int) -> Iterator[list[Work]]:
    """Yield what is sent at once: *most* parts, and not too many keys."""
    chunk: list[Work] = []
    keys_bytes = 0
    for work in works:
        more = _expected_keys_bytes(work)
        if chunk and (len(chunk) == most or keys_bytes + more > _KEYS_BYTES):
            yield chunk
            chunk, keys_bytes = [], 0
        chunk.append(work)
        keys_bytes += more
    if chunk:
        yield chunk


def _expected_keys_bytes(work: Work) -> int:
    rows = work.part.blob.size_bytes // _KEY_BYTES if work.part.rows is None else work.part.rows
    return rows * _KEY_BYTES * sum(m.spilled for m in work.measures)


def _measure(scanner: LocalScanner, works: Sequence[Work], schema: pa.Schema, number: int) -> Iterator[bytes]:
    """Run on an executor: yield what is found in one part, pickled, or the error that ended it."""
    try:
        for piece in pieces(scanner, works[number], schema):
            yield pickle.dumps(piece, pickle.HIGHEST_PROTOCOL)
    except InsituError as exc:
        yield pickle.dumps(exc)
    except (Exception, PanicException) as exc:  # noqa: BLE001 - its text may quote a row, and executors write logs
        yield pickle.dumps(_unknown(works[number], exc))


def _unknown(work: Work, error: BaseException) -> InsituError:
    return InsituError(
        f"measuring {work.part.where} of blob {work.part.blob.name} broke with an error that insitu does not know",
        found=type(error).__name__,
        next_action='validate with engine = "local", which keeps the traceback on site',
    )


def _known(piece: bytes) -> Measured:
    found: Measured | InsituError = pickle.loads(piece)  # noqa: S301 - of our own executors
    if isinstance(found, InsituError):
        raise found
    return found
