"""The full report shows what broke an expectation; what leaves the site shows none of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from example_blobs import Store, pinned, suite_of, write

from data_checks.baseline import Baseline, DriftCheck
from data_checks.engine import validate
from data_checks.report import Report
from insitu.adapters.local.blobs import FolderBlobs
from insitu.batch import Batch
from insitu.errors import InsituError
from insitu.settings import DriftSettings, ReadingSettings


def shown(report: Report, number: int = 0) -> Any:
    return report.full["results"][number]["result"]["partial_unexpected_list"]


@pytest.mark.parametrize("unexpected", [1, 19, 20, 21, 500])
def test_up_to_twenty_unexpected_values_are_shown_on_site(unexpected: int, store: Store) -> None:
    texts = [f"odd {n}" for n in range(unexpected)] + ["even"] * 600
    numbers = [-1 - n for n in range(unexpected)] + [1] * 600
    rows = pa.table({"s": texts, "n": numbers})
    suite = suite_of(
        ("expect_column_values_to_be_in_set", {"column": "s", "value_set": ["even"]}),
        ("expect_column_values_to_not_match_regex", {"column": "s", "regex": "^odd"}),
        ("expect_column_values_to_be_between", {"column": "n", "min_value": 0}),
    )
    report = validate(suite, *store(rows[:300], rows[300:], row_group_size=100))
    assert [outcome.unexpected_count for outcome in report.outcomes] == [unexpected] * 3
    for number, values in enumerate((texts, texts, numbers)):
        found = shown(report, number)
        assert len(found) == len(set(found)) == min(unexpected, 20)
        assert set(found) <= set(values[:unexpected])
    assert shown(report, 2) == numbers[: min(unexpected, 20)], "in the order of the rows"
    assert "odd" not in json.dumps(report.to_json())


def test_the_same_values_are_shown_every_time(store: Store, tmp_path: Path) -> None:
    blobs = store(*[pa.table({"s": [f"text {n * 7919 % 60}" for n in range(5_000)]})] * 2)
    suite = suite_of(("expect_column_values_to_be_in_set", {"column": "s", "value_set": ["other"]}))
    first, *others = [validate(suite, *blobs) for _ in range(4)]
    assert all(other.full == first.full for other in others)


def test_what_holds_shows_no_value(store: Store) -> None:
    suite = suite_of(
        ("expect_column_values_to_be_in_set", {"column": "s", "value_set": ["a"]}),
        ("expect_column_values_to_be_between", {"column": "n", "min_value": 0, "mostly": 0.5}),
    )
    report = validate(suite, *store(pa.table({"s": ["a", None, "a"], "n": [1, None, -5]})))
    assert [shown(report, number) for number in range(2)] == [[], [-5]]


TOKEN, NUMBER = "planted-token", 987_654_321.5
INSTANT = datetime(2077, 7, 7, 7, 7, 7, tzinfo=UTC)
PLANTED = pa.table(
    {
        "s": [f"{TOKEN}-{n % 9}" for n in range(60)],
        "u": [f"{TOKEN}-{n}" for n in range(59)] + [None],
        "n": [NUMBER + n % 11 for n in range(60)],
        "i": [987_654_321 + n // 2 for n in range(60)],
        "t": pa.array([INSTANT] * 60, pa.timestamp("us", tz="UTC")),
        "x": pa.array([TOKEN.encode()] * 60),
        "l": pa.array([[TOKEN]] * 60),
    }
)
_RANGE = {"min_value": 1, "max_value": 2}
FAILING: list[tuple[str, dict[str, Any]]] = [
    ("expect_table_row_count_to_equal", {"value": 1}),
    ("expect_table_columns_to_match_set", {"column_set": ["s"]}),
    ("expect_column_to_exist", {"column": "absent"}),
    ("expect_column_values_to_be_between", {"column": "absent", **_RANGE}),
    *[("expect_column_values_to_be_null", {"column": name}) for name in PLANTED.column_names],
    *[("expect_column_values_to_be_of_type", {"column": name, "type_": "complex"}) for name in PLANTED.column_names],
    *[("expect_column_values_to_be_unique", {"column": name}) for name in "snitx"],
    ("expect_column_values_to_not_be_null", {"column": "u"}),
    ("expect_compound_columns_to_be_unique", {"column_list": ["s", "t"]}),
    ("expect_select_column_values_to_be_unique_within_record", {"column_list": ["s", "u"]}),
    *[("expect_column_values_to_be_between", {"column": name, **_RANGE}) for name in "ni"],
    ("expect_column_values_to_be_between", {"column": "t", "max_value": "2000-01-01T00:00:00+00:00"}),
    ("expect_column_values_to_be_between", {"column": "s", **_RANGE}),
    ("expect_column_values_to_be_in_set", {"column": "s", "value_set": ["x"]}),
    ("expect_column_values_to_not_be_in_set", {"column": "i", "value_set": [987_654_330]}),
    ("expect_column_values_to_match_regex", {"column": "s", "regex": "^x$"}),
    ("expect_column_values_to_not_match_regex_list", {"column": "s", "regex_list": ["p", r"\d(?=$)"]}),
    ("expect_column_value_lengths_to_equal", {"column": "s", "value": 1}),
    ("expect_column_values_to_match_strftime_format", {"column": "s", "strftime_format": "%Y"}),
    ("expect_column_values_to_be_json_parseable", {"column": "s"}),
    ("expect_column_values_to_be_dateutil_parseable", {"column": "s"}),
    ("expect_column_values_to_be_decreasing", {"column": "i"}),
    *[(f"expect_column_{what}_to_be_between", {"column": name, **_RANGE}) for what in ("min", "max") for name in "ni"],
    *[(f"expect_column_{what}_to_be_between", {"column": "n", **_RANGE}) for what in ("mean", "median", "sum")],
    ("expect_column_stdev_to_be_between", {"column": "n", "max_value": 0.1}),
    ("expect_column_max_to_be_between", {"column": "t", "max_value": "2000-01-01T00:00:00+00:00"}),
    ("expect_column_max_to_be_between", {"column": "s", "max_value": 1}),
    (
        "expect_column_quantile_values_to_be_between",
        {"column": "n", "quantile_ranges": {"quantiles": [0.5], "value_ranges": [[1, 2]]}},
    ),
    ("expect_column_distinct_values_to_be_in_set", {"column": "s", "value_set": ["x"]}),
    ("expect_column_distinct_values_to_equal_set", {"column": "i", "value_set": [1]}),
    ("expect_column_distinct_values_to_contain_set", {"column": "s", "value_set": ["x"]}),
    ("expect_column_most_common_value_to_be_in_set", {"column": "s", "value_set": ["x"]}),
    ("expect_column_unique_value_count_to_be_between", {"column": "s", **_RANGE}),
    ("expect_column_proportion_of_unique_values_to_be_between", {"column": "s", "min_value": 0.9}),
    (
        "expect_column_kl_divergence_to_be_less_than",
        {"column": "s", "partition_object": {"values": ["x"], "weights": [1.0]}, "threshold": 0.1},
    ),
    ("expect_column_value_z_scores_to_be_less_than", {"column": "n", "threshold": 0.1, "double_sided": True}),
    ("expect_column_pair_values_to_be_equal", {"column_A": "s", "column_B": "u"}),
    ("expect_column_pair_values_a_to_be_greater_than_b", {"column_A": "i", "column_B": "n"}),
    ("expect_column_pair_values_to_be_in_set", {"column_A": "s", "column_B": "u", "value_pairs_set": [["a", "b"]]}),
    ("expect_multicolumn_sum_to_equal", {"column_list": ["n", "i"], "sum_total": 1}),
    ("expect_multicolumn_values_to_be_equal", {"column_list": ["s", "u"]}),
]


def leaked(text: str) -> list[str]:
    """Return what of the planted values *text* shows, whichever way they are written."""
    return [sign for sign in (TOKEN, "98765432", "98765433", "9.8765", "2077", "07:07") if sign in text]


def written(report: Report) -> str:
    return f"{json.dumps(report.to_json())} {report!r} {report.notes}"


def test_planted_values_stay_in_the_full_report(store: Store, tmp_path: Path, caplog: Any, capfd: Any) -> None:
    blobs, batch = store(PLANTED[:20], PLANTED[20:], row_group_size=15)
    baseline = {
        "rows": 100,
        "columns": {
            "s": {"filled": 100, "buckets": [], "categories": {f"{TOKEN}-before": 100}},
            "n": {"filled": 100, "buckets": [[0.5, NUMBER, 100]], "categories": None},
        },
        "blobs": [],
    }
    limits = DriftSettings(max_psi=0.001, max_jensen_shannon=0.001, max_new_categories=0)
    check = DriftCheck(limits, batch, Baseline("v1", baseline))
    caplog.set_level(0)
    report = validate(suite_of(*FAILING), blobs, batch, state=FolderBlobs(tmp_path / "state"), drift=check)
    judged = [(outcome.expectation, outcome.columns) for outcome in report.outcomes if outcome.success]
    assert judged == [], "each of them fails"
    assert len(report.failures) == len(FAILING) + 5
    assert leaked(json.dumps(report.full)) == [TOKEN, "98765432", "98765433", "2077", "07:07"]
    assert TOKEN in json.dumps(report.profile)
    said = capfd.readouterr()
    assert leaked(written(report) + caplog.text + said.out + said.err) == []


def everything_in(error: BaseException | None) -> str:
    return "" if error is None else f"{error!r} {error} {everything_in(error.__cause__)}"


ERRORS: Mapping[str, Any] = {
    "a row group is too large": lambda root: write(
        root, 0, pa.table({"s": [TOKEN * 100_000] * 2}), use_dictionary=False
    ),
    "another type": lambda root: write(root, 1, pa.table({"s": [NUMBER]})),
    "no UTF-8": lambda root: _spoilt(root, b"\xff\xfe"),
    "overwritten": lambda root: None,
}


def _spoilt(root: Path, bad: bytes) -> None:
    name = write(root, 0, pa.table({"s": [TOKEN] * 3}), use_dictionary=False, compression="none")
    content = (root / name).read_bytes()
    (root / name).write_bytes(content.replace(TOKEN.encode(), bad + TOKEN.encode()[2:]))


@pytest.mark.parametrize("problem", ERRORS)
def test_errors_name_the_blob_and_no_value(problem: str, store: Store) -> None:
    old, batch = store(PLANTED.select(["s"]), PLANTED.select(["s"]))
    if problem == "overwritten":
        write(old.root, 1, pa.table({"s": [f"{TOKEN}-new"]}))
        blobs = old
    else:
        ERRORS[problem](old.root)
        blobs, batch = pinned(old.root)
    suite = suite_of(("expect_column_values_to_match_regex", {"column": "s", "regex": "^x"}))
    with pytest.raises(InsituError, match=r"part-0[01]/rows") as caught:
        validate(suite, blobs, batch, reading=ReadingSettings(max_row_group_mb=1))
    assert leaked(everything_in(caught.value)) == []
    assert caught.value.__cause__ is None


def test_a_text_blob_that_cannot_be_read_is_named_without_its_values(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("s,n\n" + f"{TOKEN},1\n" * 3_000 + f"{TOKEN},{TOKEN}\n")
    store = FolderBlobs(tmp_path)
    suite = suite_of(("expect_column_max_to_be_between", {"column": "n", "max_value": 1}))
    with pytest.raises(InsituError, match=r"a\.csv") as caught:
        validate(suite, store, Batch.of("data", store.list()), reading=ReadingSettings(types={"n": "integer"}))
    assert leaked(everything_in(caught.value)) == []
