"""Ask a person whether the model may be published, where that is wanted, and wait where a server shows the question."""

from __future__ import annotations

import contextvars
import logging
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Literal
from uuid import UUID, uuid4

from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.flow_runs import pause_flow_run
from prefect.input import RunInput
from prefect.settings import get_current_settings
from pydantic import Field, TypeAdapter

from insitu.acts import Act
from insitu.decisions import Kept, Standing, Story
from insitu.errors import BackendUnavailable, DecisionRefused, InsituError, UsageError
from insitu.gate import PUBLISHED, Decision
from insitu.lineage import close
from insitu.reporting.cards import gate_table, markdown_table, slices_table
from insitu.rulings import answer, ask, close_question, settled, standing_of, story_of
from insitu.runs import Run
from insitu.training import Trained
from tasks.policy import verb
from tasks.showing import show

_LOOK_S = 3
_GRACE_S = 3600
"""How much longer than ours Prefect's own limit is: that one would fail the run."""
_HASH = re.compile("([0-9a-f]{12})[0-9a-f]{52}")
log = logging.getLogger(__name__)


class Answer(RunInput):
    """The form of the Prefect UI."""

    decision: Literal["approve", "reject"] = Field(json_schema_extra={"position": 1})
    name: str = Field(
        min_length=1, description="Who decides. Nobody checks this name.", json_schema_extra={"position": 2}
    )
    reason: str = Field(min_length=1, description="Why. It stays on record.", json_schema_extra={"position": 3})

    def act(self) -> Act:
        """Return what the person does by it."""
        kind: Literal["approval", "rejection"] = "approval" if self.decision == "approve" else "rejection"
        return Act(kind, " ".join(self.name.split()), " ".join(self.reason.split()))


@verb("settle-decision")
def approval(run: Run, trained: Trained, decision: Decision) -> Decision:
    """Return the decision with what people have said; where nobody can answer here, it awaits approval.

    Raises:
        SignatureRefused: What is on record is not what a trusted key has signed.
    """
    stands = _asked(run, trained, decision) if decision.outcome in ("AwaitingApproval", "Expired") else standing_of(run)
    assert stands
    decision = settled(decision, stands)
    if entry := run.journal.entry("gate"):
        value = TypeAdapter(Decision).dump_python(decision, mode="json")
        run.journal.keep("gate", {**entry, "value": value})
    about = f"{decision.outcome}, decided by {stands.basis.record.who}"
    show(create_markdown_artifact, _told(decision, stands.basis), key=f"decision-{run.model.name}", description=about)
    log.log(
        logging.INFO if decision.outcome in PUBLISHED else logging.WARNING,
        "%s, on record as %s", decision.outcome, _HASH.sub(r"\1…", stands.basis.name),
    )  # fmt: skip
    return decision


def _asked(run: Run, trained: Trained, decision: Decision) -> Standing | None:
    """Return what holds after a person was asked; once more where a limit was passed while the question was open."""
    while True:
        question = ask(run)
        log.warning("a person decides, until %s: %s", question.record.expires, _command(question))
        if not get_current_settings().api.url:  # a temporary server shows nothing to anybody
            return standing_of(run)
        close(run, "Unfinished")  # so that `insitu history` tells that a person is asked
        _wait(run, question, _request(run, trained, decision, question))
        stands = standing_of(run)
        if stands is None or stands.outcome != "AwaitingApproval":
            return stands


def _wait(run: Run, question: Kept, request: str) -> None:
    """Return when the question is answered: by the form, by `insitu approve`, or by its end."""
    context, complaint = FlowRunContext.get(), ""
    assert context
    assert context.flow_run
    while not (story := _story(run)).answer:
        with _watched(run, question, context.flow_run.id):
            given = pause_flow_run(
                wait_for_input=Answer.with_initial_data(description=complaint + request),
                timeout=max(1, round(_seconds_left(question))) + _GRACE_S,
                poll_interval=_LOOK_S,
                key=str(uuid4()),
            )
        try:
            if not (story := _story(run)).answer:
                _put_on_record(run, story, given.act())
        except (DecisionRefused, UsageError) as refused:  # too late, second, not allowed, or nothing to read
            log.warning("%s", refused.render())
            complaint = f"**{refused.what}**\n\n"


def _put_on_record(run: Run, story: Story, act: Act) -> None:
    """Put what the form said on record, however long the state is away: nobody would type it again."""
    while True:
        try:
            answer(run.site, story, act)
        except BackendUnavailable as away:
            log.warning("the answer is kept until it can be put on record: %s", away.what)
            time.sleep(_LOOK_S)
        else:
            return


@contextmanager
def _watched(run: Run, question: Kept, flow_run: UUID) -> Iterator[None]:
    """Look after the question in a thread while the block waits: an answer from elsewhere, or its end, resumes it."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_LOOK_S):
            try:
                if _seconds_left(question) <= 0:
                    close_question(run, question)
                if there := _story(run).answer:
                    _resume(flow_run, there)
            except Exception as exc:  # noqa: BLE001 - state or server are away for a while
                log.debug("the question could not be looked at: %s", type(exc).__name__)

    context = contextvars.copy_context()  # a new thread would ask a server of its own
    threading.Thread(target=context.run, args=(watch,), name="answered?", daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def _resume(flow_run: UUID, there: Kept) -> None:
    given = Answer(
        decision="approve" if there.record.kind == "approval" else "reject",
        name=there.record.who,
        reason=there.record.reason,
    )
    with get_client(sync_client=True) as client:
        client.resume_flow_run(flow_run, run_input=given.model_dump())


def _story(run: Run) -> Story:
    story = story_of(run)
    if story is None:
        raise InsituError(f"the decisions about run {run.key[:12]} are gone", next_action="start the run again")
    return story


def _seconds_left(question: Kept) -> float:
    return (datetime.fromisoformat(str(question.record.expires)) - datetime.now(UTC)).total_seconds()


def _command(question: Kept) -> str:
    return f"insitu approve {question.record.model} {question.record.run_key[:12]} --name NAME --reason REASON"


def _request(run: Run, trained: Trained, decision: Decision, question: Kept) -> str:
    """Return what a person sees above the form: verdict and evidence, aggregates only."""
    gate = run.model.gate
    lines = [
        f"# May {run.model.name} be published? The gate says: {decision.verdict}",
        *(f"- {reason}" for reason in question.record.reasons),
        "",
        markdown_table(gate_table(trained, gate)),
        "",
        f"Judged on {trained.rows:,} holdout rows; champion: {decision.champion or 'none yet'}.",
        *(["", markdown_table(slices_table(trained, gate))] if trained.slices else []),
        "",
        f"Run {run.key[:12]}, until {question.record.expires}. In a terminal: `{_command(question)}`",
    ]
    return "\n".join(lines)


def _told(decision: Decision, basis: Kept) -> str:
    record = basis.record
    lines = [f"# {record.model}: {decision.outcome}", *(f"- {reason}" for reason in decision.reasons), ""]
    facts = {
        "decided by": f"{record.who}, {record.kind}, at {record.when}",
        "reason": record.reason,
        "until": record.expires or "",
        "on record": f"{basis.name}, {basis.digest}",
    }
    return "\n".join([*lines, *(f"- **{key}**: {_plain(value)}" for key, value in facts.items() if value)])


def _plain(text: str) -> str:
    """Return a person's words so that Markdown shows them as they are."""
    return "".join(f"\\{char}" if char in "\\`*_[]<>#|!" else char for char in " ".join(text.split()))
