"""Whether people have to decide over how much a run's model could hold, and the account of what left.

How much that is, the edge job measures (`insitu.residency.capacity`); what may be without being asked, `[residency]`
of model.toml says, and waivers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from insitu.errors import DecisionRefused, EgressRefused, LeakFound
from insitu.residency.account import Account
from insitu.residency.capacity import metrics_bound
from insitu.residency.waivers import Find
from insitu.runs import Run


def account_of(run: Run) -> Account:
    """Return the account of the run's dataset."""
    return Account(run.site.state, run.batch.container)


def over(run: Run) -> tuple[str, ...]:
    """Return why people have to decide over how much the run's model could hold; nothing where they need not.

    Raises:
        StateDamaged: The account cannot be read.
    """
    limits = run.model.residency
    if limits.max_capacity_share is None and limits.budget_share is None:
        return ()
    capacity = _capacity(run)
    if capacity is None:
        return ("nobody measured how much the model could hold: residency.scan of model.toml is off",)
    return () if _is_waived(run, capacity) else tuple(_beyond(run, capacity))


@contextmanager
def note_leaving(run: Run) -> Iterator[None]:
    """Put on account what the run's model could hold, before its files go anywhere; not where the body refuses them."""
    capacity, account = _capacity(run), account_of(run)
    is_new = capacity is not None and account.take(run.key, run.model.name, capacity["rows"])
    try:
        yield
    except (DecisionRefused, EgressRefused, LeakFound):
        if capacity and is_new:
            account.give_back(run.key, metrics_bound(capacity))
        raise


def note_metrics(run: Run) -> None:
    """Put on account what the run's metrics could hold: they go whatever the verdict is."""
    if capacity := _capacity(run):
        account_of(run).take(run.key, run.model.name, metrics_bound(capacity))


def _capacity(run: Run) -> Mapping[str, Any] | None:
    scan = ((run.journal.entry("train") or {}).get("value") or {}).get("residency") or {}
    capacity: Mapping[str, Any] | None = scan.get("capacity")
    return capacity


def _is_waived(run: Run, capacity: Mapping[str, Any]) -> bool:
    find = Find("capacity", "", None, (), capacity["rows"])
    standing = run.site.waivers(run.model.name).standing(datetime.now(UTC))
    return any(one.waiver and one.waiver.scope.covers(find) for one in standing)


def _beyond(run: Run, capacity: Mapping[str, Any]) -> Iterator[str]:
    limits, held, rows = run.model.residency, capacity["rows"], max(1, capacity["of"])
    if limits.max_capacity_share is not None and held > limits.max_capacity_share * rows:
        yield (
            f"the model could hold {held:,} of {rows:,} rows in some encoding,"
            f" above residency.max_capacity_share {limits.max_capacity_share:.4g}"
        )
    if limits.budget_share is not None:
        before = account_of(run).taken_before(run.key, held)
        if before + held > limits.budget_share * rows:
            yield (
                f"with what left of {run.batch.container} before, {before + held:,} of {rows:,} rows could have left,"
                f" above residency.budget_share {limits.budget_share:.4g}"
            )
