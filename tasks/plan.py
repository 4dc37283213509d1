"""Put on record what the run is about to do, and show it."""

from __future__ import annotations

import logging
from typing import Any

from prefect.artifacts import create_markdown_artifact

from insitu.lineage import PLAN
from insitu.planning.exits import exits_of
from insitu.planning.plan import planned
from insitu.reporting.run_cards import plan_card
from insitu.runs import Run
from tasks.policy import verb
from tasks.showing import show

log = logging.getLogger(__name__)


@verb("plan-run")
def plan_run(run: Run) -> dict[str, Any]:
    """Return the plan that `insitu plan` tells for the same batch, champion and settings: its hash is the same."""
    plan = planned(run)
    run.journal.keep(PLAN, plan)
    show(_show, run, plan)
    log.info("plan %s: the challenger meets %s", plan["hash"][:12], _opponent(plan["intention"]["champion"]))
    return plan


def _show(run: Run, plan: dict[str, Any]) -> None:
    name = run.model.name
    card, opponent = plan_card(name, plan, exits_of(run, ())), _opponent(plan["intention"]["champion"])
    about = f"what this run is about to do; the challenger meets {opponent}"
    create_markdown_artifact(card, key=f"plan-{name}", description=about)


def _opponent(champion: str | None) -> str:
    return f"champion v{champion}" if champion else "no champion: it is the first"
