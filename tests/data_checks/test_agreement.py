"""The one pass and GX's own pandas engine say the same about the same rows."""

from __future__ import annotations

import math
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from example_blobs import store_of, suite_of
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from data_checks.engine import validate

SCHEMA = pa.schema(
    {
        "i": pa.int64(),
        "j": pa.int64(),
        "f": pa.float64(),
        "s": pa.string(),
        "u": pa.string(),
        "b": pa.bool_(),
        "t": pa.timestamp("us", tz="UTC"),
        "none": pa.int64(),
        "id": pa.int64(),
    }
)
NOON = datetime(2013, 6, 1, 12, tzinfo=UTC)

EXPECTATIONS: list[tuple[str, dict[str, Any]]] = [
    ("expect_table_row_count_to_be_between", {"min_value": 3, "max_value": 9}),
    ("expect_table_row_count_to_equal", {"value": 5}),
    ("expect_table_columns_to_match_set", {"column_set": SCHEMA.names}),
    ("expect_table_columns_to_match_set", {"column_set": ["i", "f"], "exact_match": False}),
    ("expect_table_columns_to_match_ordered_list", {"column_list": SCHEMA.names}),
    ("expect_table_columns_to_match_ordered_list", {"column_list": SCHEMA.names[::-1]}),
    ("expect_table_column_count_to_equal", {"value": len(SCHEMA)}),
    ("expect_table_column_count_to_be_between", {"min_value": 1, "max_value": 3}),
    ("expect_column_to_exist", {"column": "i"}),
    ("expect_column_to_exist", {"column": "absent"}),
    ("expect_column_values_to_be_of_type", {"column": "id", "type_": "int64"}),
    ("expect_column_values_to_be_of_type", {"column": "s", "type_": "str"}),
    ("expect_column_values_to_be_of_type", {"column": "t", "type_": "Timestamp"}),
    ("expect_column_values_to_be_of_type", {"column": "f", "type_": "int64"}),
    ("expect_column_values_to_be_in_type_list", {"column": "f", "type_list": ["int64", "float64"]}),
    *[("expect_column_values_to_not_be_null", {"column": c, "mostly": 0.5}) for c in SCHEMA.names],
    *[("expect_column_values_to_be_null", {"column": c}) for c in SCHEMA.names],
    ("expect_column_values_to_be_in_set", {"column": "i", "value_set": [0, 1, 2.0, 3.5, -1]}),
    ("expect_column_values_to_be_in_set", {"column": "f", "value_set": [0, 1.5], "mostly": 0.5}),
    ("expect_column_values_to_be_in_set", {"column": "s", "value_set": ["a", "", "ü", "a\n"]}),
    ("expect_column_values_to_be_in_set", {"column": "b", "value_set": [True]}),
    ("expect_column_values_to_be_in_set", {"column": "none", "value_set": [1]}),
    ("expect_column_values_to_not_be_in_set", {"column": "i", "value_set": [0, 1]}),
    ("expect_column_values_to_not_be_in_set", {"column": "s", "value_set": ["a"]}),
    ("expect_column_values_to_be_between", {"column": "i", "min_value": -1, "max_value": 2}),
    ("expect_column_values_to_be_between", {"column": "i", "min_value": 0, "strict_min": True}),
    ("expect_column_values_to_be_between", {"column": "f", "min_value": 0, "max_value": 9.5}),
    (
        "expect_column_values_to_be_between",
        {"column": "f", "max_value": 0, "strict_max": True, "mostly": 0.3},
    ),
    ("expect_column_values_to_be_between", {"column": "none", "min_value": 0}),
    ("expect_column_values_to_be_between", {"column": "t", "min_value": "2013-06-01T12:00:00+00:00"}),
    (
        "expect_column_values_to_be_between",
        {"column": "t", "max_value": "2013-06-01T14:00:00+02:00", "strict_max": True},
    ),
    ("expect_column_value_lengths_to_be_between", {"column": "s", "min_value": 1, "max_value": 2}),
    ("expect_column_value_lengths_to_be_between", {"column": "s", "max_value": 2, "strict_max": True}),
    ("expect_column_value_lengths_to_equal", {"column": "s", "value": 1}),
    ("expect_column_values_to_match_regex", {"column": "s", "regex": "^a$"}),
    ("expect_column_values_to_match_regex", {"column": "s", "regex": r"^\w+$", "mostly": 0.5}),
    ("expect_column_values_to_match_regex", {"column": "s", "regex": r"(?<!b)a"}),
    ("expect_column_values_to_match_regex", {"column": "s", "regex": r"(?i)\d|Ü"}),
    ("expect_column_values_to_not_match_regex", {"column": "s", "regex": "a|ü"}),
    ("expect_column_values_to_match_regex_list", {"column": "s", "regex_list": ["^a", "b"]}),
    (
        "expect_column_values_to_match_regex_list",
        {"column": "s", "regex_list": ["a", "b"], "match_on": "all"},
    ),
    ("expect_column_values_to_not_match_regex_list", {"column": "s", "regex_list": ["^a", "b"]}),
    *[("expect_column_values_to_be_unique", {"column": c}) for c in SCHEMA.names],
    ("expect_compound_columns_to_be_unique", {"column_list": ["i", "f"]}),
    ("expect_compound_columns_to_be_unique", {"column_list": ["s", "t"]}),
    ("expect_compound_columns_to_be_unique", {"column_list": ["i", "s"], "ignore_row_if": "never"}),
    (
        "expect_compound_columns_to_be_unique",
        {"column_list": ["i", "s", "b"], "ignore_row_if": "any_value_is_missing"},
    ),
    ("expect_select_column_values_to_be_unique_within_record", {"column_list": ["i", "j"]}),
    ("expect_select_column_values_to_be_unique_within_record", {"column_list": ["s", "u"]}),
    ("expect_select_column_values_to_be_unique_within_record", {"column_list": ["i", "j", "f"]}),
    ("expect_column_min_to_be_between", {"column": "i", "min_value": -2}),
    ("expect_column_max_to_be_between", {"column": "f", "max_value": 3, "strict_max": True}),
    ("expect_column_max_to_be_between", {"column": "t", "max_value": "2013-06-01T12:00:00+00:00"}),
    ("expect_column_min_to_be_between", {"column": "none", "min_value": 0}),
    ("expect_column_mean_to_be_between", {"column": "i", "min_value": -1, "max_value": 2}),
    ("expect_column_mean_to_be_between", {"column": "f", "min_value": 0}),
    ("expect_column_sum_to_be_between", {"column": "i", "min_value": 0}),
    ("expect_column_sum_to_be_between", {"column": "none", "min_value": 0}),
    ("expect_column_stdev_to_be_between", {"column": "f", "max_value": 2}),
    ("expect_column_stdev_to_be_between", {"column": "i", "min_value": 1}),
    ("expect_column_median_to_be_between", {"column": "i", "min_value": 0, "max_value": 1}),
    ("expect_column_median_to_be_between", {"column": "f", "min_value": 0}),
    *[
        (
            "expect_column_quantile_values_to_be_between",
            {
                "column": column,
                "quantile_ranges": {
                    "quantiles": [0.1, 0.25, 0.5, 0.9],
                    "value_ranges": [[None, 1], [-5, 1], [0, 2], [0, None]],
                },
            },
        )
        for column in ("i", "f", "id")
    ],
    ("expect_column_distinct_values_to_be_in_set", {"column": "i", "value_set": [0, 1, 2, 3]}),
    ("expect_column_distinct_values_to_be_in_set", {"column": "s", "value_set": ["a", "b"]}),
    ("expect_column_distinct_values_to_contain_set", {"column": "i", "value_set": [0, 1]}),
    ("expect_column_distinct_values_to_contain_set", {"column": "s", "value_set": ["a"]}),
    ("expect_column_distinct_values_to_equal_set", {"column": "b", "value_set": [True, False]}),
    ("expect_column_distinct_values_to_equal_set", {"column": "f", "value_set": [0.0, 1.5]}),
    ("expect_column_most_common_value_to_be_in_set", {"column": "i", "value_set": [0, 1]}),
    ("expect_column_most_common_value_to_be_in_set", {"column": "s", "value_set": ["a"]}),
    *[
        ("expect_column_unique_value_count_to_be_between", {"column": c, "min_value": 2, "max_value": 3})
        for c in SCHEMA.names
    ],
    *[
        ("expect_column_proportion_of_unique_values_to_be_between", {"column": c, "min_value": 0.7})
        for c in SCHEMA.names
    ],
    ("expect_column_proportion_of_non_null_values_to_be_between", {"column": "s", "min_value": 0.7}),
    ("expect_column_pair_values_a_to_be_greater_than_b", {"column_A": "i", "column_B": "j"}),
    (
        "expect_column_pair_values_a_to_be_greater_than_b",
        {"column_A": "i", "column_B": "f", "or_equal": True, "ignore_row_if": "either_value_is_missing"},
    ),
    ("expect_column_pair_values_a_to_be_greater_than_b", {"column_A": "s", "column_B": "u"}),
    ("expect_column_pair_values_to_be_equal", {"column_A": "i", "column_B": "j"}),
    ("expect_column_pair_values_to_be_equal", {"column_A": "s", "column_B": "u", "ignore_row_if": "neither"}),
    ("expect_multicolumn_sum_to_equal", {"column_list": ["i", "j"], "sum_total": 2}),
    (
        "expect_multicolumn_sum_to_equal",
        {"column_list": ["i", "f"], "sum_total": 0, "ignore_row_if": "any_value_is_missing"},
    ),
    ("expect_multicolumn_values_to_be_equal", {"column_list": ["i", "j"]}),
]

small = st.integers(-3, 3)
text = st.sampled_from(["", "a", "b", "A", "ab", "ba", "a\n", "ü", "Ü", "٣", "日本", "a"])
ROW = st.fixed_dictionaries(
    {
        "i": st.none() | small,
        "j": st.none() | small,
        "f": st.none() | st.sampled_from([0.0, -0.0, 1.5, -2.25, math.nan, 1e16]),
        "s": st.none() | text,
        "u": st.none() | text,
        "b": st.none() | st.booleans(),
        "t": st.none() | st.sampled_from([NOON, NOON.replace(hour=13), NOON.replace(year=1900)]),
        "none": st.none(),
    }
)


def table_of(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist([{**row, "id": number} for number, row in enumerate(rows)], schema=SCHEMA)


@pytest.fixture(scope="module")
def gx_source() -> Any:
    import great_expectations as gx

    import data_checks.judge  # noqa: F401  # switches telemetry off

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    return context.data_sources.add_pandas("rows")


def by_gx(source: Any, rows: pa.Table) -> list[dict[str, Any]]:
    """Validate with GX as its users do."""
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    name = f"asset{len(source.assets)}"
    definition = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("all")
    batch = definition.get_batch({"dataframe": rows.to_pandas()})
    results = [
        batch.validate(ExpectationConfiguration(type=kind, kwargs=kwargs).to_domain_obj())
        for kind, kwargs in EXPECTATIONS
    ]
    return [result.to_json_dict() for result in results]


COUNTS = ("element_count", "unexpected_count", "missing_count", "unexpected_percent")


def essence(result: dict[str, Any]) -> dict[str, Any]:
    return {"success": result["success"], **{k: v for k, v in result["result"].items() if k in COUNTS}}


@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
@given(rows=st.lists(ROW, min_size=1, max_size=12), cut=st.integers(0, 12))
@example(rows=[dict.fromkeys(SCHEMA.names[:-1])] * 3, cut=1)
def test_success_and_counts_equal_those_of_gx_on_pandas(gx_source: Any, rows: list[dict[str, Any]], cut: int) -> None:
    table = table_of(rows)
    with tempfile.TemporaryDirectory() as folder:
        blobs = store_of(Path(folder), [table[:cut], table[cut:], table[:0]], row_group_size=3)
        report = validate(suite_of(*EXPECTATIONS), *blobs)
    wanted = by_gx(gx_source, table)
    for (kind, kwargs), ours, theirs in zip(EXPECTATIONS, report.full["results"], wanted, strict=True):
        assert essence(ours) == pytest.approx(essence(theirs), nan_ok=True), (kind, kwargs, ours, theirs)
    assert report.notes == (), "these expectations are computed in the one pass"
