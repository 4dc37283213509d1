"""Great Expectations: the only module that knows it. It says what it wants to know, and it judges.

No data context, no file, no telemetry: an expectation names the metrics it needs, and judges the
values that it is given. Where they were computed is its caller's business.
"""

from __future__ import annotations

import builtins
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

os.environ["GX_ANALYTICS_ENABLED"] = "false"  # before the import below, which reads it

import pyarrow as pa
from great_expectations.core import (
    ExpectationSuiteValidationResult,
    ExpectationValidationResult,
)
from great_expectations.exceptions.exceptions import ExpectationNotFoundError
from great_expectations.execution_engine.pandas_execution_engine import PandasExecutionEngine
from great_expectations.expectations.expectation import Expectation as Expectation
from great_expectations.expectations.expectation_configuration import ExpectationConfiguration
from great_expectations.expectations.registry import list_registered_expectation_implementations
from great_expectations.validator.metric_configuration import MetricConfiguration
from great_expectations.validator.metrics_calculator import MetricsCalculator
from great_expectations.validator.validator import ValidationDependencies

from data_checks.recipes import EXAMPLES, Metric
from data_checks.suite import Suite
from insitu.errors import SettingsError

Result = ExpectationValidationResult
DRIFT, AT_MOST = "expect_column_drift_", "_to_be_at_most"
"""How the type of an expectation about drift begins and ends; the suite does not hold them, model.toml does."""

ERROR = "exception_class"
"""Under which key a result says why it could not be judged, in one word that may leave the site."""

MetricId = tuple[str, Any, Any]
_BUILT_IN_ERROR = re.compile(r"^(?:\w+\.)*(\w*(?:Error|Exception))\b", re.MULTILINE)


def build(suite: Suite) -> list[Expectation]:
    """Return the suite's expectations; raise `SettingsError` with every problem of the suite."""
    built: list[Expectation] = []
    problems: list[str] = []
    for number, row in enumerate(suite.expectations, start=1):
        try:
            built.append(ExpectationConfiguration(**row).to_domain_obj())
        except ExpectationNotFoundError:
            problems.append(f"expectation {number}: {row['type']} is unknown{_suggestion(row['type'])}")
        except (ValueError, TypeError, KeyError) as exc:
            problems.append(f"expectation {number}, {row['type']}: {_complaints(exc)}")
    if problems:
        raise SettingsError(
            f"{suite.origin} holds expectations that cannot be meant",
            found="; ".join(problems),
            wanted="types and arguments of Great Expectations 1.x",
        )
    return built


def columns_of(expectation: Expectation) -> tuple[str, ...]:
    """Return the columns whose values the expectation is about."""
    kwargs = expectation.configuration.kwargs
    single = tuple(kwargs[key] for key in ("column", "column_A", "column_B") if kwargs.get(key))
    is_of_table = expectation.expectation_type.startswith("expect_table_")
    return single or (() if is_of_table else tuple(kwargs.get("column_list") or ()))


class Judge:
    """Great Expectations over *rows*, which may be none: then it still says what it wants to know."""

    def __init__(self, rows: pa.Table) -> None:
        self._engine = PandasExecutionEngine(batch_data_dict={"batch": rows.to_pandas()})
        self._dependencies: dict[int, tuple[Expectation, ValidationDependencies]] = {}

    def wanted(self, expectation: Expectation) -> tuple[dict[MetricId, Any], dict[MetricId, Metric]]:
        """Return the metrics that the expectation needs; raises whatever GX raises.

        First those that the columns' names and types answer, with their answers; then all others.
        """
        asked = self._wanted(expectation)
        of_schema = [metric for metric in asked if metric.metric_name in _SCHEMA_METRICS]
        known = self._resolve(expectation, of_schema)[0] if of_schema else {}
        return known, {
            metric.id: Metric(metric.metric_name, dict(metric.metric_domain_kwargs), dict(metric.metric_value_kwargs))
            for metric in asked
            if metric.id not in known
        }

    def verdict(self, expectation: Expectation, metrics: Mapping[MetricId, Any]) -> Result:
        """Return GX's judgement over *metrics*; what it raises becomes a failed expectation.

        As `metrics_validate` does, which asks for the dependencies once more: two thirds of its time.
        """
        try:
            wanted = self._depends(expectation)
            judged = expectation._validate(  # noqa: SLF001 - what GX has each expectation implement
                metrics={name: metrics[metric.id] for name, metric in wanted.metric_configurations.items()},
                runtime_configuration={**_runtime(expectation), "result_format": wanted.result_format},
                execution_engine=self._engine,
            )
            return expectation._build_evr(raw_response=judged)  # noqa: SLF001 - and what it does with the answer
        except MemoryError:  # says nothing about the data
            raise
        except Exception as exc:  # noqa: BLE001  # whatever GX raises, the expectation was not met
            return failed(expectation, type(exc).__name__, str(exc))

    def own_verdict(self, expectation: Expectation) -> Result:
        """Return GX's judgement over metrics that GX itself computes from the rows."""
        try:
            metrics, aborted = self._resolve(expectation, self._wanted(expectation))
        except MemoryError:
            raise
        except Exception as exc:  # noqa: BLE001  # as above
            return failed(expectation, type(exc).__name__, str(exc))
        if aborted:
            return failed(expectation, *_raised(aborted.values()))
        return self.verdict(expectation, metrics)

    def _wanted(self, expectation: Expectation) -> Sequence[MetricConfiguration]:
        return self._depends(expectation).get_metric_configurations()

    def _depends(self, expectation: Expectation) -> ValidationDependencies:
        """Return what GX wants to know; it takes a millisecond to say, so it is asked once."""
        if id(expectation) not in self._dependencies:
            found = expectation.get_validation_dependencies(
                execution_engine=self._engine, runtime_configuration=_runtime(expectation)
            )
            self._dependencies[id(expectation)] = expectation, found
        return self._dependencies[id(expectation)][1]

    def _resolve(
        self, expectation: Expectation, wanted: Sequence[MetricConfiguration]
    ) -> tuple[dict[Any, Any], Mapping[Any, Any]]:
        # Not compute_metrics(): that one logs the exceptions, which quote values.
        calculator = MetricsCalculator(execution_engine=self._engine, show_progress_bars=False)
        graph = calculator.build_metric_dependency_graph(list(wanted), _runtime(expectation))
        return calculator.resolve_validation_graph(graph=graph, runtime_configuration=_runtime(expectation))


def failed(expectation: Expectation, error: str, message: str = "") -> Result:
    """Return the result of an expectation that could not be judged.

    Args:
        error: A class of exceptions, or a fixed phrase.
        message: What it says; it may quote values, so it stays on site.
    """
    return ExpectationValidationResult(
        success=False,
        expectation_config=expectation.configuration,
        exception_info={
            "raised_exception": True,
            ERROR: error,
            "exception_message": f"{error}: {message}" if message else error,
            "exception_traceback": None,
        },
    )


def drift_result(column: str, figure: str, value: float, limit: float) -> Result:
    """Return whether a figure of drift keeps its limit, as the result of an expectation."""
    kwargs = {"column": column, "max_value": limit}
    return ExpectationValidationResult(
        success=value <= limit,
        expectation_config=ExpectationConfiguration(type=f"{DRIFT}{figure}{AT_MOST}", kwargs=kwargs),
        result={"observed_value": value},
    )


def as_suite_result(suite: Suite, results: Sequence[Result]) -> Mapping[str, Any]:
    """Return all results as the JSON values that GX makes of a suite's result."""
    met = sum(bool(result.success) for result in results)
    whole = ExpectationSuiteValidationResult(
        results=list(results),
        success=met == len(results),
        suite_name=suite.name,
        statistics={
            "evaluated_expectations": len(results),
            "successful_expectations": met,
            "unsuccessful_expectations": len(results) - met,
            "success_percent": 100 * met / len(results),
        },
    )
    return dict(whole.to_json_dict())  # type: ignore[no-untyped-call]


_WITHOUT_EXAMPLES = tuple(f"expect_column_values_to_{what}" for what in ("be_null", "not_be_null", "be_unique"))
_SCHEMA_METRICS = ("table.columns", "table.column_types", "table.column_count")


def _runtime(expectation: Expectation) -> dict[str, Any]:
    """Return a fresh configuration, since GX writes into it: counts, and examples of unexpected values."""
    kind = expectation.expectation_type
    shown = EXAMPLES if kind.startswith("expect_column_value") and kind not in _WITHOUT_EXAMPLES else 0
    return {"result_format": {"result_format": "BASIC", "partial_unexpected_count": shown}}


def _raised(aborted: Iterable[Mapping[str, Any]]) -> tuple[str, str]:
    """Return the class of the first exception that GX caught, and its text, which may quote values."""
    caught = [info["exception_info"] for info in aborted]
    for info in caught:
        for name in _BUILT_IN_ERROR.findall(info["exception_traceback"] or ""):
            if name.endswith("MemoryError"):  # numpy has one of its own
                raise MemoryError
            if hasattr(builtins, name):
                return str(name), str(info["exception_message"] or "")
    return "MetricResolutionError", next((str(info["exception_message"] or "") for info in caught), "")


def _suggestion(unknown: str) -> str:
    near = get_close_matches(unknown, list_registered_expectation_implementations(), n=1)
    return f", did you mean {near[0]}?" if near else ""


def _complaints(exc: Exception) -> str:
    errors: Callable[[], list[dict[str, Any]]] | None = getattr(exc, "errors", None)
    if errors is None:
        return str(exc)
    return ", ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in errors())
