"""Files that no list has are no part of a model: what is hidden goes before anybody looks, or is noticed."""

from __future__ import annotations

from pathlib import Path

from insitu.files import drop_hidden, file_digests, file_names

FILES = ["MLmodel", "code/model.py", ".rows", "code/.hidden/rows", "code/__pycache__/model.pyc", "__pycache__x/rows"]


def put(folder: Path) -> None:
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def test_hidden_files_and_byte_code_are_left_out_unless_they_are_asked_for(tmp_path: Path) -> None:
    put(tmp_path)
    assert file_names(tmp_path) == ["MLmodel", "code/model.py"]
    assert set(file_digests(tmp_path, hidden=True)) == set(FILES)


def test_what_is_hidden_is_removed_and_nothing_else(tmp_path: Path) -> None:
    put(tmp_path)
    drop_hidden(tmp_path)
    assert set(file_names(tmp_path, hidden=True)) == {"MLmodel", "code/model.py"}
