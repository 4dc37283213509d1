"""What the contenders share that run Great Expectations as its users do; no contender itself."""

from __future__ import annotations

import json
from typing import Any

import great_expectations
from great_expectations.core.batch_definition import BatchDefinition
from great_expectations.data_context import AbstractDataContext

from bench.kit.facts import SUITE


def context() -> AbstractDataContext:
    """Return a context that lives in memory, holds the suite and shows no progress bars."""
    found = great_expectations.get_context(mode="ephemeral")
    found.variables.progress_bars = {"globally": False}
    found.suites.add(great_expectations.ExpectationSuite(**json.loads(SUITE.read_text())))
    return found


def failures(
    held: AbstractDataContext, batch: BatchDefinition[Any], parameters: dict[str, Any] | None = None
) -> list[str]:
    """Return which expectations fail, judged in the result format that asks the least."""
    suite = held.suites.get("facts")
    definition = great_expectations.ValidationDefinition(name=batch.name, data=batch, suite=suite)
    result = held.validation_definitions.add(definition).run(batch_parameters=parameters, result_format="BOOLEAN_ONLY")
    return [_told(found) for found in result.results if not found.success]


def _told(result: Any) -> str:
    error = next(iter((result.exception_info or {}).values()), None)
    why = error.get("exception_message") if isinstance(error, dict) else None
    return f"{result.expectation_config.type}{f' ({why})' if why else ''}"
