"""What cannot be opened is named and never passed over, whatever the file does: it is not run, and it does not grow."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import pickle
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from insitu.residency.decode import Limits, Part, Unopened, parts
from tests.residency.packed import FORMS, RAW, ROWS, arrow, streamed, written, zipped

SMALL = Limits(depth=4, ratio=10, free_bytes=1 << 20, total_bytes=16 << 20, pieces=1000, time_s=60)
ZEROS = bytes(24 << 20)


def unopened(data: bytes, limits: Limits = Limits()) -> list[Unopened]:  # noqa: B008 - a frozen value
    return [one for one in parts("a", data, limits) if isinstance(one, Unopened)]


BOMBS: dict[str, Callable[[], bytes]] = {
    "gzip": lambda: gzip.compress(ZEROS, 1),
    "bzip2": lambda: bz2.compress(ZEROS),
    "xz": lambda: lzma.compress(ZEROS, preset=0),
    "zlib": lambda: zlib.compress(ZEROS, 1),
    "zstd": lambda: streamed("zstd", ZEROS),
    "lz4": lambda: streamed("lz4", ZEROS),
    "zip": lambda: zipped(ZEROS),
    "zip in zip": lambda: zipped(zipped(ZEROS)),
    "zip of many": lambda: written(lambda out: _many(out)),
    "parquet of nulls": lambda: written(lambda out: _nulls(out)),
}


def _many(out: io.BytesIO) -> None:
    with zipfile.ZipFile(out, "w") as archive:
        for number in range(1100):
            archive.writestr(str(number), b"x")


def _nulls(out: io.BytesIO) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"a": pa.nulls(4_000_000, pa.float64())}), out)


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_named_and_gives_no_more_than_the_limits(bomb: str) -> None:
    data = BOMBS[bomb]()

    found = list(parts("a", data, SMALL))

    assert any(isinstance(one, Unopened) and "more than" in one.why for one in found)
    assert sum(len(one.data) for one in found if isinstance(one, Part)) < len(data) + SMALL.total_bytes


def test_what_is_nested_too_deeply_is_named() -> None:
    data = RAW[:500]
    for _ in range(6):
        data = gzip.compress(data)

    assert [one.why for one in unopened(data, SMALL)] == ["it is nested more than 4 deep"]


def test_the_time_is_limited() -> None:
    (only,) = unopened(FORMS["zip"](), Limits(time_s=0))

    assert only.why == "it takes more than 0 seconds to open"


def test_an_arrow_file_that_claims_too_much_is_not_unpacked() -> None:
    data = arrow("zstd").replace(struct.pack("<q", ROWS.shape[0] * 8), struct.pack("<q", 1 << 40))

    assert [one.why for one in unopened(data)] == ["a batch opens to more than 536,870,912 bytes"]


def test_a_gigabyte_of_zeros_takes_little_memory() -> None:
    script = """if True:
        import resource, sys
        from insitu.residency.decode import parts
        from tests.residency.packed import streamed
        bomb = streamed("zstd", streamed("zstd", bytes(400 << 20)) + bytes(99))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        whys = [one.why for one in parts("a", bomb) if hasattr(one, "why")]
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        print(grown // 1024, whys)
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=Path.cwd(), check=True)

    grown_mb, whys = done.stdout.split(maxsplit=1)
    assert int(grown_mb) < 100
    assert "it opens to more than" in whys


CLOSED = {
    "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(99),
    "7z": b"7z\xbc\xaf\x27\x1c" + bytes(99),
    "Avro": b"Obj\x01" + bytes(99),
    "encrypted Parquet": b"PARE" + bytes(99),
    "OpenSSL's encryption": b"Salted__" + bytes(99),
}


@pytest.mark.parametrize("kind", CLOSED)
def test_a_format_that_is_not_read_here_is_named(kind: str) -> None:
    assert unopened(CLOSED[kind]) == [Unopened("a", f"{kind} is not opened here")]


def test_an_encrypted_member_is_named() -> None:
    data = bytearray(zipped(RAW))
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + place] |= 1

    assert unopened(bytes(data)) == [Unopened("a!member", "it is encrypted")]


def test_bytes_that_look_encrypted_are_named_and_ordinary_ones_are_not() -> None:
    chance = np.random.default_rng(1)
    ordinary = {
        "doubles": chance.normal(size=20_000).tobytes(),
        "floats": chance.normal(size=20_000).astype("f4").tobytes(),
        "half floats": chance.normal(size=20_000).astype("f2").tobytes(),
        "numbers": chance.integers(0, 10_000, 20_000).tobytes(),
        "text": b"the quick brown fox " * 2000,
        "an array of hashes": written(lambda out: np.save(out, chance.integers(0, 1 << 63, 20_000))),
        "an Embedded OpenType font": bytes(8) + b"\x02\x00\x02\x00" + bytes(22) + b"LP" + chance.bytes(20_000),
        "a random state": pickle.dumps(np.random.default_rng(1)) + pickle.dumps(np.random.RandomState(1)),
    }

    assert "looks compressed or encrypted" in unopened(chance.bytes(9000))[0].why
    assert "looks compressed or encrypted" in unopened(bytes(5000) + chance.bytes(9000) + bytes(5000))[0].why
    assert {kind: unopened(data) for kind, data in ordinary.items()} == {kind: [] for kind in ordinary}


@pytest.mark.parametrize("form", ["gzip", "xz", "zstd", "lz4", "zip", "npy", "parquet, zstd", "pickle 4", "joblib, xz"])
def test_a_file_that_is_cut_short_is_named(form: str) -> None:
    data = FORMS[form]()

    assert unopened(data[: len(data) * 2 // 3])


def test_a_stream_amid_a_damaged_file_is_named() -> None:
    packed = bytearray(b"plain " * 99 + zlib.compress(RAW))
    packed[20_000:20_050] = bytes(50)

    assert unopened(bytes(packed))


class Touches:
    """Unpickled, it creates a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, int]]:
        return os.open, (self.path, os.O_CREAT)


def test_a_pickle_is_never_run(tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    for protocol in range(6):
        found = list(parts("a", pickle.dumps([Touches(str(touched)), RAW], protocol)))

        assert any(RAW in bytes(one.data) for one in found if isinstance(one, Part))
        assert not touched.exists()


def test_what_lies_between_the_members_of_a_zip_is_opened() -> None:
    hidden = bytes(9) + zlib.compress(RAW)
    data = hidden + zipped(b"nothing to see here")

    assert any(bytes(one.data) == RAW for one in parts("a", data) if isinstance(one, Part))


HOSTILE = {
    "marks": b"\x80\x04" + b"(" * 100_000,
    "nested tuples": b"\x80\x04)" + b"\x85" * 100_000 + b".",
    "nested calls": b"\x80\x04cnumpy\n_frombuffer\n)" + b"R\x85" * 100_000 + b".",
    "a huge length": b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f" + b"abc",
    "a huge number": b"I" + b"9" * 100_000 + b"\n.",
    "beginnings of zlib": b"\x78\x9c" * 100_000,
    "beginnings of gzip": b"\x1f\x8b\x08\x00" * 50_000,
    "open quotes": b"'\\x41" * 50_000,
    "backslashes": b"\\" * 300_000,
    "capitals": b"A" * 300_000,
    "short lines": b"A\n" * 150_000,
    "digits": b"1" * 300_000,
    "nested messages": b"\x08\x07" + b"\x3a\x7f" * 60 + b"\x00" * 127,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_bytes_end_and_raise_nothing(kind: str) -> None:
    assert next(iter(parts("a", HOSTILE[kind]))).path == "a"
    assert all(isinstance(one, Part | Unopened) for one in parts("a", HOSTILE[kind]))
