"""How the keys of blobs compare is kept, and yet every count is the one of a full pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from example_blobs import pinned, store_of, suite_of, write

from data_checks.engine import validate
from data_checks.report import Report
from insitu.adapters.local.blobs import FolderBlobs

SUITE = suite_of(
    ("expect_column_values_to_be_unique", {"column": "k"}),
    ("expect_compound_columns_to_be_unique", {"column_list": ["k", "s"]}),
)
BLOBS, ROWS = 9, 50


def rows(number: int, keys: list[int] | None = None) -> pa.Table:
    """Return rows whose keys lie between those of all other blobs."""
    found = keys or [BLOBS * n + number for n in range(ROWS)]
    return pa.table({"k": found, "s": [f"{key % 7}" for key in found]})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    store_of(tmp_path / "blobs", [rows(number) for number in range(BLOBS - 1)])
    return tmp_path / "blobs"


@pytest.fixture
def state(tmp_path: Path) -> FolderBlobs:
    return FolderBlobs(tmp_path / "state")


def checked(root: Path, state: FolderBlobs | None) -> Report:
    return validate(SUITE, *pinned(root), state=state)


def kept(state: FolderBlobs, what: str) -> list[Path]:
    return [state.root / name for name in state.names() if (("/joint/" in name) if what == "joint" else _is_run(name))]


def _is_run(name: str) -> bool:
    return name.count(".") == 2


def test_when_no_blob_is_new_the_keys_are_not_needed_again(root: Path, state: FolderBlobs) -> None:
    sound = checked(root, state)
    runs = kept(state, "runs")
    assert len(runs) == 2 * (BLOBS - 1)
    for path in runs:
        path.unlink()
    again = checked(root, state)
    assert (again.full, again.bytes_read) == (sound.full, 0)


NEW: dict[str, list[int] | None] = {
    "other keys": None,
    "a key of the first blob": [8, 0],
    "a key of the last blob": [8, BLOBS * (ROWS - 1) + BLOBS - 2],
    "a key of its own twice": [8, 8],
    "many keys of all": list(range(0, BLOBS * ROWS, 3)),
}


@pytest.mark.parametrize("what", NEW)
def test_a_new_blob_is_compared_with_all_that_are_known(what: str, root: Path, state: FolderBlobs) -> None:
    checked(root, state)
    write(root, BLOBS - 1, rows(BLOBS - 1, NEW[what]))
    found, wanted = checked(root, state), checked(root, None)
    assert found.full == wanted.full
    assert found.success == (what == "other keys")
    assert 0 < found.bytes_read < wanted.bytes_read
    assert checked(root, state).full == wanted.full


def _overwritten(root: Path) -> None:
    write(root, 3, rows(3, [3, 0]))


def _fewer(root: Path) -> None:
    (root / "part-02" / "rows.parquet").unlink()


def _many_more(root: Path) -> None:
    for number in range(BLOBS - 1, 2 * BLOBS):
        write(root, number, rows(number, [-number, 0]))


@pytest.mark.parametrize("change", [_overwritten, _fewer, _many_more])
def test_another_batch_is_counted_as_in_a_full_pass(change: Any, root: Path, state: FolderBlobs) -> None:
    checked(root, state)
    change(root)
    wanted = checked(root, None).full
    assert [checked(root, state).full for _ in range(2)] == [wanted, wanted]


def test_repeated_keys_are_not_forgotten_when_more_blobs_come(root: Path, state: FolderBlobs) -> None:
    write(root, 0, rows(0, [0, 1]))
    checked(root, state)
    write(root, BLOBS - 1, rows(BLOBS - 1))
    found = checked(root, state)
    assert found.full == checked(root, None).full
    assert [outcome.unexpected_count for outcome in found.outcomes] == [2, 2]


def test_a_damaged_comparison_is_made_again_and_told(root: Path, state: FolderBlobs) -> None:
    sound = checked(root, state)
    joint = kept(state, "joint")
    assert joint
    for path in joint:
        path.write_bytes(path.read_bytes()[:-1])
    again = checked(root, state)
    assert again.full == sound.full
    assert [note for note in again.notes if "damaged" in note]
    assert checked(root, state).notes == sound.notes
