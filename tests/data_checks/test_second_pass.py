"""A verdict never depends on what a summary left open, and a second look is told and counted."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from example_blobs import pinned, store_of, suite_of

from data_checks.engine import validate
from data_checks.report import Report
from data_checks.suite import Suite
from insitu.adapters.local.blobs import FolderBlobs

_NOISE = np.random.default_rng(11)
ROWS = pa.table(
    {
        "f": pa.array(_NOISE.lognormal(0, 3, 20_001), mask=_NOISE.random(20_001) < 0.01),
        "i": _NOISE.integers(-(2**40), 2**40, 20_001),
        "small": pa.array(_NOISE.integers(0, 30_000, 20_001), pa.int32()),
        "f4": pa.array(_NOISE.normal(size=20_001), pa.float32()),
        "s": [f"text {n}" for n in _NOISE.integers(0, 9_000, 20_001)],
        "t": pa.array(_NOISE.integers(0, 15_000, 20_001), pa.timestamp("us", tz="UTC")),
    }
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("blobs")
    store_of(folder, [ROWS[:9_000], ROWS[9_000:17_000], ROWS[:0], ROWS[17_000:]], row_group_size=4_000)
    return folder


def checked(root: Path, suite: Suite, **options: Any) -> Report:
    store, batch = pinned(root)
    report = validate(suite, store, batch, **options)
    assert report.bytes_read == sum(store.bytes_by_name.values())
    return report


def by_gx(suite: Suite) -> list[dict[str, Any]]:
    """Return what GX itself finds on pandas, over all rows at once."""
    from data_checks import judge

    own = judge.Judge(ROWS)
    return [own.own_verdict(expectation).to_json_dict() for expectation in judge.build(suite)]


def quantiles(column: str, share: float, low: float | None, high: float | None) -> tuple[str, dict[str, Any]]:
    ranges = {"quantiles": [share], "value_ranges": [[low, high]]}
    return "expect_column_quantile_values_to_be_between", {"column": column, "quantile_ranges": ranges}


def limits_around(value: float) -> list[tuple[float | None, float | None]]:
    """Return intervals that begin or end right at, just below and just above *value*."""
    whole = isinstance(value, int)
    below = value - 1 if whole else math.nextafter(value, -math.inf)
    above = value + 1 if whole else math.nextafter(value, math.inf)
    near = [(end, None) for end in (below, value, above)] + [(None, end) for end in (below, value, above)]
    return [*near, (value, value), (below, above)]


def ranks() -> list[tuple[str, dict[str, Any]]]:
    found = []
    for column in ("f", "i", "small", "f4"):
        values = ROWS[column].to_pandas().dropna()
        for share in (0.0, 0.123, 0.5, 0.999, 1.0):
            exact = values.quantile(share, interpolation="nearest").item()
            found += [quantiles(column, share, *limits) for limits in limits_around(exact)]
            # GX takes a value for a limit when they are the same to 1 in 10,000.
            near = [exact * (1 + away) for away in (-1e-3, -1.1e-4, -0.9e-4, 0.9e-4, 1.1e-4, 1e-3)]
            found += [quantiles(column, share, *limits) for end in near for limits in ((end, None), (None, end))]
    return found


def others() -> list[tuple[str, dict[str, Any]]]:
    found: list[tuple[str, dict[str, Any]]] = []
    for column in ROWS.column_names:
        values = ROWS[column].to_pandas().dropna()
        asked = {
            "expect_column_unique_value_count_to_be_between": int(values.nunique()),
            "expect_column_proportion_of_unique_values_to_be_between": values.nunique() / len(values),
        }
        if column not in "st":
            asked["expect_column_median_to_be_between"] = values.median().item()
        for kind, exact in asked.items():
            for low, high in limits_around(exact):
                found.append((kind, {"column": column, "min_value": low, "max_value": high}))
            found.append((kind, {"column": column, "min_value": exact, "strict_min": True}))
    return found


@pytest.mark.parametrize("asked", [ranks, others])
def test_limits_at_the_true_value_are_judged_as_gx_judges_them(asked: Any, root: Path) -> None:
    suite = suite_of(*asked())
    report, wanted = checked(root, suite), by_gx(suite)
    found = [result["success"] for result in report.full["results"]]
    assert found == [result["success"] for result in wanted]
    assert len(found) / 10 < sum(found) < len(found) * 9 / 10
    seen = [result["result"]["observed_value"] for result in report.full["results"]]
    again = ["read again" in note for note in report.notes]
    assert sum(again) > len(found) / 2
    exact = [result["result"]["observed_value"] for result in wanted]
    for row, ours, theirs in zip(suite.expectations, seen, exact, strict=True):
        about = f"{row['type']} on {row['kwargs']['column']}: "
        if not any(note.startswith(about) and "estimate" in note for note in report.notes):
            assert ours == theirs


def test_a_wide_limit_is_settled_by_the_summary_which_says_so(root: Path) -> None:
    suite = suite_of(
        quantiles("f", 0.5, 0.5, 2.0),
        ("expect_column_median_to_be_between", {"column": "i", "min_value": -(2**39), "max_value": 2**39}),
        ("expect_column_unique_value_count_to_be_between", {"column": "s", "min_value": 5_000, "max_value": 12_000}),
    )
    report = checked(root, suite)
    assert report.success
    assert [note.split(":")[0] for note in report.notes] == [
        "expect_column_quantile_values_to_be_between on f",
        "expect_column_median_to_be_between on i",
        "expect_column_unique_value_count_to_be_between on s",
    ]
    assert all("the value shown is an estimate" in note and "the verdict is exact" in note for note in report.notes)
    frame = ROWS.to_pandas()
    (shown,), middle, count = (result["result"]["observed_value"] for result in _with_values(report))
    assert abs((frame["f"].dropna() < shown).mean() - 0.5) <= 0.004
    assert abs((frame["i"] < middle).mean() - 0.5) <= 0.004
    assert count == pytest.approx(frame["s"].nunique(), rel=0.08)


def _with_values(report: Report) -> list[dict[str, Any]]:
    found = [dict(result) for result in report.full["results"]]
    found[0]["result"] = {"observed_value": found[0]["result"]["observed_value"]["values"]}
    return found


def test_a_second_look_reads_the_columns_that_it_needs_and_says_how_much(root: Path, tmp_path: Path) -> None:
    wide = quantiles("f", 0.5, 0.1, 9.0)
    exact = ROWS["f"].to_pandas().quantile(0.5, interpolation="nearest").item()
    once, state = checked(root, suite_of(wide)), FolderBlobs(tmp_path / "state")
    for _ in range(2):
        twice = checked(root, suite_of(wide, quantiles("f", 0.5, exact, exact)), state=state)
        estimate, second = twice.notes
        said = re.fullmatch(r"\S+ on f: its summary did not settle it: read again, (\d+) bytes", second)
        assert "estimate" in estimate
        assert said
        assert int(said[1]) > 20_001 * 7
        assert twice.success
    assert int(said[1]) == twice.bytes_read, "what the first look found was kept"
    fresh = checked(root, suite_of(wide, quantiles("f", 0.5, exact, exact)))
    assert fresh.bytes_read - once.bytes_read <= int(said[1])


def test_what_few_values_settle_exactly_needs_no_second_look(root: Path) -> None:
    few = pa.table({"i": [1, 2, 2, 3, None], "s": ["a", "b", "a", None, "c"]})
    suite = suite_of(
        quantiles("i", 0.5, 2, 2),
        ("expect_column_median_to_be_between", {"column": "i", "min_value": 5}),
        ("expect_column_unique_value_count_to_be_between", {"column": "s", "min_value": 3, "max_value": 3}),
    )
    store_of(root / "few", [few, few])
    report = checked(root / "few", suite)
    assert ([outcome.success for outcome in report.outcomes], report.notes) == ([True, False, True], ())


def test_infinite_values_are_judged_as_gx_judges_them(tmp_path: Path) -> None:
    values = pd.Series(np.random.default_rng(5).normal(size=9_000))
    values[:900], values[900:4_000] = -math.inf, math.inf
    table = pa.table({"f": values})
    store_of(tmp_path, [table[:5_000], table[5_000:]])
    for share in (0.05, 0.1, 0.5, 0.9):
        exact = values.quantile(share, interpolation="nearest").item()
        for low, high in ((exact, exact), (None, -1e300), (1e300, None), (-1e300, 1e300)):
            inside = (low is None or low <= exact) and (high is None or exact <= high)
            assert checked(tmp_path, suite_of(quantiles("f", share, low, high))).success == inside
