"""Validate a batch in one pass over its bytes: plan, scan, merge, judge.

    suite ── build ──> expectations ── wanted ──> metrics ── recipe ──> measures
                                                                           │ what is not known yet: scan
    report <── verdict: GX judges <── answers to the metrics <── merged measurements

What was measured of a blob is kept (`statistics`), so only new blobs are read. What a summary does not
settle is measured exactly in a second pass. An expectation with a metric that has no recipe runs on GX's
own pandas engine over the same pinned bytes. The report says what either cost.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from data_checks.baseline import DriftCheck
from data_checks.deferred import defer, without
from data_checks.report import Outlook, Progress, Report
from data_checks.suite import Suite
from insitu.batch import Batch
from insitu.errors import DataError
from insitu.ports import BlobStore
from insitu.settings import ReadingSettings

if TYPE_CHECKING:
    import pyarrow as pa

    from data_checks.asked import Asked
    from data_checks.cluster import Cluster
    from data_checks.passes import Passes


def prepare() -> None:
    """Import what `validate` needs, for a process that does nothing else.

    Great Expectations imports libraries for charts and for a few metrics, which wait until they are used, and what it
    finds of clients for data elsewhere, of which it meets none here: half the CPU and 150 MB. The garbage collector
    would find nothing meanwhile, and never looks at what is here again: a tenth of what is left, and 3 % of a pass.
    """
    gc.disable()
    defer("altair", "scipy.stats")
    with without("azure", "boto3", "botocore", "google", "pyspark", "sqlalchemy"):
        import great_expectations  # noqa: F401 - all of it
    from data_checks import comparison, located, plan, spark, verdicts  # noqa: F401 - they import all others

    gc.freeze()
    gc.enable()


def validate(
    suite: Suite,
    store: BlobStore,
    batch: Batch,
    *,
    reading: ReadingSettings | None = None,
    state: BlobStore | None = None,
    work: Path | None = None,
    drift: DriftCheck | None = None,
    cluster: Cluster | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Report:
    """Check *batch* against *suite*; only the columns that the suite names are read.

    Great Expectations, pandas and Polars are imported here and not before: together they take
    seconds.

    Args:
        reading: How text blobs are read, and how large what is in a blob may become.
        state: Where what was measured of each blob is kept; None keeps nothing.
        work: Folder for private files of this pass, by default that of the system.
        drift: What to compare with the champion's training data; None compares nothing.
        cluster: Where the blobs are measured, whose executors open *store* too; None: in this process.

    Raises:
        SettingsError: The suite holds an unknown expectation or a wrong argument.
        DataError: There is nothing to check, a blob is unreadable, or the blobs' columns differ.
        BlobChanged: A blob is not the pinned version any more.
        BackendUnavailable: The store, or the cluster, gives no answer.
    """
    from data_checks import asked, judge, plan, redaction
    from data_checks.comparison import Comparison, rounded
    from data_checks.located import located
    from data_checks.verdicts import verdicts

    _require_something(bool(suite.expectations), f"{suite.origin} has no expectations")
    expectations = judge.build(suite)
    with _opened(store, batch, reading, state, work, cluster, on_progress) as passes:
        schema = passes.table.schema
        planned = plan.make(expectations, schema)
        wanted = planned.asked(schema.names)
        if state:
            asked.keep(state, suite, schema, wanted)
        comparison = Comparison.of(drift, batch, schema, wanted)
        whole = passes.measured(comparison.with_measures_of(wanted))
        rows = int(whole.get("rows", 0))
        _require_something(rows > 0, f"the batch of {len(batch.blobs)} blobs in {batch.container} has no rows")
        found = verdicts(planned, whole, passes)
        drifted, profile = comparison.found(passes), comparison.kept(passes)
    of_suite = [verdict.result for verdict in found]
    of_drift = [judge.drift_result(*one) for one in comparison.judged(drifted)]
    results = of_suite + of_drift
    outcomes = (
        *(
            located(redaction.outcome(one), step, passes, batch)
            for one, step in zip(of_suite, planned.steps, strict=True)
        ),
        *map(redaction.outcome, of_drift),
    )
    failed = sum(not outcome.success for outcome in outcomes)
    return Report(
        success=failed == 0,
        suite=suite.name,
        expectations=len(results),
        failed=failed,
        rows=rows,
        bytes_read=passes.bytes_read,
        outcomes=outcomes,
        notes=(*passes.notes, *(verdict.note for verdict in found if verdict.note)),
        drift=rounded(drifted),
        full=judge.as_suite_result(suite, results),
        profile=profile,
    )


def foresee(
    suite: Suite,
    store: BlobStore,
    batch: Batch,
    *,
    reading: ReadingSettings | None = None,
    state: BlobStore | None = None,
    drift: DriftCheck | None = None,
) -> Outlook:
    """Return what `validate` would read and how it would judge; only footers and headers are read, nothing is kept.

    Great Expectations is imported only if no validation has kept what the suite asks of such columns.

    Raises:
        SettingsError, DataError, BlobChanged, BackendUnavailable: As `validate` does.
    """
    from data_checks import asked
    from data_checks.comparison import Comparison
    from insitu.tables.table import cost_bytes

    _require_something(bool(suite.expectations), f"{suite.origin} has no expectations")
    with _opened(store, batch, reading, state) as passes:
        schema = passes.table.schema
        wanted = (asked.load(state, suite, schema) if state else None) or _asked_now(suite, schema)
        works = passes.outstanding(Comparison.of(drift, batch, schema, wanted).with_measures_of(wanted))
    return Outlook(
        suite=suite.name,
        expectations=len(suite.expectations),
        blobs=len(batch.blobs),
        known_blobs=len(batch.blobs) - len({work.part.blob for work in works}),
        rows=passes.table.rows,
        columns=len({column for work in works for column in work.columns}),
        bytes_to_read=passes.bytes_read + sum(cost_bytes(work.part, work.columns) for work in works),
        second_pass=wanted.second_pass,
        notes=(*passes.notes, *wanted.lacking),
        looked_at=len(batch.blobs),
    )


def _asked_now(suite: Suite, schema: pa.Schema) -> Asked:
    from data_checks import judge, plan

    return plan.make(judge.build(suite), schema).asked(schema.names)


@contextmanager
def _opened(
    store: BlobStore,
    batch: Batch,
    reading: ReadingSettings | None,
    state: BlobStore | None,
    work: Path | None = None,
    cluster: Cluster | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Iterator[Passes]:
    """Open the batch; nothing is measured yet."""
    from data_checks.passes import Passes
    from data_checks.scan import LocalScanner
    from data_checks.spark import SparkScanner
    from data_checks.spill import Spill
    from data_checks.statistics import Statistics
    from data_checks.watch import Watch

    reading = reading or ReadingSettings()
    kept = Statistics(state, batch.container, reading) if state else nullcontext()
    with Spill(work) as spill, kept as statistics:
        scanner = SparkScanner(store, reading, cluster) if cluster else LocalScanner(store, reading)
        yield Passes(batch, scanner, spill, statistics, Watch(on_progress))


def _require_something(there: bool, found: str) -> None:
    if not there:
        raise DataError("nothing was checked", found=found, wanted="at least one expectation and one row to check")
