"""Validate a batch in one pass over its bytes: plan, scan, merge, judge.

    suite ── build ──> expectations ── wanted ──> metrics ── recipe ──> measures
                                                                           │ scan: one pass
    report <── verdict: GX judges <── answers to the metrics <── merged measurements

An expectation with a metric that has no recipe runs on GX's own pandas engine over the same pinned
bytes, and the report says so and what it cost.
"""

from __future__ import annotations

from collections.abc import Callable

from data_checks.report import Progress, Report
from data_checks.suite import Suite
from insitu.batch import Batch
from insitu.errors import DataError
from insitu.ports import BlobStore


def validate(
    suite: Suite,
    store: BlobStore,
    batch: Batch,
    *,
    on_progress: Callable[[Progress], None] | None = None,
) -> Report:
    """Check *batch* against *suite*; only the columns that the suite names are read.

    Great Expectations, pandas and Polars are imported here and not before: together they take
    seconds.

    Raises:
        SettingsError: The suite holds an unknown expectation or a wrong argument.
        DataError: There is nothing to check, a blob is unreadable, or the blobs' columns differ.
        BlobChanged: A blob is not the pinned version any more.
        BackendUnavailable: The store gives no answer.
    """
    from data_checks import judge, parquet, plan, redaction, scan

    _require_something(bool(suite.expectations), f"{suite.origin} has no expectations")
    expectations = judge.build(suite)
    table = parquet.open_batch(store, batch)
    _require_something(table.rows > 0, f"the batch of {len(batch.blobs)} blobs in {batch.container} has no rows")
    planned = plan.make(expectations, table.schema)
    whole, scanned_bytes = scan.scan(table, planned.measures, on_progress)
    verdicts = [plan.settle(step, planned, whole, table) for step in planned.steps]
    results = [verdict.result for verdict in verdicts]
    outcomes = tuple(redaction.outcome(result) for result in results)
    failed = sum(not outcome.success for outcome in outcomes)
    return Report(
        success=failed == 0,
        suite=suite.name,
        expectations=len(results),
        failed=failed,
        rows=table.rows,
        bytes_read=table.footer_bytes + scanned_bytes + sum(verdict.bytes_read for verdict in verdicts),
        outcomes=outcomes,
        notes=tuple(verdict.note for verdict in verdicts if verdict.note),
        full=judge.as_suite_result(suite, results),
    )


def _require_something(there: bool, found: str) -> None:
    if not there:
        raise DataError("nothing was checked", found=found, wanted="at least one expectation and one row to check")
