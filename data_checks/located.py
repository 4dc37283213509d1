"""In which blobs the rows lie that break an expectation: for whoever mends them, on site."""

from __future__ import annotations

from dataclasses import replace

from data_checks.measures import Measure
from data_checks.passes import Passes
from data_checks.plan import Step
from data_checks.report import Outcome
from insitu.batch import Batch

_MOST = 5
_COUNT, _MISSING = ".unexpected_count", "column_values.nonnull.unexpected_count"


def located(outcome: Outcome, step: Step, passes: Passes, batch: Batch) -> Outcome:
    """Return the *outcome* of *step* with the blobs of its unexpected rows, those with the most rows first.

    Nothing is read again. A key that repeats is in no blob alone, and what Great Expectations' own engine has judged
    was never counted by blob: there none is named.
    """
    counted = None if outcome.success else _counted(step)
    if counted is None:
        return outcome
    rows = {blob.name: passes.merged([counted], [blob]).get(counted.key, 0) for blob in batch.blobs}
    found = sorted((name for name in rows if rows[name]), key=lambda name: (-rows[name], name))
    named = tuple((name, rows[name]) for name in found[:_MOST])
    return replace(outcome, blobs=named, more_blobs=len(found) - len(named))


def _counted(step: Step) -> Measure | None:
    """Return what counts the step's unexpected rows, where that is one number of each blob."""
    asked = {name: recipe.measures for (name, *_), recipe in (step.recipes or {}).items() if name.endswith(_COUNT)}
    if len(asked) > 1:  # the missing values are counted beside others, which are looked at in the other rows
        asked.pop(_MISSING, None)
    found = [m for measures in asked.values() for m in measures]
    return found[0] if len(found) == 1 and not found[0].spilled else None
