"""pandera on Polars: the columns in memory, a schema with the checks of the suite.

What pandera has no check for (across columns, over a whole column) is a check of its own in Polars.
"""

from __future__ import annotations

from datetime import UTC, datetime

import pandera.polars as pa
import polars as pl
from pandera.errors import SchemaErrors

from bench.kit.facts import COLUMNS
from bench.kit.task import Task
from bench.peers.polars_scan import VENDORS, expectations, scan

_START, _LAST = datetime(2025, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 23, 59, 59, 999_999, tzinfo=UTC)
_OWN = {"fare mean", "fare stdev", "fare quantiles", "zone distinct", "zone proportion", "fare above distance"}
_OWN |= {"row count", "vendor contains", "vendor most common", "passengers mostly not null"}


def check(task: Task) -> list[str]:
    """Read the columns, validate them."""
    rows = scan(task).select(COLUMNS).collect(engine="streaming")
    try:
        _schema().validate(rows, lazy=True)
    except SchemaErrors as exc:
        return sorted({str(case) for case in exc.failure_cases.get_column("check")})
    return []


def _schema() -> pa.DataFrameSchema:
    between = pa.Check.in_range
    text = [pa.Check.str_matches("^[A-Z0-9]{12}$"), pa.Check.str_length(12, 12)]
    return pa.DataFrameSchema(
        {
            "id": pa.Column(pl.Int64, unique=True),
            "key": pa.Column(pl.String, text),
            "picked_up": pa.Column(pl.Datetime("us", "UTC"), between(_START, _LAST), nullable=False),
            "vendor": pa.Column(pl.String, pa.Check.isin(VENDORS)),
            "zone": pa.Column(pl.String),
            "passengers": pa.Column(pl.Int64, between(1, 6), nullable=True),
            "distance": pa.Column(pl.Float64, between(0, 200), nullable=True),
            "fare": pa.Column(pl.Float64),
        },
        checks=[_own(name, expression) for name, expression in expectations().items() if name in _OWN],
        unique=["vendor", "key"],
    )


def _own(name: str, expression: pl.Expr) -> pa.Check:
    return pa.Check(lambda data: data.lazyframe.select(expression), name=name)
