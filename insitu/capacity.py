"""Whether people have to decide over how much a run's model could hold, and the account of what left.

How much that is, the edge job measures (`insitu.residency.capacity`); what may be without being asked, `[residency]`
of model.toml says, and waivers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from insitu.errors import DecisionRefused, EgressRefused, LeakFound
from insitu.journal import Journal
from insitu.residency.account import Account
from insitu.residency.capacity import metrics_bound
from insitu.residency.waivers import Find
from insitu.runs import Run
from insitu.settings import ModelSettings
from insitu.waivers import Waivers
from insitu.wiring import Site


def account_of(run: Run) -> Account:
    """Return the account of the run's dataset."""
    return Account(run.site.state, run.batch.container)


def over(run: Run) -> tuple[str, ...]:
    """Return why people have to decide over how much the run's model could hold; see `over_limits`."""
    return over_limits(run.site, run.model, run.key)


def over_limits(site: Site, model: ModelSettings, run_key: str) -> tuple[str, ...]:
    """Return why people have to decide over how much a run's model could hold; nothing where they need not.

    Raises:
        StateDamaged: The account cannot be read.
    """
    limits = model.residency
    if limits.max_capacity_share is None and limits.budget_share is None:
        return ()
    capacity = _capacity(Journal(site.state, model.name, run_key))
    if capacity is None:
        return ("nobody measured how much the model could hold: residency.scan of model.toml is off",)
    if _is_waived(site.waivers(model.name), capacity):
        return ()
    return tuple(_beyond(model, Account(site.state, model.data.container), run_key, capacity))


@contextmanager
def note_leaving(run: Run) -> Iterator[None]:
    """Put on account what the run's model could hold, before its files go anywhere; not where the body refuses them."""
    capacity, account = _capacity(run.journal), account_of(run)
    is_new = capacity is not None and account.take(run.key, run.model.name, capacity["rows"])
    try:
        yield
    except (DecisionRefused, EgressRefused, LeakFound):
        if capacity and is_new:
            account.give_back(run.key, metrics_bound(capacity))
        raise


def note_metrics(run: Run) -> None:
    """Put on account what the run's metrics could hold: they go whatever the verdict is."""
    if capacity := _capacity(run.journal):
        account_of(run).take(run.key, run.model.name, metrics_bound(capacity))


def _capacity(journal: Journal) -> Mapping[str, Any] | None:
    scan = ((journal.entry("train") or {}).get("value") or {}).get("residency") or {}
    capacity: Mapping[str, Any] | None = scan.get("capacity")
    return capacity


def _is_waived(waivers: Waivers, capacity: Mapping[str, Any]) -> bool:
    find = Find("capacity", "", None, (), capacity["rows"])
    return any(one.waiver and one.waiver.scope.covers(find) for one in waivers.standing(datetime.now(UTC)))


def _beyond(model: ModelSettings, account: Account, run_key: str, capacity: Mapping[str, Any]) -> Iterator[str]:
    limits, held, rows = model.residency, capacity["rows"], max(1, capacity["of"])
    if limits.max_capacity_share is not None and held > limits.max_capacity_share * rows:
        yield (
            f"the model could hold {held:,} of {rows:,} rows in some encoding,"
            f" above residency.max_capacity_share {limits.max_capacity_share:.4g}"
        )
    if limits.budget_share is not None:
        before = account.taken_before(run_key, held)
        if before + held > limits.budget_share * rows:
            percent = math.ceil(100 * (before + held) / rows)  # so that a few metrics of others ask nobody again
            yield (
                f"with what left of {account.container} before, up to {percent:,} % of {rows:,} rows could have left,"
                f" above residency.budget_share {limits.budget_share:.4g}"
            )
