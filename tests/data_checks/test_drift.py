"""Drift from the champion's training data: the figures, what is compared with what, and the limits."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from example_blobs import pinned, suite_of, write
from scipy.spatial.distance import jensenshannon

from data_checks.baseline import Baseline, DriftCheck
from data_checks.engine import validate
from data_checks.profiles import Profile
from data_checks.report import Report
from insitu.adapters.local.blobs import FolderBlobs
from insitu.errors import DataError, StateDamaged
from insitu.settings import DriftSettings

SUITE = suite_of(("expect_table_row_count_to_be_between", {"min_value": 1}))
NO_LIMIT = DriftSettings(columns=["v"])


def checked(
    root: Path, limits: DriftSettings, baseline: Baseline | None = None, training: int | None = None, **options: Any
) -> Report:
    store, batch = pinned(root)
    trained = type(batch)(batch.container, batch.blobs[:training])
    return validate(options.pop("suite", SUITE), store, batch, drift=DriftCheck(limits, trained, baseline), **options)


def champion_of(report: Report) -> Baseline:
    return Baseline("v3", json.loads(json.dumps(report.profile)))


def table(values: Sequence[Any]) -> pa.Table:
    return pa.table({"v": values})


def drifted(tmp_path: Path, then: pa.Table, now: pa.Table, limits: DriftSettings = NO_LIMIT) -> Report:
    """Train on *then* in two blobs; *now* comes later."""
    half = then.num_rows // 2
    write(tmp_path / "blobs", 0, then[:half], row_group_size=700)
    write(tmp_path / "blobs", 1, then[half:])
    champion = champion_of(checked(tmp_path / "blobs", limits))
    write(tmp_path / "blobs", 2, now, row_group_size=700)
    return checked(tmp_path / "blobs", limits, champion)


def figures(report: Report, column: str = "v") -> dict[str, float | None]:
    assert report.drift is not None
    found: dict[str, float | None] = report.drift["columns"][column]
    return found


def by_hand(then: Sequence[float], now: Sequence[float]) -> dict[str, float]:
    """Return both figures from the counts per bin, as scipy and as textbooks have them."""
    p, q = (np.array(side) / sum(side) for side in (then, now))
    a, b = p.clip(1e-4), q.clip(1e-4)
    seen = (p > 0) | (q > 0)
    return {
        "psi": float(((a - b) * np.log(a / b))[seen].sum()),
        "jensen_shannon": float(jensenshannon(p, q, base=2)),
    }


def approximately(wanted: dict[str, float]) -> Any:
    return pytest.approx(wanted, rel=1e-3, abs=1e-9)  # the report rounds to 4 digits


def of_both(report: Report, column: str = "v") -> dict[str, float | None]:
    return {name: figures(report, column)[name] for name in ("psi", "jensen_shannon")}


CATEGORIES = [
    (["a"] * 60 + ["b"] * 40, ["a"] * 40 + ["b"] * 60),
    (["a"] * 98 + ["b", "c"], ["a"] * 10 + ["b"] * 50 + ["c"] * 40),
    (["a"] * 50 + ["b"] * 50, ["a"] * 100),
    (["a"] * 50 + [None] * 50, ["a"] * 50 + ["b"] * 50),
    (["a"] * 50, ["new"] * 30 + ["other"] * 30),
    ([True] * 30 + [False] * 70, [True] * 70 + [False] * 20 + [None] * 10),
    (["", "ü", "a\n"] * 20, ["", "", "ü", "日本"] * 20),
]


@pytest.mark.parametrize(("then", "now"), CATEGORIES)
def test_categories_drift_as_by_hand(then: list[Any], now: list[Any], tmp_path: Path) -> None:
    known = [name for name in dict.fromkeys(then) if name is not None]
    counts = [Counter(value for value in side if value is not None) for side in (then, now)]
    bins = [[count[name] for name in known] for count in counts]
    of_others = [sum(count.values()) - sum(some) for count, some in zip(counts, bins, strict=True)]
    report = drifted(tmp_path, table(then), table(now))
    wanted = by_hand(*([*some, other] for some, other in zip(bins, of_others, strict=True)))
    assert of_both(report) == approximately(wanted)
    assert figures(report)["new_categories"] == approximately(of_others[1] / sum(counts[1].values()))
    missing = [side.count(None) / len(side) for side in (then, now)]
    assert figures(report)["missing_change"] == approximately(abs(missing[0] - missing[1]))


NUMBERS = {
    "tenths": (list(range(1, 11)) * 30, list(range(5, 15)) * 30),
    "a hundred": (list(range(100)) * 7, [n // 2 for n in range(100)] * 7),
    "few": ([0, 1, 1, 2] * 50, [0, 0, 0, 2, 9] * 50),
    "constant": ([5] * 40, [5] * 20 + [6] * 20),
    "halves": ([n / 2 for n in range(40)] * 5, [-n / 2 for n in range(40)] * 5),
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_numbers_drift_as_by_hand(kind: str, tmp_path: Path) -> None:
    then, now = NUMBERS[kind]
    ordered = sorted(then)
    ends = sorted({ordered[math.ceil(tenth * len(ordered) / 10) - 1] for tenth in range(1, 10)})
    bins = [np.bincount(np.searchsorted(ends, side), minlength=len(ends) + 1) for side in (then, now)]
    report = drifted(tmp_path, table(then), table(now))
    assert of_both(report) == approximately(by_hand(*bins))
    assert (figures(report)["new_categories"], figures(report)["missing_change"]) == (None, 0)


def test_the_bins_are_tenths(tmp_path: Path) -> None:
    """Ten values, the same number of each: every value is a bin of its own."""
    report = drifted(tmp_path, table(list(range(10)) * 10), table([7] * 100))
    assert of_both(report) == approximately(by_hand([10] * 10, [0] * 7 + [100, 0, 0]))


@pytest.mark.parametrize("shift", [0.0, 0.5, 3.0])
def test_many_distinct_numbers_drift_nearly_as_by_hand(shift: float, tmp_path: Path) -> None:
    noise = np.random.default_rng(8)
    then, now = noise.normal(size=40_000), noise.normal(size=30_000) + shift
    ends = np.quantile(then, np.arange(1, 10) / 10)
    wanted = by_hand(*(np.bincount(np.searchsorted(ends, side), minlength=10) for side in (then, now)))
    assert of_both(drifted(tmp_path, table(then), table(now))) == pytest.approx(wanted, rel=0.02, abs=2e-3)


@pytest.mark.parametrize(
    "values",
    [
        ["a", "b", "c", None] * 9,
        [True, False, None] * 9,
        [1.5, None, -2.25, 1e300] * 9,
        list(range(30_000)),
        [0.1] * 99,
    ],
    ids=["texts", "flags", "numbers", "many", "constant"],
)
def test_the_same_data_have_not_drifted(values: list[Any], tmp_path: Path) -> None:
    found = figures(drifted(tmp_path, table(values), table(values)))
    assert found["missing_change"] == 0
    assert found["new_categories"] in (0, None)
    assert found["psi"] == pytest.approx(0, abs=1e-4)
    assert found["jensen_shannon"] == pytest.approx(0, abs=5e-3)
    if len(values) < 100:
        assert (found["psi"], found["jensen_shannon"]) == (0, 0)


def test_more_than_a_thousand_categories(tmp_path: Path) -> None:
    many = [f"id {n}" for n in range(3_000)]
    few_then_many = drifted(tmp_path / "a", table(["a", "b"] * 500), table(["a"] * 500 + many))
    assert figures(few_then_many)["new_categories"] == approximately(3_000 / 3_500)
    assert of_both(few_then_many) == approximately(by_hand([500, 500, 0], [500, 0, 3_000]))
    many_then_few = drifted(tmp_path / "b", table([*["a"] * 3_000, *many]), table(["a"] * 50))
    assert figures(many_then_few)["new_categories"] is None, "what was rare then is not known now"
    assert len(checked(tmp_path / "b" / "blobs", NO_LIMIT).profile["columns"]["v"]["categories"]) == 1_000


def test_infinite_values_drift_too(tmp_path: Path) -> None:
    noise = np.random.default_rng(9)
    then, now = noise.normal(size=9_000), noise.normal(size=9_000)
    now[:4_000], now[4_000:8_000] = -np.inf, np.inf
    report = drifted(tmp_path, table(then), table(now))
    assert figures(report)["psi"] == pytest.approx(by_hand([900] * 10, [4_100, *[100] * 8, 4_100])["psi"], rel=0.05)
    now = np.concatenate([[-np.inf] * 3, noise.normal(size=9_000) + 5])  # nothing is known of what lies beside them
    report = drifted(tmp_path / "other", table(then), table(now))
    assert of_both(report) == pytest.approx(by_hand([900] * 10, [3, *[0] * 8, 9_000]), rel=0.1)


def test_limits_are_judged_in_the_same_report(tmp_path: Path) -> None:
    limits = DriftSettings(
        columns=["v"], max_psi=0.3, max_jensen_shannon=0.5, max_missing_change=0.05, max_new_categories=0
    )
    then, now = table(["a"] * 90 + ["b"] * 10), table(["a"] * 60 + ["b"] * 20 + [None] * 20)
    report = drifted(tmp_path, then, now, limits)
    found = {outcome.expectation: outcome for outcome in report.outcomes[1:]}
    assert {name: outcome.success for name, outcome in found.items()} == {
        "expect_column_drift_psi_to_be_at_most": True,
        "expect_column_drift_jensen_shannon_to_be_at_most": True,
        "expect_column_drift_missing_change_to_be_at_most": False,
        "expect_column_drift_new_categories_to_be_at_most": True,
    }
    (failure,) = report.failures
    assert failure.columns == ("v",)
    assert failure.reason == (
        "drifted from the champion's training data: missing_change 0.2, at most 0.05 by [drift] in model.toml"
    )
    assert (report.success, report.failed, report.expectations) == (False, 1, 5)
    assert report.full["statistics"]["evaluated_expectations"] == 5
    assert report.full["results"][3]["result"]["observed_value"] == pytest.approx(0.2)
    assert report.full["results"][3]["expectation_config"]["kwargs"] == {"column": "v", "max_value": 0.05}


def test_a_figure_at_its_limit_is_within_it(tmp_path: Path) -> None:
    then, now = table(["a"] * 20), table(["a"] * 15 + ["new"] * 5)
    for limit, within in ((0.25, True), (0.24, False)):
        limits = DriftSettings(columns=["v"], max_new_categories=limit)
        assert drifted(tmp_path / str(limit), then, now, limits).success == within


def test_without_a_champion_the_profile_is_kept_and_nothing_compared(tmp_path: Path) -> None:
    write(
        tmp_path, 0, pa.table({"v": ["a", "b", "a", None], "n": [1.5, None, 3.0, 1.5], "t": pa.nulls(4, pa.date32())})
    )
    limits = DriftSettings(columns=["v", "n", "t"], max_psi=0.1)
    report = checked(tmp_path, limits)
    assert (report.drift, report.expectations) == (None, 1)
    (blob,) = pinned(tmp_path)[1].blobs
    assert report.profile == {
        "rows": 4,
        "columns": {
            "v": {"filled": 3, "buckets": (), "categories": {"a": 2, "b": 1}},
            "n": {"filled": 3, "buckets": ((1.5, 1.5, 2), (3.0, 3.0, 1)), "categories": None},
        },
        "blobs": [[blob.name, blob.etag]],
    }
    sent = json.loads(json.dumps(report.profile))
    assert Profile.from_json(sent).to_json() == {key: report.profile[key] for key in ("rows", "columns")}
    assert validate(SUITE, *pinned(tmp_path)).profile == {}


def test_new_data_are_the_blobs_that_the_champion_was_not_trained_on(tmp_path: Path) -> None:
    for number in range(4):
        write(tmp_path, number, table([f"month {number}"] * 20))
    champion = champion_of(checked(tmp_path, NO_LIMIT, training=3))
    assert champion.profile["rows"] == 60
    state = FolderBlobs(tmp_path.with_name("state"))
    for _ in range(2):  # then from what was kept of each blob
        report = checked(tmp_path, NO_LIMIT, champion, state=state)
        assert report.drift is not None
        assert (report.drift["champion"], report.drift["blobs"], report.drift["rows"]) == ("v3", 1, 20)
        assert figures(report)["new_categories"] == 1
    assert report.bytes_read == 0
    write(tmp_path, 1, table(["month 1"] * 60))  # another version of a known blob is new
    report = checked(tmp_path, NO_LIMIT, champion, state=state)
    assert report.drift is not None
    assert (report.drift["blobs"], report.drift["rows"]) == (2, 80)
    assert figures(report)["new_categories"] == 0.25


def test_when_no_blob_is_new_all_are_compared(tmp_path: Path) -> None:
    write(tmp_path, 0, table(["a"] * 30))
    report = checked(tmp_path, NO_LIMIT, champion_of(checked(tmp_path, NO_LIMIT)))
    assert report.drift is not None
    assert (report.drift["blobs"], report.drift["rows"], figures(report)["psi"]) == (1, 30, 0)


@pytest.mark.parametrize(("rows", "told"), [(9, False), (10, True)])
def test_of_few_rows_nothing_is_told(rows: int, told: bool, tmp_path: Path) -> None:
    limits = DriftSettings(columns=["v"], max_new_categories=0)
    report = drifted(tmp_path, table(["a"] * 30), table(["new"] * rows), limits)
    assert report.drift is not None
    assert (report.drift["rows"], bool(report.drift["columns"]), report.success) == (rows, told, not told)


def test_without_a_list_the_columns_of_the_suite_are_compared(tmp_path: Path) -> None:
    suite = suite_of(("expect_column_values_to_not_be_null", {"column": "a"}))
    write(tmp_path, 0, pa.table({"a": [1] * 20, "b": [2] * 20}))
    champion = champion_of(checked(tmp_path, DriftSettings(), suite=suite))
    report = checked(tmp_path, DriftSettings(), champion, suite=suite)
    assert report.drift is not None
    assert list(report.drift["columns"]) == ["a"]


def test_columns_that_cannot_be_compared_are_left_out(tmp_path: Path) -> None:
    write(tmp_path, 0, pa.table({"v": [1] * 20, "gone": ["a"] * 20, "w": ["a"] * 20}))
    champion = champion_of(checked(tmp_path, DriftSettings(columns=["v", "gone", "w"])))
    (tmp_path / "part-00" / "rows.parquet").unlink()
    write(tmp_path, 1, pa.table({"v": ["one"] * 20, "new": ["a"] * 20, "w": pa.nulls(20, pa.string())}))
    report = checked(tmp_path, DriftSettings(columns=["v", "new", "w"], max_psi=0.1), champion)
    unsaid = {"psi": None, "jensen_shannon": None, "new_categories": None}
    assert report.drift is not None
    assert report.drift["columns"] == {"v": {**unsaid, "missing_change": 0}, "w": {**unsaid, "missing_change": 1}}
    assert report.success


def test_a_column_that_the_data_lack_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, 0, table([1]))
    with pytest.raises(DataError, match=r"\[drift\].*lacks: absent, other") as caught:
        checked(tmp_path, DriftSettings(columns=["v", "other", "absent"]))
    assert "columns v" in str(caught.value)


@pytest.mark.parametrize(
    "profile", [{}, {"rows": 1}, {"rows": 9, "columns": {"v": 3}, "blobs": []}, {"rows": 9, "columns": {}}]
)
def test_a_damaged_profile_is_told(profile: dict[str, Any], tmp_path: Path) -> None:
    write(tmp_path, 0, table([1] * 20))
    with pytest.raises(StateDamaged, match="champion v3"):
        checked(tmp_path, NO_LIMIT, Baseline("v3", profile))
