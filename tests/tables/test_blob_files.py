"""A pinned blob as a file: any range of it, every byte counted, never one of another version."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from table_helpers import stored

from insitu.errors import BlobChanged
from insitu.tables.streams import BlobFile

DATA = bytes(range(256)) * 10


def test_a_blob_is_a_file_that_can_be_read_and_sought(tmp_path: Path) -> None:
    store, batch = stored(tmp_path, {"a": DATA})
    file, plain = BlobFile(store, batch.blobs[0]), io.BytesIO(DATA)
    assert (file.readable(), file.seekable(), file.writable()) == (True, True, False)
    for where, whence in ((100, io.SEEK_SET), (-30, io.SEEK_END), (-50, io.SEEK_CUR), (5000, io.SEEK_SET)):
        assert file.seek(where, whence) == plain.seek(where, whence)
        assert file.read(20) == plain.read(20)
        assert file.tell() == plain.tell()
    file.seek(0)
    assert file.read() == DATA
    assert file.read() == b""


def test_what_is_held_is_asked_of_the_store_once(tmp_path: Path) -> None:
    store, batch = stored(tmp_path, {"a": DATA})
    file = BlobFile(store, batch.blobs[0], [(10, 110), (500, 600)])
    file.seek(20)
    assert (file.read(50), file.read_at(500, 100)) == (DATA[20:70], DATA[500:600])
    assert (file.bytes_read, store.bytes_read) == (200, 200)
    assert file.read_at(90, 40) == DATA[90:130]
    assert file.bytes_read == 240


@pytest.mark.parametrize("size", [1, 100, 2559, 2560, 2561, 10_000])
def test_pieces_are_the_whole_blob_in_order(tmp_path: Path, size: int) -> None:
    store, batch = stored(tmp_path, {"a": DATA})
    file = BlobFile(store, batch.blobs[0])
    pieces = list(file.pieces(size))
    assert b"".join(pieces) == DATA
    assert max(map(len, pieces)) == min(size, len(DATA))
    assert file.bytes_read == store.bytes_read == len(DATA)


def test_an_overwritten_blob_gives_no_piece_of_the_new_version(tmp_path: Path) -> None:
    store, batch = stored(tmp_path, {"a": DATA})
    pieces = BlobFile(store, batch.blobs[0]).pieces(100)
    seen = [next(pieces)]
    store.replace("a", b"\xff" * len(DATA), etag=batch.blobs[0].etag)
    with pytest.raises(BlobChanged):
        seen.extend(pieces)
    assert b"".join(seen) == DATA[: 100 * len(seen)]
