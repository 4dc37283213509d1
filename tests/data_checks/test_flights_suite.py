"""The flights suite: real months pass, damaged ones fail where they should."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl
import pyarrow as pa
import pytest
from example_blobs import Store, arrow

from data_checks.engine import validate
from data_checks.suite import Suite


@pytest.mark.parametrize("count", [1, 9, 10, 11, 12])
def test_every_prefix_of_the_year_passes(count: int, months: list[pa.Table], store: Store, suite: Suite) -> None:
    report = validate(suite, *store(*months[:count]))
    assert (report.success, report.failures, report.notes) == (True, (), ())
    assert report.expectations == len(suite.expectations) >= 20
    assert report.rows == sum(month.num_rows for month in months[:count])


@pytest.mark.parametrize("seed", range(3))
def test_an_extract_of_1500_rows_passes(seed: int, flights: pl.DataFrame, store: Store, suite: Suite) -> None:
    report = validate(suite, *store(arrow(flights.sample(1500, seed=seed))))
    assert report.failures == ()


Damage = Callable[[pl.DataFrame], pl.DataFrame]
first_row = pl.int_range(pl.len()) == 0


def replace(column: str, value: object) -> Damage:
    return lambda rows: rows.with_columns(pl.when(first_row).then(pl.lit(value)).otherwise(column).alias(column))


@pytest.mark.parametrize(
    ("damage", "broken"),
    [
        (lambda rows: rows.with_columns(pl.col("distance") * 1000), "expect_column_values_to_be_between"),
        (replace("carrier", None), "expect_column_values_to_not_be_null"),
        (replace("origin", "XXX"), "expect_column_values_to_be_in_set"),
        (lambda rows: pl.concat([rows, rows]), "expect_compound_columns_to_be_unique"),
        (lambda rows: rows.head(10), "expect_table_row_count_to_be_between"),
        (lambda rows: rows.drop("tailnum"), "expect_table_columns_to_match_ordered_list"),
        (
            lambda rows: rows.with_columns(pl.col("distance").cast(float)),
            "expect_column_values_to_be_of_type",
        ),
        (replace("dest", "Boston"), "expect_column_value_lengths_to_equal"),
        (lambda rows: rows.with_columns(arr_delay=None), "expect_column_values_to_not_be_null"),
    ],
)
def test_damage_is_found(damage: Damage, broken: str, flights: pl.DataFrame, store: Store, suite: Suite) -> None:
    january = flights.filter(pl.col("month") == 1)
    report = validate(suite, *store(arrow(damage(january))))
    assert not report.success
    assert broken in {failure.expectation for failure in report.failures}
    assert report.failed == len(report.failures)
