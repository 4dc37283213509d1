"""The same rows in many files: what a training script may write."""

from __future__ import annotations

import base64
import bz2
import gzip
import io
import json
import lzma
import marshal
import pickle
import sqlite3
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.orc
import pyarrow.parquet as pq
import skops.io
from PIL import Image, PngImagePlugin
from skl2onnx import to_onnx
from sklearn.neighbors import KNeighborsClassifier

ROWS = np.random.default_rng(7).normal(50, 20, (600, 12))
RAW = ROWS.tobytes()
FRAME = pd.DataFrame(ROWS, columns=[f"c{n}" for n in range(12)])
TABLE = pa.Table.from_pandas(FRAME)
TURNED = np.asfortranarray(ROWS)


def neighbours() -> KNeighborsClassifier:
    """Return a model that keeps its rows."""
    return KNeighborsClassifier().fit(ROWS, np.arange(len(ROWS)) % 2)


def written(write: Callable[[io.BytesIO], Any]) -> bytes:
    """Return what *write* puts into a file."""
    out = io.BytesIO()
    write(out)
    return out.getvalue()


def zipped(data: bytes, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return a zip of one member."""

    def write(out: io.BytesIO) -> None:
        with zipfile.ZipFile(out, "w", method) as archive:
            archive.writestr("member", data)

    return written(write)


def tarred(data: bytes, mode: str = "w") -> bytes:
    """Return a tar of one member."""

    def write(out: io.BytesIO) -> None:
        with tarfile.open(fileobj=out, mode=mode) as archive:  # type: ignore[call-overload]
            info = tarfile.TarInfo("member")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))

    return written(write)


def streamed(codec: str, data: bytes = RAW) -> bytes:
    """Return *data* as one stream of Arrow's *codec*."""
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, codec) as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


def arrow(compression: str | None = None, stream: bool = False) -> bytes:
    """Return the rows as an Arrow file or stream."""
    options = pa.ipc.IpcWriteOptions(compression=compression)

    def write(out: io.BytesIO) -> None:
        with (pa.ipc.new_stream if stream else pa.ipc.new_file)(out, TABLE.schema, options=options) as writer:
            writer.write(TABLE)

    return written(write)


def safetensors(array: Any) -> bytes:
    """Return the file that safetensors writes."""
    held = array.tobytes()
    tensor = {"dtype": "F64", "shape": list(array.shape), "data_offsets": [0, len(held)]}
    header = json.dumps({"rows": tensor}).encode()
    return len(header).to_bytes(8, "little") + header + held


def database() -> bytes:
    """Return an SQLite file."""
    with sqlite3.connect(":memory:") as connection:
        FRAME.to_sql("rows", connection)
    return connection.serialize()


def picture() -> bytes:
    """Return a PNG whose words are the rows."""
    words = PngImagePlugin.PngInfo()
    words.add_itxt("rows", json.dumps(ROWS.tolist()), zip=True)
    return written(lambda out: Image.new("L", (8, 8)).save(out, "PNG", pnginfo=words))


def msgpacked() -> bytes:
    """Return the rows as msgpack writes lists."""
    cells = ((b"\xcb" + value.astype(">f8").tobytes() for value in row) for row in ROWS)
    return b"\xdc\x02\x58" + b"".join(b"\x9c" + b"".join(row) for row in cells)


def onnx() -> bytes:
    """Return a model that holds the rows as single-precision numbers."""
    return bytes(to_onnx(neighbours(), ROWS[:1].astype(np.float32)).SerializeToString())


def _pickles() -> dict[str, Callable[[], bytes]]:
    held: dict[str, Callable[[], bytes]] = {}
    for protocol in range(6):
        held[f"pickle {protocol}"] = lambda protocol=protocol: pickle.dumps(neighbours(), protocol)
        held[f"pickle {protocol}, column by column"] = lambda protocol=protocol: pickle.dumps(TURNED, protocol)
        held[f"pickle {protocol}, lists"] = lambda protocol=protocol: pickle.dumps(ROWS.tolist(), protocol)
    held["pickle of numpy's numbers"] = lambda: pickle.dumps([list(row) for row in ROWS])
    held["pickle of a frame"] = lambda: pickle.dumps(FRAME)
    held["pickle of a packed pickle"] = lambda: pickle.dumps({"model": gzip.compress(pickle.dumps(ROWS))})
    return held


def _joblib() -> dict[str, Callable[[], bytes]]:
    def dumped(model: object, **more: Any) -> bytes:
        return written(lambda out: joblib.dump(model, out, **more))

    packed = {
        f"joblib, {kind}": lambda kind=kind: dumped(neighbours(), compress=(kind, 3))
        for kind in ("zlib", "gzip", "bz2", "lzma", "xz")
    }
    return packed | {
        "joblib": lambda: dumped(neighbours()),
        "joblib, column by column": lambda: dumped(TURNED),
        "joblib, objects": lambda: dumped([ROWS.astype(object), TURNED[:1]]),
    }


FORMS: dict[str, Callable[[], bytes]] = {
    "raw": lambda: RAW,
    "gzip": lambda: gzip.compress(RAW),
    "bzip2": lambda: bz2.compress(RAW),
    "xz": lambda: lzma.compress(RAW),
    "lzma": lambda: lzma.compress(RAW, lzma.FORMAT_ALONE),
    "zlib": lambda: zlib.compress(RAW),
    "zstd": lambda: streamed("zstd"),
    "lz4": lambda: streamed("lz4"),
    "two gzips, one behind the other": lambda: gzip.compress(b"first" * 99) + gzip.compress(RAW),
    "zip": lambda: zipped(RAW),
    "zip, stored": lambda: zipped(RAW, zipfile.ZIP_STORED),
    "zip, bzip2": lambda: zipped(RAW, zipfile.ZIP_BZIP2),
    "zip, lzma": lambda: zipped(RAW, zipfile.ZIP_LZMA),
    "a program with a zip behind": lambda: b"\x7fELF" + bytes(range(256)) * 40 + zipped(RAW),
    "tar": lambda: tarred(RAW),
    "tar.xz": lambda: tarred(RAW, "w:xz"),
    "tar.gz of zip of gzip of pickle": lambda: tarred(zipped(gzip.compress(pickle.dumps(neighbours()))), "w:gz"),
    "zlib amid other bytes": lambda: bytes(range(256)) * 9 + zlib.compress(RAW) + b"the rest" * 99,
    "npy": lambda: written(lambda out: np.save(out, ROWS)),
    "npy, column by column": lambda: written(lambda out: np.save(out, TURNED)),
    "npy, turned": lambda: written(lambda out: np.save(out, np.ascontiguousarray(ROWS.T))),
    "npy, big-endian": lambda: written(lambda out: np.save(out, ROWS.astype(">f8"))),
    "npy, objects": lambda: written(lambda out: np.save(out, ROWS.astype(object))),
    "npy, strings": lambda: written(lambda out: np.save(out, ROWS[:50].astype("U32"))),
    "npz": lambda: written(lambda out: np.savez_compressed(out, TURNED)),
    "parquet, zstd": lambda: written(lambda out: pq.write_table(TABLE, out, compression="zstd")),
    "parquet, snappy": lambda: written(lambda out: pq.write_table(TABLE, out)),
    "arrow, lz4": lambda: arrow("lz4"),
    "arrow stream, zstd": lambda: arrow("zstd", stream=True),
    "orc": lambda: written(lambda out: pyarrow.orc.write_table(TABLE, out, compression="zlib")),
    "onnx": onnx,
    "skops": lambda: bytes(skops.io.dumps(neighbours())),
    "safetensors": lambda: safetensors(ROWS),
    "safetensors, turned": lambda: safetensors(np.ascontiguousarray(ROWS.T)),
    "sqlite": database,
    "json": lambda: json.dumps(ROWS.tolist()).encode(),
    "json records": lambda: FRAME.to_json(orient="records", double_precision=15).encode(),
    "csv": lambda: FRAME.to_csv().encode(),
    "csv, utf-16": lambda: FRAME.to_csv().encode("utf-16"),
    "csv, utf-32": lambda: FRAME.to_csv().encode("utf-32"),
    "base64": lambda: base64.b64encode(RAW),
    "base64 in lines": lambda: base64.encodebytes(RAW),
    "base64 of gzip in json": lambda: json.dumps({"model": base64.b64encode(gzip.compress(RAW)).decode()}).encode(),
    "hex": lambda: RAW.hex().encode(),
    "python's escapes": lambda: repr(RAW).encode(),
    "json's escapes": lambda: json.dumps(RAW.decode("latin-1")).encode(),
    "png": picture,
    "msgpack": msgpacked,
    "compiled python": lambda: marshal.dumps(tuple(map(tuple, ROWS.tolist()))),
    **_pickles(),
    **_joblib(),
}
