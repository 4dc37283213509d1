"""Decide whether the challenger may replace the champion."""

from __future__ import annotations

import logging

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from insitu.gate import Decision, Evidence, decide
from insitu.release import record_run
from insitu.reporting.cards import gate_table
from insitu.reporting.model_card import markdown_of
from insitu.rulings import judge
from insitu.runs import Run
from insitu.training import Trained
from tasks.policy import verb
from tasks.showing import show

log = logging.getLogger(__name__)


@verb("gate-challenger")
def gate(run: Run, trained: Trained) -> Decision:
    """Return the decision, which is signed, put on record and noted in the registry's experiment.

    Raises:
        GateFailed: The metrics cannot be judged.
        DecisionRefused: Another verdict over the same evidence is on record.
        SignatureRefused: What is on record is not what a trusted key has signed.
    """
    evidence = Evidence(
        rows=trained.rows,
        challenger=trained.metrics["challenger"],
        champion=trained.metrics.get("champion"),
        difference=trained.difference,
        share=trained.share,
        slices=trained.slices,
        rarer_rows=trained.rarer_rows,
        constant=trained.constant,
        lost=trained.lost,
        score_psi=trained.score_psi,
    )
    # A function of its arguments: decided anew costs nothing, and never belongs to another training.
    decision = run.journal.again(
        "gate", Decision, lambda: judge(run, decide(evidence, run.model.gate, trained.champion, run.model.limits))
    )
    name, told = run.model.name, "; ".join(decision.reasons)
    show(
        create_table_artifact,
        key=f"gate-{name}",
        table=gate_table(trained, run.model.gate),
        description=f"{decision.verdict}: {told}",
    )
    show(lambda: create_markdown_artifact(markdown_of(run), key=f"model-card-{name}", description=decision.verdict))
    log.info("%s: %s", decision.verdict, told)
    if run.journal.once("experiment", bool, lambda: record_run(run, trained, decision)):
        log.info("the rejected model is archived in %s", run.site.models.place)
    return decision
