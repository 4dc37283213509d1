"""Repeated keys are counted exactly, however they are spread over blobs, and whatever lies on disk meanwhile."""

from __future__ import annotations

import math
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from example_blobs import Store, pinned, store_of, suite_of, write
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from data_checks import keys
from data_checks.engine import validate
from insitu.adapters.local.blobs import FolderBlobs
from insitu.errors import BlobChanged

NOON = datetime(2013, 6, 1, 12, tzinfo=UTC)
VALUES: dict[str, tuple[pa.DataType, Sequence[Any]]] = {
    "i": (pa.int64(), [-(2**63), -1, 0, 1, 2, 3, 2**63 - 1]),
    "small": (pa.int8(), [-128, -1, 0, 1, 127]),
    "large": (pa.uint64(), [0, 1, 2**63 - 1, 2**63, 2**64 - 1]),
    "f": (pa.float64(), [0.0, -0.0, 1.5, -2.25, math.nan, math.inf, -math.inf]),
    "f4": (pa.float32(), [0.0, -0.0, 1.5, math.nan]),
    "s": (pa.string(), ["", "a", "b", "B", "ü", "a\n", "日本"]),
    "b": (pa.bool_(), [True, False]),
    "t": (pa.timestamp("us", tz="UTC"), [NOON, NOON + timedelta(microseconds=1), NOON.replace(year=1900)]),
    "ns": (pa.timestamp("ns"), [pd.Timestamp(0), pd.Timestamp(1), pd.Timestamp(2), pd.Timestamp(-1)]),
    "d": (pa.date32(), [date(2013, 1, 1), date(1900, 1, 1)]),
    "m": (pa.decimal128(9, 2), [Decimal("1.50"), Decimal("-1.00"), Decimal("0.00")]),
}
SCHEMA = pa.schema({name: kind for name, (kind, _) in VALUES.items()})
COMPOUND = [["i", "f"], ["s", "t"], ["small", "s", "b"], ["large", "ns"], ["d", "m"], ["t", "i"]]
IGNORED = ["all_values_are_missing", "any_value_is_missing", "never"]
SUITE = suite_of(
    *[("expect_column_values_to_be_unique", {"column": name}) for name in VALUES],
    *[
        ("expect_compound_columns_to_be_unique", {"column_list": names, "ignore_row_if": ignored})
        for names in COMPOUND
        for ignored in IGNORED
    ],
)


def brute_force(rows: list[dict[str, Any]]) -> list[int]:
    """Count the rows whose key occurs twice or more, by comparing values one by one."""
    missing = [{name: _canonical(value) is None for name, value in row.items()} for row in rows]

    def repeated(names: Sequence[str], ignore: Any) -> int:
        keys = [
            tuple(_canonical(row[name]) for name in names)
            for row, gone in zip(rows, missing, strict=True)
            if not ignore([gone[name] for name in names])
        ]
        return sum(keys.count(key) > 1 for key in keys)

    ignore = dict(zip(IGNORED, (all, any, lambda _: False), strict=True))
    single = [repeated([name], any) for name in VALUES]
    return single + [repeated(names, ignore[ignored]) for names in COMPOUND for ignored in IGNORED]


def _canonical(value: Any) -> Any:
    return None if value is None or value != value else value


ROW = st.fixed_dictionaries({name: st.none() | st.sampled_from(values) for name, (_, values) in VALUES.items()})
NOTHING: dict[str, Any] = dict.fromkeys(VALUES)
FIRST = {name: values[0] for name, (_, values) in VALUES.items()}
LAST = {name: values[-1] for name, (_, values) in VALUES.items()}


@settings(
    max_examples=4,
    phases=[Phase.explicit, Phase.generate],
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(blobs=st.lists(st.lists(ROW, max_size=7), min_size=1, max_size=4).filter(any))
@example(blobs=[[FIRST], [], [LAST], [FIRST]])
@example(blobs=[[NOTHING] * 3, [FIRST, NOTHING], [NOTHING] * 3])
@example(blobs=[[NOTHING, NOTHING, NOTHING, FIRST], [LAST]])
@example(blobs=[[FIRST, LAST, FIRST], [LAST]])
def test_repeated_keys_are_those_of_a_brute_force_count(blobs: list[list[dict[str, Any]]]) -> None:
    tables = [pa.Table.from_pylist(rows, schema=SCHEMA) for rows in blobs]
    wanted = brute_force([row for rows in blobs for row in rows])
    with tempfile.TemporaryDirectory() as folder:
        root, state = Path(folder, "blobs"), FolderBlobs(Path(folder, "state"))
        store_of(root, tables, row_group_size=2)
        for _ in range(2):  # then from what was kept
            report = validate(SUITE, *pinned(root), state=state)
            assert [outcome.unexpected_count for outcome in report.outcomes] == wanted
        assert (report.bytes_read, report.notes) == (0, ())


def test_row_groups_that_touch_beside_row_groups_that_do_not(store: Store) -> None:
    numbers = [1, 2, 1, 1, 90, 90, 200, 201, 200, 300]
    suite = suite_of(("expect_column_values_to_be_unique", {"column": "k"}))
    report = validate(suite, *store(pa.table({"k": numbers}), pa.table({"k": [300, 5]}), row_group_size=2))
    assert report.outcomes[0].unexpected_count == 3 + 2 + 2 + 2


RANGES = {
    "disjoint": [(0, 50), (50, 90), (200, 210)],
    "touching": [(0, 51), (50, 91), (90, 210)],
    "overlapping": [(0, 60), (40, 90), (55, 210)],
    "nested": [(0, 500), (100, 200), (120, 130), (499, 520)],
    "one inside another's gap": [(0, 1), (3, 4), (0, 1), (2, 3)],
}
KEYS = {
    "numbers": lambda numbers: pa.array(numbers, pa.int64()),
    "texts": lambda numbers: pa.array([f"{n:05}" for n in numbers]),
    "instants": lambda numbers: pa.array(numbers, pa.timestamp("us", tz="UTC")),
}


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("ranges", RANGES)
@pytest.mark.parametrize("row_group_size", [7, 1000])
def test_ranges_within_and_across_blobs(ranges: str, kind: str, row_group_size: int, store: Store) -> None:
    numbers = [np.random.default_rng(0).permutation(np.arange(*ends)).tolist() for ends in RANGES[ranges]]
    tables = [pa.table({"k": KEYS[kind](some), "one": [1] * len(some)}) for some in numbers]
    suite = suite_of(
        ("expect_column_values_to_be_unique", {"column": "k"}),
        ("expect_compound_columns_to_be_unique", {"column_list": ["one", "k"]}),
        ("expect_compound_columns_to_be_unique", {"column_list": ["k", "one"]}),
    )
    report = validate(suite, *store(*tables, row_group_size=row_group_size))
    wanted = int(pd.Series(np.concatenate(numbers)).duplicated(keep=False).sum())
    assert [outcome.unexpected_count for outcome in report.outcomes] == [wanted] * 3
    assert report.success == (wanted == 0)


def test_many_row_groups_and_compound_keys_that_repeat(store: Store) -> None:
    noise = np.random.default_rng(1)
    frame = pd.DataFrame({"a": noise.integers(0, 300, 60_000), "b": noise.integers(0, 300, 60_000)})
    tables = [
        pa.Table.from_pandas(frame[start : start + 9_000], preserve_index=False) for start in range(0, 60_000, 9_000)
    ]
    suite = suite_of(
        ("expect_compound_columns_to_be_unique", {"column_list": ["a", "b"]}),
        ("expect_compound_columns_to_be_unique", {"column_list": ["b", "a"]}),
        ("expect_column_values_to_be_unique", {"column": "a"}),
    )
    report = validate(suite, *store(*tables, row_group_size=500))
    pairs = int(frame.duplicated(keep=False).sum())
    assert 0 < pairs < 60_000
    assert [outcome.unexpected_count for outcome in report.outcomes] == [pairs, pairs, 60_000]


def test_keys_are_read_again_only_where_ranges_overlap(tmp_path: Path) -> None:
    suite = suite_of(("expect_column_values_to_be_unique", {"column": "k"}))
    root, state = tmp_path / "blobs", FolderBlobs(tmp_path / "state")

    def added(number: int, *ends: int) -> tuple[set[int], int | None]:
        keys = np.arange(*ends)
        write(root, number, pa.table({"k": keys, "s": [f"{key:040}" for key in keys]}), row_group_size=400)
        store, batch = pinned(root)
        report = validate(suite, store, batch, state=state)
        return {int(name[5:7]) for name in store.bytes_by_name}, report.outcomes[0].unexpected_count

    assert added(0, 0, 1_000) == ({0}, 0)
    assert added(1, 5_000, 6_000) == ({1}, 0)
    assert [name for name in state.names() if name.count(".") == 2] == [], "nobody had to look at keys"
    assert added(2, 990, 1_500) == ({0, 2}, 20)  # the keys of 0 were not kept: its ranges touched no other
    assert added(3, 500, 700) == ({3}, 20 + 400)  # now they were
    assert added(4, 8_000, 8_100) == ({4}, 20 + 400)


class _Elsewhere:
    """Numbers that are made when they are sliced, as those in files are read."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __len__(self) -> int:
        return 100_000

    def __getitem__(self, part: slice) -> np.ndarray:
        return np.arange(*part.indices(len(self))) * 80 + self._number


def test_of_many_runs_that_lie_in_files_few_are_in_memory() -> None:
    runs = [(_Elsewhere(number),) for number in range(80)]  # 64 MB
    tracemalloc.start()
    try:
        found = keys.counted_together([*runs, runs[0]])
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (found.repeated, found.distinct) == (200_000, 8_000_000)
    assert peak_bytes < 32_000_000


SPILLING = """
import sys
from pathlib import Path
import polars, great_expectations
from example_blobs import pinned, suite_of, write
from data_checks.engine import validate
from insitu.errors import BlobChanged
import pyarrow as pa

def peak_mb():
    # Not getrusage: its peak begins with that of the process that forked this one.
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1000

few, many, work = (Path(sys.argv[1], name) for name in ("few", "many", "work"))
suite = suite_of(("expect_column_values_to_be_unique", {"column": "k"}))
validate(suite, *pinned(few), work=work)
before, files = peak_mb(), set()
look = lambda _: files.update(path for path in work.glob(".keys-*/*") if path.stat().st_size)
report = validate(suite, *pinned(many), work=work, on_progress=look)
print(report.outcomes[0].unexpected_count, len(files), *work.iterdir())
print(peak_mb() - before)

def overwrite(progress):
    look(progress)
    if len(files) > 0 and progress.blobs_done == progress.blobs - 2:  # the last one is not read ahead yet
        write(many, progress.blobs - 1, pa.table({"k": [1]}))

files.clear()
try:
    validate(suite, *pinned(many), work=work, on_progress=overwrite)
except BlobChanged:
    print("changed", len(files) > 0, *work.iterdir())
"""


def test_keys_beyond_the_memory_for_them_lie_in_files_that_are_gone_afterwards(tmp_path: Path) -> None:
    keys = np.random.default_rng(2).permutation(9_000_000)
    keys[-3:] = keys[:3]  # in the first and in the last blob
    tables = [pa.table({"k": some}) for some in np.split(keys, 9)]
    options = {"row_group_size": 250_000, "use_dictionary": False, "compression": "none"}
    store_of(tmp_path / "few", [tables[0][:1_000]], **options)
    store_of(tmp_path / "many", tables, **options)
    (tmp_path / "work").mkdir()
    command = [sys.executable, "-c", SPILLING, str(tmp_path)]
    paths = {"PYTHONPATH": ":".join(path for path in sys.path if path)}
    done = subprocess.run(command, capture_output=True, text=True, env=paths, check=False)
    assert done.returncode == 0, done.stderr
    counted, grown_mb, after_error = done.stdout.splitlines()
    repeated, files, *left = counted.split()
    assert (repeated, left, after_error) == ("6", [], "changed True")
    assert int(files) > 0
    assert float(grown_mb) < 250


def test_no_file_is_left_when_nothing_can_be_read(store: Store, tmp_path: Path) -> None:
    blobs, batch = store(pa.table({"k": [1, 2]}))
    write(blobs.root, 0, pa.table({"k": [3]}))
    with pytest.raises(BlobChanged):
        validate(suite_of(("expect_column_values_to_be_unique", {"column": "k"})), blobs, batch, work=tmp_path / "work")
    assert list((tmp_path / "work").iterdir()) == []
