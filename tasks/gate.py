"""Decide whether the challenger may replace the champion."""

from __future__ import annotations

import logging

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from insitu.cards import gate_table, model_card
from insitu.gate import Decision, Evidence, decide
from insitu.release import record_run
from insitu.runs import Run
from insitu.training import Trained
from tasks.policy import verb

log = logging.getLogger(__name__)


@verb("gate-challenger")
def gate(run: Run, trained: Trained) -> Decision:
    """Return the decision, which is recorded in the registry's experiment.

    Raises:
        GateFailed: The metrics cannot be judged.
    """
    evidence = Evidence(
        rows=trained.rows,
        challenger=trained.metrics["challenger"],
        champion=trained.metrics.get("champion"),
        difference=trained.difference,
        share=trained.share,
        slices=trained.slices,
    )
    # A function of its arguments: decided anew costs nothing, and never belongs to another training.
    decision = run.journal.again("gate", Decision, lambda: decide(evidence, run.model.gate, trained.champion))
    name = run.model.name
    create_table_artifact(key=f"gate-{name}", table=gate_table(trained, run.model.gate), description=decision.verdict)
    facts = {"batch": run.batch.fingerprint, "code": run.code_hash, "run": run.key}
    card = model_card(name, trained, decision, run.model.gate, facts)
    create_markdown_artifact(card, key=f"model-card-{name}")
    log.info("%s: %s", decision.verdict, "; ".join(decision.reasons))
    if run.journal.once("experiment", bool, lambda: record_run(run, trained, decision)):
        log.info("the rejected model is archived in %s", run.site.models.place)
    return decision
