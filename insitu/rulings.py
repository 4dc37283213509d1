"""What is decided about a run: the gate's verdict put on record, people asked, and publishing allowed or refused."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

from insitu.acts import Act, answered, asked, expire, judged, overridden
from insitu.capacity import over
from insitu.decisions import GATE, Kept, Ledger, Record, Standing, Story, digest_of, iso, standing
from insitu.errors import BlobNotFound, DecisionRefused, RunUnderWay, UsageError
from insitu.gate import PUBLISHED, Decision
from insitu.journal import Journal
from insitu.leases import only_run
from insitu.recorded import RECORD, change_record
from insitu.runs import Run
from insitu.wiring import Site


def ledger_of(site: Site, model: str, run_key: str) -> Ledger:
    """Return the decisions about one run at *site*."""
    return Ledger(site.state, site.keys, site.name, model, run_key)


def story_of(run: Run) -> Story | None:
    """Return what was decided about what the run has trained; None before that; raise `SignatureRefused`."""
    trained = run.journal.entry("train")
    if trained is None:
        return None
    return ledger_of(run.site, run.model.name, run.key).story(digest_of(trained["value"]))


def judge(run: Run, decision: Decision) -> Decision:
    """Put the gate's verdict over what the run has trained on record, once; return it with what became of it.

    Raises:
        DecisionRefused: Another verdict about the same evidence is on record.
        SignatureRefused: A record is not what a trusted key has signed, or is about something else.
    """
    record = Record(
        kind="gate",
        number=1,
        model=run.model.name,
        site=run.site.name,
        run_key=run.key,
        batch=run.batch.fingerprint,
        evidence=digest_of(run.journal.entry("train")["value"]),
        champion=decision.champion,
        verdict=decision.verdict,
        reasons=(*decision.reasons, *over(run)),  # also of what only an override could publish: that signs them
        settings=run.model.model_dump(mode="json", include={"gate", "limits"}),
        who=GATE,
        when=iso(datetime.now(UTC)),
    )
    judged(ledger_of(run.site, run.model.name, run.key), record)
    stands = standing_of(run)
    assert stands
    return settled(decision, stands)


def standing_of(run: Run, now: datetime | None = None) -> Standing | None:
    """Return what holds now of what was decided about the run; None before the gate; raise `SignatureRefused`."""
    story = story_of(run)
    if story is None:
        return None
    overrides = run.site.settings.gate.allow_override
    return standing(story, run.model.gate.approval, overrides, now or datetime.now(UTC), over(run))


def ask(run: Run) -> Kept:
    """Return the question that a person is to answer about the run, put now unless it is open."""
    story = story_of(run)
    assert story, "the gate has judged"
    ledger = ledger_of(run.site, run.model.name, run.key)
    return asked(ledger, story, run.model.gate.approval_timeout_s, datetime.now(UTC), over(run))


def close_question(run: Run, question: Kept) -> Kept:
    """Put on record that the question's time is up, unless somebody has answered; return the answer there is."""
    return expire(ledger_of(run.site, run.model.name, run.key), question, datetime.now(UTC))


def answer(site: Site, story: Story, act: Act, now: datetime | None = None) -> Kept:
    """Put a person's answer to the newest question on record; return the record.

    Raises:
        UsageError: Nobody is asked.
        AlreadyDecided: Somebody else was first.
        DecisionRefused: It comes too late, or the site does not let this person decide.
    """
    require_approver(site, act.who)
    about = story.gate.record
    return answered(ledger_of(site, about.model, about.run_key), story, act, now or datetime.now(UTC))


def override(
    site: Site, story: Story, act: Act, expires: datetime, now: datetime | None = None, over: Collection[str] = ()
) -> Kept:
    """Put on record that a person publishes what was not promoted, *over* limits that it names; return the record.

    Raises:
        UsageError: It would expire at once.
        DecisionRefused: The site does not allow it, or there is nothing to overrule.
    """
    moment, about = now or datetime.now(UTC), story.gate.record
    if not site.settings.gate.allow_override:
        raise DecisionRefused(
            f"site {site.name} does not let people overrule the gate",
            wanted=f"allow_override = true below [gate] in deployments/sites/{site.name}.toml",
            next_action="ask whoever owns the site; or wait for a model that the gate promotes",
        )
    require_approver(site, act.who)
    if expires <= moment:
        raise UsageError("the override would expire before it counts", found=iso(expires))
    stands = standing(story, about.settings["gate"]["approval"], allow_override=False, now=moment, over=over)
    if stands.outcome not in ("Rejected", "Inconclusive", "Expired"):
        waits = stands.outcome == "AwaitingApproval"
        raise DecisionRefused(
            f"run {about.run_key[:12]} of {about.model} needs no override",
            found=stands.outcome,
            wanted="a run that the gate or a person did not let pass",
            next_action=f"insitu approve {about.model} {about.run_key[:12]}" if waits else None,
        )
    return overridden(ledger_of(site, about.model, about.run_key), story, act, expires, moment, over)


def lapsed(run: Run) -> str | None:
    """Return why the newest override of the run does not count any more; None where it does, or there is none."""
    story = story_of(run)
    if story is None or story.override is None:
        return None
    record = story.override.record
    why = [f"since then {one}" for one in record.unnamed(over(run))]
    if record.is_over(datetime.now(UTC)):
        why = [f"it ended at {record.expires}"]
    elif not run.site.settings.gate.allow_override:
        why = [f"site {run.site.name} does not let people overrule the gate"]
    return f"the override by {record.who} does not count any more: {'; '.join(why)}" if why else None


def require_approver(site: Site, who: str) -> None:
    """Raise `DecisionRefused` unless the site lets *who* decide."""
    allowed = site.settings.gate.approvers
    if allowed and who not in allowed:
        raise DecisionRefused(
            f"site {site.name} does not let {who!a} decide",
            wanted=f"one of {', '.join(allowed)} (approvers below [gate] in deployments/sites/{site.name}.toml)",
        )


def settled(decision: Decision, stands: Standing) -> Decision:
    """Return *decision* with what became of it, and with the reasons that are on record of that."""
    basis = stands.basis
    approval = None if basis.record.kind in ("gate", "question") else basis.told()
    return replace(decision, reasons=basis.record.reasons, outcome=stands.outcome, approval=approval)


def require_allowed(run: Run) -> Kept:
    """Return the record that allows publishing what the run has trained.

    Raises:
        DecisionRefused: There is none, or what is on record does not allow it.
        SignatureRefused: A record is not what a trusted key has signed, or is about something else.
    """
    stands = standing_of(run)
    if stands is None:
        raise DecisionRefused(
            f"run {run.key[:12]} may not be published: no decision about it is on record",
            wanted=f"a signed record in decisions/{run.model.name}/{run.key}/ of the site's state",
            next_action="start the run again: the gate judges what is there",
        )
    if stands.outcome not in PUBLISHED:
        unnamed = stands.basis.record.unnamed(over(run))
        raise DecisionRefused(
            f"run {run.key[:12]} may not be published: it is {stands.outcome}",
            found=f"{stands.basis.record.kind} by {stands.basis.record.who} at {stands.basis.record.when}"
            + "".join(f"; since then {one}" for one in unnamed),
            wanted="a verdict, approval or override that allows it, now",
            next_action=f"see `insitu show {run.model.name} {run.key[:12]}`",
        )
    if stands.basis.record.kind != "gate":
        require_approver(run.site, stands.basis.record.who)  # as the site says now, wherever it was put on record
    return stands.basis


def note_outcome(site: Site, model: str, run_key: str, stands: Standing) -> None:
    """Let the record of a run that has ended tell what people have decided since; of one under way it will itself."""
    journal = Journal(site.state, model, run_key)
    with suppress(RunUnderWay, BlobNotFound), only_run(site.state, model, run_key):
        record: Mapping[str, Any] | None = journal.entry(RECORD)
        said = record and record["state"] == "NotPromoted" and record["decision"]
        if record and said and said["verdict"] == stands.basis.record.verdict:  # else the image was beyond a limit
            decision = settled(Decision(**_known(said)), stands)
            change_record(journal, site.keys, record, decision=asdict(decision))


def _known(decision: Mapping[str, Any]) -> dict[str, Any]:
    return {name: decision[name] for name in Decision.__dataclass_fields__ if name in decision}
