"""What is read, how parts merge, and what happens to expectations that one pass cannot answer."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from example_blobs import Store, store_of, suite_of

from data_checks.engine import validate
from data_checks.report import Progress
from data_checks.suite import Suite, load_suite
from insitu.adapters.local.blobs import FolderBlobs

NUMBERS = pa.table({"k": list(range(5000)), "v": [n % 7 for n in range(5000)], "s": [f"{n % 11}" for n in range(5000)]})
MANY = suite_of(
    ("expect_column_values_to_be_unique", {"column": "k"}),
    ("expect_compound_columns_to_be_unique", {"column_list": ["v", "s"]}),
    ("expect_column_stdev_to_be_between", {"column": "v", "min_value": 0, "max_value": 1}),
    ("expect_column_median_to_be_between", {"column": "k", "min_value": 0, "max_value": 1}),
    ("expect_column_values_to_be_in_set", {"column": "s", "value_set": ["1", "2"]}),
    ("expect_column_sum_to_be_between", {"column": "v", "min_value": 0, "max_value": 1}),
    ("expect_column_max_to_be_between", {"column": "v", "min_value": 0, "max_value": 6}),
    ("expect_column_values_to_match_regex", {"column": "s", "regex": "^[0-9]+$"}),
)


def observed(result: dict[str, Any]) -> dict[str, float]:
    return {key: value for key, value in result["result"].items() if isinstance(value, (int, float))}


def test_importing_the_engine_is_cheap() -> None:
    heavy = "{'great_expectations', 'polars', 'pandas', 'pyarrow'}"
    code = f"import sys, data_checks.engine, data_checks.suite; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_many_blobs_give_the_result_of_one(store: Store, tmp_path_factory: pytest.TempPathFactory) -> None:
    parts = [NUMBERS.slice(start, 37) for start in range(0, 5000, 37)]
    one = validate(MANY, *store(NUMBERS))
    many = validate(MANY, *store_of(tmp_path_factory.mktemp("many"), parts, row_group_size=20))
    for ours, theirs in zip(one.full["results"], many.full["results"], strict=True):
        assert ours["success"] == theirs["success"]
        assert observed(ours) == pytest.approx(observed(theirs), rel=1e-12)


def test_partials_merge_in_any_grouping_and_can_be_sent(store: Store) -> None:
    from data_checks import judge, plan, scan
    from data_checks.measures import merged
    from data_checks.spill import Spill
    from insitu.settings import ReadingSettings
    from insitu.tables.table import open_table

    blobs, batch = store(*[NUMBERS.slice(start, 400) for start in range(0, 5000, 400)])
    scanner = scan.LocalScanner(blobs, ReadingSettings())
    table = open_table(blobs, batch, scanner.reading)
    planned = plan.make(judge.build(MANY), table.schema)
    works = pickle.loads(pickle.dumps([scan.Work(part, planned.measures) for part in table.parts]))
    with Spill(None) as spill:
        keep = scan.spilled_to(spill, planned.measures)
        parts = pickle.loads(
            pickle.dumps([scan.measure_part(scanner, work, table.schema, keep).partial for work in works])
        )

    def results(cut: int) -> object:
        ends = [merged(parts[:cut], planned.measures), merged(parts[cut:], planned.measures)]
        whole = merged(ends, planned.measures)
        found = [plan.settled(step, planned.judge, whole) for step in planned.steps[2:]]  # two need their keys
        return [one and one[0].success for one in found]

    assert all(results(cut) == results(0) for cut in range(len(parts) + 1))


def test_only_the_needed_column_chunks_are_read(store: Store) -> None:
    noise = np.random.default_rng(0)
    wide = pa.table({f"c{n}": noise.normal(size=20_000) for n in range(30)})
    blobs, batch = store(wide, row_group_size=5_000)
    suite = suite_of(
        ("expect_column_mean_to_be_between", {"column": "c3", "min_value": -1}),
        ("expect_column_values_to_not_be_null", {"column": "c20"}),
    )
    report = validate(suite, blobs, batch)
    needed = 2 * 20_000 * 8
    assert needed <= report.bytes_read <= needed * 1.2 + 40_000 < batch.size_bytes / 5


def test_a_suite_about_the_columns_alone_reads_footers_alone(store: Store) -> None:
    blobs, batch = store(pa.table({"a": list(range(100_000))}))
    suite = suite_of(
        ("expect_column_to_exist", {"column": "a"}),
        ("expect_table_row_count_to_equal", {"value": 100_000}),
    )
    report = validate(suite, blobs, batch)
    assert (report.success, report.rows) == (True, 100_000)
    assert report.bytes_read <= 16 << 10 < batch.size_bytes


def test_what_one_pass_cannot_answer_runs_on_gx_and_says_so(store: Store) -> None:
    suite = suite_of(
        ("expect_column_values_to_be_increasing", {"column": "k"}),
        (
            "expect_column_values_to_be_between",
            {
                "column": "v",
                "max_value": 3,
                "row_condition": 'col("k") < 4',
                "condition_parser": "great_expectations",
            },
        ),
        ("expect_column_values_to_be_between", {"column": "v", "max_value": 6}),
    )
    report = validate(suite, *store(NUMBERS.slice(0, 2500), NUMBERS.slice(2500)))
    assert report.success, report.failures
    increasing, conditional = report.notes
    assert "expect_column_values_to_be_increasing on k" in increasing
    assert "bytes" in increasing
    assert "expect_column_values_to_be_between on v" in conditional


def test_the_order_of_blobs_is_the_order_of_rows_for_gx(store: Store) -> None:
    suite = suite_of(("expect_column_values_to_be_increasing", {"column": "k"}))
    (failure,) = validate(suite, *store(NUMBERS.slice(2500), NUMBERS.slice(0, 2500))).failures
    assert (failure.unexpected_count, failure.reason) == (1, "unexpected values")


def test_a_sum_beyond_64_bits_does_not_wrap(store: Store) -> None:
    suite = suite_of(("expect_column_sum_to_be_between", {"column": "n", "min_value": 2**63}))
    assert validate(suite, *store(pa.table({"n": [2**63 - 1] * 3}))).success


def test_dictionary_encoding_is_no_type(store: Store) -> None:
    plain = pa.table({"s": ["a", "b", None]})
    encoded = pa.table({"s": plain["s"].dictionary_encode()})
    suite = suite_of(
        ("expect_column_values_to_be_of_type", {"column": "s", "type_": "str"}),
        ("expect_column_values_to_be_in_set", {"column": "s", "value_set": ["a", "b"]}),
    )
    report = validate(suite, *store(plain, encoded))
    assert (report.success, report.notes) == (True, ())


def test_nulls_and_nans_are_not_duplicates_of_values(store: Store) -> None:
    rows = pa.table({"f": [0.0, None, float("nan"), 1.0]})
    suite = suite_of(("expect_column_values_to_be_unique", {"column": "f"}))
    assert validate(suite, *store(rows)).success


def test_progress_ends_with_everything_read(store: Store) -> None:
    seen: list[Progress] = []
    suite = Suite(MANY.name, (MANY.expectations[0], *MANY.expectations[2:]))  # no key repeats: there is one pass
    report = validate(suite, *store(NUMBERS, row_group_size=500), on_progress=seen.append)
    assert [p.rows_done for p in seen] == list(range(0, 5001, 500))
    assert (seen[-1].rows, seen[-1].blobs_done, seen[-1].blobs) == (report.rows, 1, 1)
    assert 0 < seen[-1].bytes_done == seen[-1].bytes_total < report.bytes_read


def test_texts_in_a_dictionary_are_measured_as_others_are(store: Store, tmp_path: Path) -> None:
    texts = pa.array([None if n % 13 == 0 else f"{n % 11}" for n in range(5000)])
    rows = pa.table({"s": texts, "t": pa.array([f"{n % 7}" for n in range(5000)]), "k": range(5000)})
    suite = suite_of(
        ("expect_table_row_count_to_equal", {"value": 5000}),
        ("expect_column_values_to_be_in_set", {"column": "s", "value_set": ["1", "2"]}),
        ("expect_column_values_to_not_be_null", {"column": "s"}),
        ("expect_column_unique_value_count_to_be_between", {"column": "s", "max_value": 3}),
        ("expect_column_pair_values_to_be_equal", {"column_A": "s", "column_B": "t"}),
        ("expect_compound_columns_to_be_unique", {"column_list": ["s", "t"]}),
        ("expect_compound_columns_to_be_unique", {"column_list": ["s", "k"]}),
        ("expect_column_max_to_be_between", {"column": "s", "max_value": "3"}),
    )
    plain = validate(suite, *store(rows, use_dictionary=False, row_group_size=999))
    encoded = validate(suite, *store_of(tmp_path / "encoded", [rows], row_group_size=999))
    assert encoded.full == plain.full
    assert [outcome.success for outcome in encoded.outcomes] == [True, *[False] * 5, True, False]


def test_a_suite_about_one_text_of_few_values_counts_all_rows(store: Store) -> None:
    suite = suite_of(("expect_column_values_to_be_in_set", {"column": "s", "value_set": [f"{n}" for n in range(11)]}))
    report = validate(suite, *store(NUMBERS))
    assert (report.success, report.rows, report.outcomes[0].rows) == (True, 5000, 5000)


def test_a_failed_expectation_names_the_blobs_of_its_rows_the_worst_first(store: Store, tmp_path: Path) -> None:
    bad = [0, 3, 1, 0, 1, 2, 1, 1]
    tables = [pa.table({"s": ["x"] * n + [None] + ["a"] * (9 - n), "k": list(range(10))}) for n in bad]
    blobs, batch = store(*tables)
    suite = suite_of(
        ("expect_column_values_to_be_in_set", {"column": "s", "value_set": ["a"]}),
        ("expect_column_values_to_not_be_null", {"column": "s", "mostly": 0.95}),
        ("expect_column_values_to_be_in_set", {"column": "s", "value_set": ["a", "x"]}),
        ("expect_column_values_to_be_unique", {"column": "k"}),  # a key that repeats is in no blob alone
    )
    names = [blob.name for blob in batch.blobs]
    worst = [(names[1], 3), (names[5], 2), (names[2], 1), (names[4], 1), (names[6], 1)]
    found = {}
    for time in ("first", "again"):  # when every blob is known already
        report = validate(suite, blobs, batch, state=FolderBlobs(tmp_path / "state"))
        found[time] = [(outcome.blobs, outcome.more_blobs) for outcome in report.outcomes]
    assert found["first"] == [(tuple(worst), 1), (tuple((name, 1) for name in names[:5]), 3), ((), 0), ((), 0)]
    assert found["again"] == found["first"]
    assert report.outcomes[0].to_json()["blobs"][0] == {"name": names[1], "rows": 3}


def test_the_redacted_report_is_json_without_the_full_result(store: Store) -> None:
    content = validate(MANY, *store(NUMBERS)).to_json()
    assert json.loads(json.dumps(content)) == content
    assert content["failed"] == len(content["failures"]) == 5
    assert content["failures"][1] == {
        "expectation": "expect_column_stdev_to_be_between",
        "columns": ["v"],
        "success": False,
        "unexpected_count": None,
        "rows": None,
        "reason": "observed value outside the bounds",
        "blobs": [],
        "more_blobs": 0,
    }
    assert set(content) == {
        "success",
        "suite",
        "expectations",
        "failed",
        "rows",
        "bytes_read",
        "drift",
        "failures",
        "outcomes",
        "notes",
    }


def test_a_suite_as_gx_serializes_it_is_understood(tmp_path: Path, store: Store) -> None:
    from great_expectations import ExpectationSuite
    from great_expectations.expectations import ExpectColumnValuesToBeBetween, ExpectTableRowCountToEqual

    import data_checks.judge  # noqa: F401  # switches telemetry off

    written = ExpectationSuite(
        name="by gx",
        expectations=[
            ExpectColumnValuesToBeBetween(column="v", min_value=0, max_value=5, mostly=0.9, severity="warning"),
            ExpectTableRowCountToEqual(value=5000, meta={"owner": "people"}, notes="all of them"),
        ],
    )
    path = tmp_path / "suite.json"
    path.write_text(json.dumps(written.to_json_dict()))
    report = validate(load_suite(path), *store(NUMBERS))
    assert report.suite == "by gx"
    assert [failure.unexpected_count for failure in report.failures] == [5000 // 7]
    assert report.full["results"][0]["expectation_config"]["severity"] == "warning"


@pytest.mark.parametrize("name", ["n", "value", "a", "rows", "a b.c"])
def test_any_column_name_is_as_good_as_another(name: str, store: Store) -> None:
    suite = suite_of(
        ("expect_column_unique_value_count_to_be_between", {"column": name, "min_value": 3, "max_value": 3}),
        ("expect_column_values_to_be_unique", {"column": name}),
    )
    report = validate(suite, *store(pa.table({name: [1, 2, 3]})))
    assert (report.success, report.notes) == (True, ())
