"""The rows of a model are found in every form that a file may have: what was packed is opened first."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import random
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insitu.residency.decode import Part, Unopened, folder_parts, parts
from insitu.residency.decoding.pieces import OVERLAP_BYTES, WINDOW_BYTES
from tests.residency.packed import FORMS, RAW, ROWS, zipped

STRINGS_ONLY = {"npy, strings": 50}
"""Forms that hold fewer of the rows, to keep them small."""


def found_rows(found: list[Part | Unopened]) -> int:
    """Count the rows that lie in some part, as doubles of either byte order or as floats."""
    blobs = [bytes(one.data) for one in found if isinstance(one, Part)]

    def is_found(row: np.ndarray) -> bool:
        forms = (row.tobytes(), row.astype(">f8").tobytes(), row.astype("f4").tobytes())
        return any(form in blob for blob in blobs for form in forms)

    return sum(map(is_found, ROWS))


def unopened(found: list[Part | Unopened]) -> list[Unopened]:
    return [one for one in found if isinstance(one, Unopened)]


@pytest.mark.parametrize("form", FORMS)
def test_every_row_lies_open_in_a_part(form: str) -> None:
    found = list(parts("model", FORMS[form]()))

    assert found_rows(found) == STRINGS_ONLY.get(form, len(ROWS))
    assert unopened(found) == []


def test_a_part_says_where_it_lies() -> None:
    found = parts("model.tar.gz", FORMS["tar.gz of zip of gzip of pickle"]())

    assert any(one.path.startswith("model.tar.gz!gzip!member!member!gzip!pickle:array") for one in found)


def test_the_file_itself_comes_first_and_what_lay_in_it_is_marked_as_seen() -> None:
    name, itself, *rest = parts("rows.zip", zipped(RAW, zipfile.ZIP_STORED))

    assert isinstance(name, Part)
    assert (name.kind, bytes(name.data)) == ("name", b"rows.zip")
    assert isinstance(itself, Part)
    assert (itself.path, itself.seen) == ("rows.zip", False)
    assert [one.seen for one in rest if isinstance(one, Part) and bytes(one.data) == RAW] == [True]


def test_names_of_files_and_members_are_parts() -> None:
    def write(out: io.BytesIO) -> bytes:
        with tarfile.open(fileobj=out, mode="w:gz") as archive:
            info = tarfile.TarInfo("people/Erika Mustermann")
            info.type, info.linkname = tarfile.SYMTYPE, "1964-08-12"
            archive.addfile(info)
        return out.getvalue()

    names = b"\n".join(bytes(one.data) for one in parts("a", write(io.BytesIO())) if isinstance(one, Part))

    assert b"people/Erika Mustermann" in names
    assert b"1964-08-12" in names


def test_a_large_piece_comes_in_windows_that_share_enough_for_a_row(tmp_path: Path) -> None:
    size = WINDOW_BYTES + OVERLAP_BYTES
    at = WINDOW_BYTES - 40
    path = tmp_path / "large.bin"
    path.write_bytes(b"".join([bytes(at), RAW[:96], bytes(size - at - 96)]))

    windows = [one for one in parts("large.bin", path) if isinstance(one, Part) and one.path == "large.bin"][1:]

    assert [one.offset for one in windows] == [0, WINDOW_BYTES - OVERLAP_BYTES]
    assert RAW[:96] in bytes(windows[1].data)
    assert RAW[:96] not in bytes(windows[0].data)


def test_a_folder_is_walked_and_its_links_are_named(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "MLmodel").write_text("flavors: {}")
    (tmp_path / "model" / "data.pkl").write_bytes(pickle.dumps(ROWS))
    (tmp_path / "elsewhere").symlink_to("/etc/passwd")

    found = list(folder_parts(tmp_path))

    assert found_rows(found) == len(ROWS)
    assert unopened(found) == [Unopened("elsewhere", "it is a link")]
    assert {one.path.split("!")[0] for one in found} == {"elsewhere", "model/MLmodel", "model/data.pkl"}


def test_texts_of_wide_characters_are_read_wherever_they_begin() -> None:
    text = "Erika Mustermann, Köln, Łódź"
    for shift in range(4):
        for code in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"):
            data = bytes([200] * shift) + text.encode(code) + bytes([200] * 9)

            assert any(text.encode() in bytes(one.data) for one in parts("a", data) if isinstance(one, Part)), code


WRAPS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zip": zipped,
    "pickle": pickle.dumps,
    "old pickle": lambda data: pickle.dumps(data, 2),
    "hex": lambda data: data.hex().encode(),
    "json": lambda data: json.dumps({"model": data.decode("latin-1")}).encode(),
}


@given(st.lists(st.sampled_from(sorted(WRAPS)), min_size=1, max_size=5), st.integers(0, 599))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_a_row_is_found_however_it_is_wrapped(wraps: list[str], number: int) -> None:
    held = ROWS[number : number + 12].tobytes()
    data = held
    for wrap in wraps:
        data = WRAPS[wrap](data)

    found = list(parts("a", data))

    assert any(held[:96] in bytes(one.data) for one in found if isinstance(one, Part)), wraps
    assert unopened(found) == []


def _broken(data: bytes, chance: random.Random) -> Iterator[bytes]:
    yield data[: chance.randrange(len(data))]
    held = bytearray(data)
    for _ in range(chance.randrange(1, 20)):
        held[chance.randrange(len(held))] = chance.randrange(256)
    yield bytes(held)


@pytest.mark.parametrize("form", FORMS)
def test_a_damaged_file_raises_nothing(form: str) -> None:
    data = FORMS[form]()[:20_000]
    for broken in _broken(data, random.Random(form)):
        assert next(iter(parts("a", broken))).path == "a"
        assert all(isinstance(one, Part | Unopened) for one in parts("a", broken))
