"""How many rows an artifact could hold in any encoding: what it compresses to, over what a row tells at least.

Whatever training hid in the artifact, it can be made again from what a compressor left of it, so it tells no more
bits than that. By a row is meant what a row of this very data tells, by the lower of two estimates: the sum of its
columns' entropies, and what columns of ranks are compressed to, which knows what repeats from row to row. Of rare
values both take less than their digits tell. Whoever packs rows closer than that gets more of them in.
"""

from __future__ import annotations

import lzma
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

METRIC_BITS = math.log2(9000 * 2 * 10)
"""What a number of four significant digits tells: its digits, its sign, its size."""

_DENSE_BYTES = 4 << 20
"""What xz packs, at some 2 MB/s; zstd takes the rest at hundreds, and leaves up to 5 % more."""

_SAMPLE_BYTES = 1 << 20
"""Some 14,000 flights, in 0.3 s; four times as many come to 2 bits in a hundred less."""

_PIECE_BYTES = 1 << 20


def bound(compressed_bytes: int, bits_per_row: float) -> int:
    """Return how many rows of *bits_per_row* fit into *compressed_bytes* at most."""
    return math.floor(8 * compressed_bytes / bits_per_row)


def capacity_of(files: Iterable[Path], rows: pa.Table, total: int, metrics: int) -> dict[str, Any]:
    """Return how much *files* and so many *metrics* could hold of a batch, as JSON values.

    Args:
        files: What leaves of a model.
        rows: The rows that a scan knows.
        total: How many there are.
        metrics: How many numbers of four digits are told beside it.
    """
    size_bytes, bits = compressed_bytes(files), bits_per_row(rows)
    metric_bits = math.ceil(metrics * METRIC_BITS)
    held = bound(size_bytes + math.ceil(metric_bits / 8), bits)
    return {
        "rows": held,
        "of": total,
        "share": float(f"{held / max(1, total):.4g}"),
        "compressed_bytes": size_bytes,
        "metric_bits": metric_bits,
        "bits_per_row": round(bits, 1),
    }


def metrics_bound(capacity: Mapping[str, Any]) -> int:
    """Return how many rows the metrics alone could hold, of what `capacity_of` has measured."""
    return math.ceil(float(capacity["metric_bits"]) / float(capacity["bits_per_row"]))


def compressed_bytes(files: Iterable[Path]) -> int:
    """Return to how many bytes *files* are packed as one stream, read piece by piece."""
    import pyarrow as pa

    dense, sink, left = lzma.LZMACompressor(preset=6), _Counter(), _DENSE_BYTES
    size_bytes = 0
    with pa.CompressedOutputStream(pa.PythonFile(sink, "w"), "zstd") as fast:
        for path in files:
            with path.open("rb") as file:
                while piece := file.read(min(_PIECE_BYTES, left or _PIECE_BYTES)):
                    if left:
                        size_bytes, left = size_bytes + len(dense.compress(piece)), left - len(piece)
                    else:
                        fast.write(piece)
    return size_bytes + len(dense.flush()) + (sink.size_bytes if not left else 0)


class _Counter:
    """A file that forgets what is written, and how much that was it knows."""

    closed = False
    size_bytes = 0

    def write(self, data: Any) -> int:
        self.size_bytes += len(data)
        return len(data)

    def flush(self) -> None:
        """There is nothing to flush."""

    def close(self) -> None:
        self.closed = True


def bits_per_row(rows: pa.Table) -> float:
    """Return what a row of the table tells at least, by the lower of two estimates; never less than a bit."""
    import numpy as np

    sample = max(256, _SAMPLE_BYTES // (4 * max(1, rows.num_columns)))
    entropy, packed = 0.0, lzma.LZMACompressor(preset=6)
    size_bytes = 0
    for column in rows.columns:
        ranks, counts = _ranks(column)
        shares = counts[counts > 0] / max(1, rows.num_rows)
        entropy -= float((shares * np.log2(shares)).sum())
        size_bytes += len(packed.compress(ranks[:sample].tobytes()))
    size_bytes += len(packed.flush())
    return float(max(1.0, min(entropy, 8 * size_bytes / max(1, min(sample, rows.num_rows)))))


def _ranks(column: pa.ChunkedArray) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Return of each value the rank among the values of its column, and how often each rank occurs."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    values = column.combine_chunks()
    try:
        values = values if pa.types.is_dictionary(values.type) else values.dictionary_encode()
        order = np.asarray(pc.sort_indices(values.dictionary))
    except pa.ArrowNotImplementedError:  # of lists, structs, half floats ...: in the order of their texts
        texts = [None if one is None else repr(one) for one in values.to_pylist()]
        values = pa.array(texts, pa.large_string()).dictionary_encode()
        order = np.asarray(pc.sort_indices(values.dictionary))
    rank = np.empty(len(order) + 1, np.int32)
    rank[order], rank[-1] = np.arange(len(order)), len(order)  # the last is that of what is missing
    ranks = rank[np.asarray(values.indices.cast(pa.int64()).fill_null(len(order)))]
    return ranks, np.bincount(ranks, minlength=len(rank))
