"""What of a judged expectation may leave the site: names, counts and a fixed phrase."""

from __future__ import annotations

from data_checks.judge import AT_MOST, DRIFT, ERROR, Result
from data_checks.plan import MISSING
from data_checks.report import Outcome

_KEYS = ("column", "column_A", "column_B")
_REASONS = {
    "expect_column_to_exist": "column is missing",
    "expect_column_values_to_be_of_type": "column has another type",
    "expect_column_values_to_be_in_type_list": "column has another type",
    "expect_column_type_to_be": "column has another type",
    "expect_table_columns_to_match_set": "the columns differ",
    "expect_table_columns_to_match_ordered_list": "the columns differ",
    "expect_table_column_count_to_equal": "number of columns outside the bounds",
    "expect_table_column_count_to_be_between": "number of columns outside the bounds",
    "expect_table_row_count_to_equal": "number of rows outside the bounds",
    "expect_table_row_count_to_be_between": "number of rows outside the bounds",
    "expect_column_distinct_values_to_contain_set": "expected values are absent",
}


def outcome(result: Result) -> Outcome:
    """Return the redacted form of a result."""
    config, counted = result.expectation_config, result.result or {}
    assert config is not None  # GX's type allows None; a judged result has one
    kwargs = config.kwargs
    columns = [kwargs[key] for key in _KEYS if kwargs.get(key)] or kwargs.get("column_list") or []
    return Outcome(
        expectation=config.type,
        columns=() if config.type.startswith("expect_table_") else tuple(columns),
        success=bool(result.success),
        unexpected_count=_count(counted.get("unexpected_count")),
        rows=_count(counted.get("element_count")),
        reason="" if result.success else _reason(result, config.type),
    )


def _reason(result: Result, kind: str) -> str:
    info = result.exception_info or {}
    if info.get("raised_exception"):
        error = info.get(ERROR, "an error")
        return "column is missing" if error == MISSING else f"could not be judged: {error}"
    if kind.startswith(DRIFT):
        return _drift(result, kind.removeprefix(DRIFT).removesuffix(AT_MOST))
    if kind in _REASONS:
        return _REASONS[kind]
    if "unexpected_count" in (result.result or {}):
        return "unexpected values"
    return "observed value outside the bounds"


def _drift(result: Result, figure: str) -> str:
    """Return figure and limit: they say how far a column moved, and nothing of its values."""
    assert result.expectation_config is not None
    value, limit = (result.result or {})["observed_value"], result.expectation_config.kwargs["max_value"]
    return (
        f"drifted from the champion's training data: {figure} {value:.4g}, at most {limit:g} by [drift] in model.toml"
    )


def _count(value: object) -> int | None:
    return int(value) if isinstance(value, (int, float)) else None
