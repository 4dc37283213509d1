"""A local file is written whole or not at all."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from insitu.files import replace_file


def test_a_file_is_made_with_its_folders(tmp_path: Path) -> None:
    replace_file(tmp_path / "a/b/c.json", b"{}")
    assert (tmp_path / "a/b/c.json").read_bytes() == b"{}"


def test_a_file_is_replaced_and_nothing_else_stays(tmp_path: Path) -> None:
    for data in (b"first", b"second"):
        replace_file(tmp_path / "f", data)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("f", b"second")]


def test_a_reader_sees_the_old_or_the_new_and_never_a_part(tmp_path: Path) -> None:
    path, contents, seen = tmp_path / "f", (b"a" * 300_000, b"b" * 300_000), set()
    replace_file(path, contents[0])

    def write() -> None:
        for n in range(30):
            replace_file(path, contents[n % 2])

    writer = threading.Thread(target=write)
    writer.start()
    while writer.is_alive():
        seen.add(path.read_bytes())
    assert seen <= set(contents)


def test_a_write_that_fails_keeps_the_old_and_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "f"
    target.mkdir()
    (target / "inside").touch()
    with pytest.raises(OSError, match="directory"):
        replace_file(target, b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["f"]
    assert [path.name for path in target.iterdir()] == ["inside"]
