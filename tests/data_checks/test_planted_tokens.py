"""Every column holds values that must not get out, and every expectation that there is fails: nothing gets out."""

from __future__ import annotations

import gzip
import json
import logging
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import great_expectations.expectations.core  # noqa: F401 - registers all there are
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from example_blobs import suite_of
from great_expectations.expectations.registry import list_registered_expectation_implementations

from data_checks.baseline import Baseline, DriftCheck
from data_checks.child import Job, validate_apart
from data_checks.engine import foresee, validate
from data_checks.report import Progress, Report
from insitu.adapters.local.blobs import FolderBlobs
from insitu.batch import Batch
from insitu.errors import DataError
from insitu.settings import DriftSettings, ReadingSettings

TOKENS = ("QZTEXT", "QZOTHER", "QZGAP", "98765432", "8642097531", "2091-07", "2091, 7")
COLUMNS = ["s", "t", "again", "gap", "n", "more", "f", "when"]


def rows(mark: str, count: int = 60) -> pa.Table:
    """Return rows of tokens, most of them twice and none in order."""
    numbers = [9876543200 + (7 * n) % 31 for n in range(count)]
    texts = [f"QZTEXT{mark}{n % 40}" for n in range(count)]
    return pa.table(
        {
            "s": texts,
            "t": [f"QZOTHER{mark}{n % 30}" for n in range(count)],
            "again": texts,
            "gap": [f"QZGAP{mark}{n}" if n % 2 else None for n in range(count)],
            "n": numbers,
            "more": [number + 1 for number in numbers],
            "f": [86420975.31 + (n % 30) / 8 for n in range(count)],
            "when": [datetime(2091, 7, 1 + n % 25, 1, 2, 3, tzinfo=UTC) - timedelta(0, n) for n in range(count)],
        }
    )


def csv(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pyarrow.csv.write_csv(table, sink)
    return bytes(sink.getvalue())


def parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=25)
    return bytes(sink.getvalue())


FORMATS = {
    ".parquet": parquet,
    ".csv": csv,
    ".csv.gz": lambda table: gzip.compress(csv(table)),
    ".jsonl": lambda table: "".join(json.dumps(row, default=str) + "\n" for row in table.to_pylist()).encode(),
}
FIRST = [f"QZTEXTthen{n}" for n in range(40)]  # a suite may hold values, too
FAILING: dict[str, dict[str, Any]] = {
    "expect_column_distinct_values_to_be_in_set": {"column": "s", "value_set": FIRST[:1]},
    "expect_column_distinct_values_to_contain_set": {"column": "s", "value_set": ["QZTEXTabsent"]},
    "expect_column_distinct_values_to_equal_set": {"column": "s", "value_set": FIRST},
    "expect_column_kl_divergence_to_be_less_than": {
        "column": "s", "partition_object": {"values": FIRST[:2], "weights": [0.5, 0.5]}, "threshold": 0.01,
    },
    "expect_column_max_to_be_between": {"column": "n", "max_value": 1},
    "expect_column_mean_to_be_between": {"column": "f", "max_value": 1},
    "expect_column_median_to_be_between": {"column": "f", "max_value": 1},
    "expect_column_min_to_be_between": {"column": "when", "max_value": "2001-01-01T00:00:00+00:00"},
    "expect_column_most_common_value_to_be_in_set": {"column": "s", "value_set": ["y"]},
    "expect_column_pair_values_a_to_be_greater_than_b": {"column_A": "n", "column_B": "more"},
    "expect_column_pair_values_to_be_equal": {"column_A": "s", "column_B": "t"},
    "expect_column_pair_values_to_be_in_set": {"column_A": "s", "column_B": "t", "value_pairs_set": [["a", "b"]]},
    "expect_column_proportion_of_non_null_values_to_be_between": {"column": "gap", "min_value": 0.9},
    "expect_column_proportion_of_unique_values_to_be_between": {"column": "s", "min_value": 0.99},
    "expect_column_quantile_values_to_be_between": {
        "column": "n", "quantile_ranges": {"quantiles": [0.1, 0.5], "value_ranges": [[0, 1], [0, 1]]},
    },
    "expect_column_stdev_to_be_between": {"column": "n", "min_value": 1e9},
    "expect_column_sum_to_be_between": {"column": "n", "max_value": 1},
    "expect_column_to_exist": {"column": "absent"},
    "expect_column_type_to_be": {"column": "n", "type_": "str"},
    "expect_column_unique_value_count_to_be_between": {"column": "s", "max_value": 1},
    "expect_column_value_lengths_to_be_between": {"column": "s", "max_value": 1},
    "expect_column_value_lengths_to_equal": {"column": "s", "value": 1},
    "expect_column_value_z_scores_to_be_less_than": {"column": "n", "threshold": 1e-9, "double_sided": True},
    "expect_column_values_to_be_between": {"column": "when", "max_value": "2001-01-01T00:00:00+00:00"},
    "expect_column_values_to_be_dateutil_parseable": {"column": "s"},
    "expect_column_values_to_be_decreasing": {"column": "n"},
    "expect_column_values_to_be_in_set": {"column": "s", "value_set": FIRST[:1]},
    "expect_column_values_to_be_in_type_list": {"column": "n", "type_list": ["str"]},
    "expect_column_values_to_be_increasing": {"column": "n"},
    "expect_column_values_to_be_json_parseable": {"column": "s"},
    "expect_column_values_to_be_null": {"column": "gap"},
    "expect_column_values_to_be_of_type": {"column": "n", "type_": "str"},
    "expect_column_values_to_be_unique": {"column": "s"},
    "expect_column_values_to_match_json_schema": {"column": "s", "json_schema": {"type": "integer"}},
    "expect_column_values_to_match_like_pattern": {"column": "s", "like_pattern": "y%"},
    "expect_column_values_to_match_like_pattern_list": {"column": "s", "like_pattern_list": ["y%"]},
    "expect_column_values_to_match_regex": {"column": "s", "regex": "^y"},
    "expect_column_values_to_match_regex_list": {"column": "s", "regex_list": ["^y"]},
    "expect_column_values_to_match_strftime_format": {"column": "s", "strftime_format": "%Y"},
    "expect_column_values_to_not_be_in_set": {"column": "s", "value_set": FIRST},
    "expect_column_values_to_not_be_null": {"column": "gap"},
    "expect_column_values_to_not_be_outliers": {"column": "n", "method": "iqr", "multiplier": 0.01},
    "expect_column_values_to_not_match_like_pattern": {"column": "s", "like_pattern": "Q%"},
    "expect_column_values_to_not_match_like_pattern_list": {"column": "s", "like_pattern_list": ["Q%"]},
    "expect_column_values_to_not_match_regex": {"column": "s", "regex": "QZTEXT"},
    "expect_column_values_to_not_match_regex_list": {"column": "s", "regex_list": ["QZTEXT"]},
    "expect_compound_columns_to_be_unique": {"column_list": ["s", "again"]},
    "expect_multicolumn_sum_to_equal": {"column_list": ["n", "more"], "sum_total": 1},
    "expect_multicolumn_values_to_be_equal": {"column_list": ["s", "t"]},
    "expect_select_column_values_to_be_unique_within_record": {"column_list": ["s", "again"]},
    "expect_table_column_count_to_be_between": {"max_value": 1},
    "expect_table_column_count_to_equal": {"value": 1},
    "expect_table_columns_to_match_ordered_list": {"column_list": ["y"]},
    "expect_table_columns_to_match_set": {"column_set": ["y"]},
    "expect_table_row_count_to_be_between": {"max_value": 1},
    "expect_table_row_count_to_equal": {"value": 1},
    "expect_table_row_count_to_equal_other_table": {"other_table_name": "y"},
    "expect_query_results_to_match_comparison": {
        "base_query": "SELECT 'QZTEXT'", "comparison_data_source_name": "y", "comparison_query": "SELECT 'QZTEXT'",
    },
    "unexpected_rows_expectation": {"unexpected_rows_query": "SELECT * FROM {batch} WHERE s = 'QZTEXT'"},
}  # fmt: skip
SUITE = suite_of(*FAILING.items())
LIMITS = DriftSettings(
    columns=COLUMNS, max_psi=1e-6, max_jensen_shannon=1e-6, max_missing_change=0.01, max_new_categories=0.01
)


def leaks(*told: str) -> list[str]:
    return [token for token in TOKENS if any(token in text for text in told)]


def store_of(root: Path, suffix: str, *tables: pa.Table) -> tuple[FolderBlobs, Batch]:
    root.mkdir(exist_ok=True)
    for number, table in enumerate(tables):
        (root / f"part-{number}{suffix}").write_bytes(FORMATS[suffix](table))
    return FolderBlobs(root), Batch.of("data", FolderBlobs(root).list())


def champion_of(root: Path, suffix: str) -> Baseline:
    """Return the profile of a first blob, in which the gap has no gaps."""
    then = rows("then").set_column(3, "gap", pa.array(["QZGAPthen"] * 60))
    store, batch = store_of(root, suffix, then)
    report = validate(SUITE, store, batch, drift=DriftCheck(LIMITS, batch))
    return Baseline("v1", json.loads(json.dumps(report.profile)))


def test_every_expectation_that_there_is_is_here() -> None:
    assert set(FAILING) == set(list_registered_expectation_implementations())


@pytest.mark.parametrize("suffix", FORMATS)
def test_all_fail_and_no_value_gets_out(
    suffix: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    champion, seen = champion_of(tmp_path / "then", suffix), list[Progress]()
    store, batch = store_of(tmp_path / "blobs", suffix, rows("then"), rows("now"))
    drift = DriftCheck(LIMITS, batch, champion)
    plan = foresee(SUITE, store, batch, drift=drift)
    report = validate(SUITE, store, batch, drift=drift, on_progress=seen.append)
    _all_failed(report)
    printed = capfd.readouterr()
    told = [json.dumps(report.to_json()), repr(report), repr(plan), str(asdict(plan)), repr(seen)]
    assert leaks(*told, printed.out, printed.err, caplog.text) == []
    kept = json.dumps([report.full, report.profile], default=str)
    assert {"QZTEXT", "QZOTHER", "QZGAP", "98765432"} <= set(leaks(kept)), "what stays on site has them"


def _all_failed(report: Report) -> None:
    of_suite, of_drift = report.outcomes[: len(FAILING)], report.outcomes[len(FAILING) :]
    assert [outcome.expectation for outcome in of_suite if outcome.success] == []
    assert {outcome.expectation for outcome in of_drift if not outcome.success} == {
        f"expect_column_drift_{figure}_to_be_at_most"
        for figure in ("psi", "jensen_shannon", "missing_change", "new_categories")
    }
    assert len(report.notes) > 10, "most say that an expectation needed a pass of its own"


def test_the_process_that_validates_prints_none(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    champion = champion_of(tmp_path / "then", ".csv")
    capfd.readouterr()
    _, batch = store_of(tmp_path / "blobs", ".csv", rows("then"), rows("now"))
    (tmp_path / "suite.json").write_text(json.dumps({"name": SUITE.name, "expectations": SUITE.expectations}))
    spec = {"kind": "folder", "root": str(tmp_path / "blobs")}
    job = Job(tmp_path / "suite.json", spec, batch, drift=DriftCheck(LIMITS, batch, champion))
    report = validate_apart(job, tmp_path / "work")
    printed = capfd.readouterr()
    _all_failed(report)
    assert leaks(json.dumps(report.to_json()), printed.out, printed.err) == []
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".jsonl"])
@pytest.mark.parametrize(
    ("column", "declared"), [("s", "integer"), ("t", "timestamp"), ("gap", "flag"), ("s", "number"), ("f", "date")]
)
def test_an_error_about_a_value_does_not_hold_it(suffix: str, column: str, declared: str, tmp_path: Path) -> None:
    reading = ReadingSettings.model_validate({"types": {column: declared}})
    suite = suite_of(("expect_column_values_to_not_be_null", {"column": column}))
    with pytest.raises(DataError, match=f"column {column}") as caught:
        validate(suite, *store_of(tmp_path / "blobs", suffix, rows("then")), reading=reading)
    assert leaks(str(caught.value), repr(caught.value.__cause__)) == []
