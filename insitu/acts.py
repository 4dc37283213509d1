"""What the gate and people do about a model: each act puts one record into the ledger, and the first one counts."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from insitu.decisions import GATE, Kept, Ledger, Record, Story, iso
from insitu.errors import AlreadyDecided, BlobExists, DecisionRefused, UsageError

_MOST_CHARS = {"who": 100, "reason": 1000}


@dataclass(frozen=True)
class Act:
    """What a person does; raises `UsageError` for a name or reason that is empty, long or not printable.

    Attributes:
        who: A name, which nobody checks.
    """

    kind: Literal["approval", "rejection", "override", "rollback", "waiver", "revocation"]
    who: str
    reason: str

    def __post_init__(self) -> None:
        for name, most in _MOST_CHARS.items():
            text = getattr(self, name)
            if not text.strip() or len(text) > most or not text.isprintable():
                raise UsageError(
                    f"{'a name' if name == 'who' else 'a reason'} for the record is missing, long or not readable",
                    found=f"{len(text)} characters",
                    wanted=f"1 to {most} printable characters on one line",
                )


def judged(ledger: Ledger, record: Record) -> Kept:
    """Put the gate's verdict on record, once; return the record there is.

    Raises:
        DecisionRefused: Another verdict about the same evidence is on record.
    """
    try:
        return ledger.keep(record)
    except BlobExists:
        story = _reread(ledger, record)
        there = story.gate.record
        if (record.verdict, record.champion) != (there.verdict, there.champion):
            raise DecisionRefused(
                f"{story.gate.name} in the site's state is another verdict over the same evidence",
                found=f"{there.verdict}, judged at {there.when}",
                wanted=record.verdict,
                next_action="see who has changed gate or settings; remove the folder to have it decided anew",
            ) from None
        return story.gate


def asked(ledger: Ledger, story: Story, timeout_s: float, now: datetime, over: Collection[str] = ()) -> Kept:
    """Return the question that is open, put now unless it was before.

    It names what the gate said, and the limits that the model is *over* now. One that was not answered in time, or does
    not name them all, so that no answer to it would do, is ended and asked anew.
    """
    question = story.question
    if question and not story.answer:
        since, is_over = "; ".join(question.record.unnamed(over)), question.record.is_over(now)
        if not since and not is_over:
            return question
        if expire(ledger, question, now, "" if is_over else f"since then {since}").record.kind != "expiry":
            return question  # somebody has answered it just now
    until = iso(now + timedelta(seconds=timeout_s))
    number = question.record.number + 1 if question else 1
    new = replace(story.gate.record.naming(over), kind="question", number=number, when=iso(now), expires=until)
    try:
        return ledger.keep(new)
    except BlobExists:
        return _reread(ledger, new).questions[number]


def expire(ledger: Ledger, question: Kept, now: datetime, reason: str = "") -> Kept:
    """Put on record that the question has ended, by default as nobody answered in time; return the answer there is."""
    reason = reason or f"nobody decided until {question.record.expires}"
    record = replace(question.record, kind="expiry", who=GATE, when=iso(now), reason=reason, expires=None)
    try:
        return ledger.keep(record)
    except BlobExists:
        return _reread(ledger, record).answers[record.number]


def answered(ledger: Ledger, story: Story, act: Act, now: datetime) -> Kept:
    """Put a person's answer on record; saying the same again is no second answer.

    Raises:
        UsageError: Nobody is asked.
        AlreadyDecided: Somebody else was first.
        DecisionRefused: It comes too late.
    """
    question = story.question
    if question is None:
        raise UsageError(
            f"run {ledger.run_key[:12]} of {ledger.model} asks nobody",
            found=f"the gate's verdict is {story.gate.record.verdict}",
            next_action="gate.approval in model.toml says when people are asked; `insitu override` overrules a verdict",
        )
    record = replace(question.record, **asdict(act), when=iso(now), expires=None)
    if not story.answer and question.record.is_over(now):
        expire(ledger, question, now)
    try:
        return ledger.keep(record)
    except BlobExists:
        first = _reread(ledger, record).answers[record.number]
    if (first.record.kind, first.record.who) == (act.kind, act.who):
        return first
    if first.record.kind == "expiry":
        raise DecisionRefused(
            f"the answer about run {ledger.run_key[:12]} of {ledger.model} comes too late",
            found=f"{iso(now)}; the question ended at {first.record.when}: {first.record.reason}",
            wanted="an answer within gate.approval_timeout_s",
            next_action=f"start the run again, it asks once more: insitu retrain {ledger.model}",
        )
    raise AlreadyDecided(
        f"run {ledger.run_key[:12]} of {ledger.model} is decided already",
        found=f"{first.record.kind} by {first.record.who} at {first.record.when}: {first.record.reason}",
        next_action=f"see `insitu show {ledger.model} {ledger.run_key[:12]}`; if it awaits approval all the same, it"
        f" has passed a limit since, and asks once more when it is started again: insitu retrain {ledger.model}",
    )


def overridden(
    ledger: Ledger, story: Story, act: Act, expires: datetime, now: datetime, over: Collection[str] = ()
) -> Kept:
    """Put on record that a person publishes what was not promoted, and is *over* these limits now.

    Whoever is second makes the next override.
    """
    act_now = {**asdict(act), "when": iso(now), "expires": iso(expires)}
    while True:
        record = replace(story.gate.record.naming(over), number=max(story.overrides, default=0) + 1, **act_now)
        try:
            return ledger.keep(record)
        except BlobExists:
            story = _reread(ledger, record)


def _reread(ledger: Ledger, record: Record) -> Story:
    """Return the story that has a record where *record* should go."""
    story = ledger.story(record.evidence)
    assert story
    return story
