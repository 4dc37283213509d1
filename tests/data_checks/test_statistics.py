"""What was measured of a blob is kept, and is as good as measuring it again."""

from __future__ import annotations

import json
import math
import tempfile
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from example_blobs import CountingBlobs, pinned, store_of, suite_of, write
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from data_checks.baseline import DriftCheck
from data_checks.engine import validate
from data_checks.report import Report
from data_checks.suite import Suite
from insitu.adapters.local.blobs import FolderBlobs
from insitu.batch import Blob
from insitu.errors import StorageFull
from insitu.settings import DriftSettings, ReadingSettings

EVERY_KIND = suite_of(
    ("expect_table_row_count_to_be_between", {"min_value": 1}),
    ("expect_column_values_to_not_be_null", {"column": "f"}),
    ("expect_column_values_to_be_between", {"column": "k", "min_value": 2}),
    ("expect_column_values_to_be_unique", {"column": "k"}),
    ("expect_compound_columns_to_be_unique", {"column_list": ["f", "s"]}),
    ("expect_column_sum_to_be_between", {"column": "f", "min_value": -1e300}),
    ("expect_column_sum_to_be_between", {"column": "k", "min_value": 0}),
    ("expect_column_mean_to_be_between", {"column": "f", "min_value": -1e300}),
    ("expect_column_stdev_to_be_between", {"column": "f", "min_value": 0}),
    ("expect_column_min_to_be_between", {"column": "f", "min_value": -1e300}),
    ("expect_column_max_to_be_between", {"column": "s", "min_value": ""}),
    ("expect_column_median_to_be_between", {"column": "f", "min_value": -1e300}),
    ("expect_column_most_common_value_to_be_in_set", {"column": "s", "value_set": ["a"]}),
    ("expect_column_values_to_match_regex", {"column": "s", "regex": "^a"}),
    ("expect_column_unique_value_count_to_be_between", {"column": "s", "min_value": 1}),
)


def rows_from(start: int, count: int = 2_000) -> pa.Table:
    """Return rows with keys from *start*, so that blobs 1,900 apart share a hundred keys."""
    noise = np.random.default_rng(start)
    return pa.table(
        {
            "k": np.arange(start, start + count),
            "f": noise.normal(size=count) * 10.0 ** noise.integers(-9, 9, count),
            "s": pa.array([f"{'abc'[n % 3]}{n % 40}" for n in range(count)], pa.string()),
            "other": noise.normal(size=count),
        }
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    store_of(tmp_path / "blobs", [rows_from(1_900 * number) for number in range(4)], row_group_size=700)
    return tmp_path / "blobs"


@pytest.fixture
def state(tmp_path: Path) -> FolderBlobs:
    return FolderBlobs(tmp_path / "state")


def said(report: Report) -> str:
    """Return everything that a validation says of the data, and not of what it cost or what was kept."""
    return json.dumps([report.full, report.to_json() | {"bytes_read": 0, "notes": of_data(report)}, report.profile])


def of_data(report: Report) -> list[str]:
    return [note for note in report.notes if not note.startswith("what was")]


def checked(
    root: Path, state: FolderBlobs | None, suite: Suite = EVERY_KIND, **options: Any
) -> tuple[Report, CountingBlobs]:
    store, batch = pinned(root)
    report = validate(suite, store, batch, state=state, **options)
    assert report.bytes_read == sum(store.bytes_by_name.values())
    return report, store


def test_nothing_is_read_when_nothing_is_new(root: Path, state: FolderBlobs) -> None:
    first, _ = checked(root, state)
    second, store = checked(root, state)
    assert store.ranges == []
    assert first.bytes_read > 0 == second.bytes_read
    assert said(first) == said(second)


def test_what_was_measured_is_the_same_in_memory_and_in_files(
    root: Path, state: FolderBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    drift = DriftCheck(DriftSettings(), pinned(root)[1])
    in_memory, _ = checked(root, None, drift=drift)
    monkeypatch.setattr("data_checks.spill._HELD_VALUES_BYTES", 0)
    in_files = [checked(root, kept, drift=drift) for kept in (None, state, state)]
    assert [said(report) for report, _ in in_files] == 3 * [said(in_memory)]
    assert in_files[-1][1].ranges == [], "nothing is read again"
    assert any(outcome.blobs for outcome in in_memory.outcomes), "counts of single blobs are asked for, too"


def test_of_one_new_blob_only_the_needed_columns_are_read(root: Path, state: FolderBlobs) -> None:
    checked(root, state)
    new = write(root, 4, rows_from(50_000), row_group_size=700)
    report, store = checked(root, state)
    footer = pq.read_metadata(root / new)
    needed = sum(
        chunk.total_compressed_size
        for group in range(footer.num_row_groups)
        for chunk in map(footer.row_group(group).column, range(footer.num_columns))
        if chunk.path_in_schema != "other"
    )
    assert list(store.bytes_by_name) == [new]
    assert needed <= report.bytes_read <= needed + (16 << 10) + footer.serialized_size
    assert said(report) == said(checked(root, None)[0])


def test_an_edited_suite_reads_only_what_is_not_known(root: Path, state: FolderBlobs) -> None:
    checked(root, state, suite_of(("expect_column_mean_to_be_between", {"column": "f", "min_value": -1e300})))
    edited = suite_of(
        ("expect_column_mean_to_be_between", {"column": "f", "max_value": 1e300}),
        ("expect_column_min_to_be_between", {"column": "k", "min_value": 0}),
    )
    report, store = checked(root, state, edited)
    for name, start, length in store.ranges:
        footer = pq.read_metadata(root / name)
        if start + length > (root / name).stat().st_size - (16 << 10):
            continue  # the end of the file, which is read to know where the columns are
        chunks = [footer.row_group(n).column(0) for n in range(footer.num_row_groups)]
        held = [
            (chunk.dictionary_page_offset or chunk.data_page_offset, chunk.total_compressed_size) for chunk in chunks
        ]
        assert any(begin <= start and start + length <= begin + size for begin, size in held)
    assert len(store.ranges) > len(store.bytes_by_name) == 4
    assert said(report) == said(checked(root, None, edited)[0])


def test_an_overwritten_blob_is_read_again(root: Path, state: FolderBlobs) -> None:
    checked(root, state)
    changed = write(root, 2, rows_from(90_000, 10))
    report, store = checked(root, state)
    assert list(store.bytes_by_name) == [changed]
    assert report.rows == 3 * 2_000 + 10
    assert said(report) == said(checked(root, None)[0])
    assert checked(root, state)[0].bytes_read == 0


def forget_comparisons(state: FolderBlobs) -> None:
    """Remove what comparisons of keys found, so that the keys themselves are needed again."""
    for name in [name for name in state.names() if "/joint/" in name]:
        (state.root / name).unlink()


DAMAGE = {
    "emptied": lambda data: b"",
    "truncated": lambda data: data[: len(data) // 2],
    "one bit": lambda data: data[:-100] + bytes([data[-100] ^ 1]) + data[-99:],
    "foreign": lambda data: b"PAR1 and something else",
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("keys", [False, True])
def test_a_damaged_entry_is_measured_again_and_replaced(
    damage: str, keys: bool, root: Path, state: FolderBlobs
) -> None:
    sound, _ = checked(root, state)
    entries = {name: state.read(name) for name in state.names() if (name.count(".") == 2) == keys}
    assert entries
    for name, data in entries.items():
        (state.root / name).write_bytes(DAMAGE[damage](data))
    forget_comparisons(state)
    report, _ = checked(root, state)
    assert report.bytes_read > 0
    assert said(report) == said(sound)
    assert len(report.notes) == len(of_data(report)) + 1
    assert all(state.read(name) != DAMAGE[damage](data) for name, data in entries.items())
    assert checked(root, state)[0].bytes_read == 0


def test_the_entry_of_another_blob_is_no_entry(root: Path, state: FolderBlobs) -> None:
    sound, _ = checked(root, state)
    entries = [name for name in state.names() if name.count(".") == 1 and "/asked/" not in name]
    one, other = entries[:2]
    (state.root / one).write_bytes(state.read(other))
    report, store = checked(root, state)
    assert len(store.bytes_by_name) == 1
    assert said(report) == said(sound)


class FullDisk(FolderBlobs):
    """Takes no more bytes."""

    def create(self, name: str, data: bytes) -> Blob:
        raise StorageFull(f"{name} of {len(data)} bytes does not fit")


def test_state_that_cannot_be_written_only_costs_time(root: Path, tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("no folder")
    wanted = said(checked(root, None)[0])
    for state in (FolderBlobs(in_the_way), FullDisk(tmp_path / "full")):
        reports = [checked(root, state)[0] for _ in range(2)]
        assert [said(report) for report in reports] == [wanted, wanted]
        assert all(len(report.notes) == len(of_data(report)) + 1 for report in reports)
    assert in_the_way.read_text() == "no folder"


def test_suites_share_what_they_have_in_common(root: Path, state: FolderBlobs) -> None:
    one = suite_of(("expect_column_max_to_be_between", {"column": "k", "min_value": 0}))
    checked(root, state)
    assert (
        checked(root, state, suite_of(("expect_column_max_to_be_between", {"column": "s", "min_value": ""})))[
            0
        ].bytes_read
        == 0
    )
    assert checked(root, state, one)[0].bytes_read > 0
    assert checked(root, state)[0].bytes_read == 0, "what another suite measures takes nothing away"
    assert checked(root, state, one)[0].bytes_read == 0


def test_another_way_of_reading_is_another_entry(tmp_path: Path, state: FolderBlobs) -> None:
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "rows.csv").write_text("k\n1\n2\n2\n")
    suite = suite_of(("expect_column_values_to_be_of_type", {"column": "k", "type_": "str"}))
    as_text = ReadingSettings(types={"k": "text"})
    assert not checked(tmp_path / "blobs", state, suite)[0].success
    assert checked(tmp_path / "blobs", state, suite, reading=as_text)[0].success
    assert not checked(tmp_path / "blobs", state, suite)[0].success
    assert checked(tmp_path / "blobs", state, suite, reading=as_text)[0].bytes_read == 0


def test_blobs_without_rows_are_known_too(root: Path, state: FolderBlobs) -> None:
    write(root, 4, rows_from(0, 0))
    write(root, 0, rows_from(0, 0))
    first, _ = checked(root, state)
    second, store = checked(root, state)
    assert (first.rows, store.ranges) == (3 * 2_000, [])
    assert said(first) == said(second)


def test_a_text_blob_without_rows_is_known_too(tmp_path: Path, state: FolderBlobs) -> None:
    (tmp_path / "blobs").mkdir()
    for name, text in {"a": "k,s\n", "b": "k,s\n1,x\n", "c": "k,s\n"}.items():
        (tmp_path / "blobs" / f"{name}.csv").write_text(text)
    suite = suite_of(("expect_column_values_to_be_unique", {"column": "k"}))
    first, _ = checked(tmp_path / "blobs", state, suite)
    second, store = checked(tmp_path / "blobs", state, suite)
    assert (first.rows, store.ranges) == (1, [])
    assert said(first) == said(second)


def test_what_is_known_of_a_blob_holds_when_later_ones_have_a_column_more(root: Path, state: FolderBlobs) -> None:
    checked(root, state)
    later = rows_from(20_000, 50)
    new = write(root, 4, later.append_column("added", pa.array([1, 2, None, 4, 5] * 10)))
    report, store = checked(root, state)
    assert list(store.bytes_by_name) == [new]
    assert said(report) == said(checked(root, None)[0])
    of_added = suite_of(
        ("expect_column_values_to_not_be_null", {"column": "added"}),
        ("expect_column_mean_to_be_between", {"column": "added", "min_value": 3, "max_value": 3}),
    )
    for _ in range(2):
        report, _ = checked(root, state, of_added)
        assert [outcome.unexpected_count for outcome in report.outcomes] == [4 * 2_000 + 10, None]
        assert report.outcomes[1].success
        assert said(report) == said(checked(root, None, of_added)[0])
    assert report.bytes_read == 0


def test_counts_of_many_row_groups_are_kept(tmp_path: Path, state: FolderBlobs) -> None:
    store_of(tmp_path / "blobs", [rows_from(0, 700)], row_group_size=10)
    first, _ = checked(tmp_path / "blobs", state)
    assert said(first) == said(checked(tmp_path / "blobs", state)[0])


number = st.none() | st.floats(width=64, allow_nan=True, allow_infinity=False).map(lambda f: f % 1e200)
row = st.tuples(st.none() | st.integers(-9, 9), number, st.none() | st.sampled_from(["", "a", "ü", "a\n"]))
FLOATS = [0.1, 0.2, 0.3, 1e16, -1e16, 1e-300, math.nan, -0.0, None, 3.3]


@settings(max_examples=12, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(rows=st.lists(row, min_size=1, max_size=25), cuts=st.lists(st.integers(0, 25), min_size=1, max_size=3))
@example(rows=[(n, f, "a") for n, f in enumerate(FLOATS)], cuts=[3, 3, 7])
def test_adding_blobs_one_by_one_equals_a_full_pass_bit_for_bit(rows: list[tuple[Any, ...]], cuts: list[int]) -> None:
    schema = pa.schema({"k": pa.int64(), "f": pa.float64(), "s": pa.string()})
    table = pa.Table.from_pylist([dict(zip("kfs", one, strict=True)) for one in rows], schema=schema)
    ends = [0, *sorted(cuts), len(rows)]
    with tempfile.TemporaryDirectory() as folder:
        root, state = Path(folder, "blobs"), FolderBlobs(Path(folder, "state"))
        for number, (start, end) in enumerate(pairwise(ends)):
            write(root, number, table.slice(start, max(0, end - start)), row_group_size=3)
            if min(end, len(rows)) > 0:
                report, store = checked(root, state)
                assert len(store.bytes_by_name) <= number + 1
        assert said(report) == said(checked(root, None)[0])
        assert checked(root, state)[0].bytes_read == 0


def _said_of(root: Path, state: Path) -> str:
    return said(validate(EVERY_KIND, *pinned(root), state=FolderBlobs(state)))


def test_processes_may_share_the_state(root: Path, tmp_path: Path) -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        wanted = pool.submit(_said_of, root, tmp_path / "first").result()  # it has imported everything now
        for name in ("a", "b"):
            other = pool.submit(_said_of, root, tmp_path / name)
            assert [_said_of(root, tmp_path / name), other.result()] == [wanted, wanted]
            assert checked(root, FolderBlobs(tmp_path / name))[1].ranges == []
