"""Decisions on record: who decides what, when it counts, who was first, and what is not believed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier

import pytest

from insitu.acts import Act, answered, asked, expire, judged, overridden
from insitu.adapters.local.blobs import FolderBlobs
from insitu.decisions import PAYLOAD_TYPE, Ledger, Record, digest_of, standing
from insitu.errors import AlreadyDecided, DecisionRefused, SignatureRefused, StateDamaged, UsageError
from insitu.gate import Verdict
from insitu.signing import Keys, SigningKey, sign

NOW = datetime(2030, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
EVIDENCE = digest_of({"rows": 100})
OTHER_EVIDENCE = digest_of({"rows": 101})
YES, NO = Act("approval", "Ann", "checked"), Act("rejection", "Bob", "too few flights")
PUBLISH = Act("override", "Cem", "the old one is worse")


def new_key() -> SigningKey:
    key = SigningKey.from_pem(SigningKey.new_pem().encode())
    assert key
    return key


KEY = new_key()


def keys(own: SigningKey = KEY) -> Keys:
    return Keys(own=lambda: own, trusted=lambda: [KEY.public])


def verdict_of(verdict: Verdict, evidence: str = EVIDENCE) -> Record:
    return Record(
        kind="gate",
        number=1,
        model="flights",
        site="local",
        run_key="a" * 64,
        batch="b" * 64,
        evidence=evidence,
        champion="3",
        verdict=verdict,
        reasons=("roc_auc gains",),
        settings={"gate": {"approval": "always"}},
        who="insitu",
        when=NOW.isoformat(),
    )


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(FolderBlobs(tmp_path), keys(), "local", "flights", "a" * 64)


@pytest.fixture
def asking(ledger: Ledger) -> Ledger:
    """A run that is in doubt, and asks for an hour."""
    judged(ledger, verdict_of("inconclusive"))
    asked(ledger, story(ledger), 3600, NOW)
    return ledger


def story(ledger: Ledger, evidence: str = EVIDENCE):  # type: ignore[no-untyped-def]
    found = ledger.story(evidence)
    assert found
    return found


def outcome(ledger: Ledger, approval: str = "inconclusive", now: datetime = NOW, *, overrides: bool = True) -> str:
    return standing(story(ledger), approval, overrides, now).outcome


@pytest.mark.parametrize(
    ("verdict", "approval", "wanted"),
    [
        ("promote", "never", "Promoted"),
        ("promote", "inconclusive", "Promoted"),
        ("promote", "always", "AwaitingApproval"),
        ("inconclusive", "never", "Inconclusive"),
        ("inconclusive", "inconclusive", "AwaitingApproval"),
        ("inconclusive", "always", "AwaitingApproval"),
        ("reject", "never", "Rejected"),
        ("reject", "inconclusive", "Rejected"),
        ("reject", "always", "Rejected"),
    ],
)
def test_people_are_asked_where_the_model_says_so(ledger: Ledger, verdict: Verdict, approval: str, wanted: str) -> None:
    judged(ledger, verdict_of(verdict))
    assert outcome(ledger, approval) == wanted


def test_a_verdict_is_put_on_record_once_and_another_one_over_the_same_evidence_is_refused(ledger: Ledger) -> None:
    first = judged(ledger, verdict_of("reject"))
    assert judged(ledger, replace(verdict_of("reject"), when=(NOW + HOUR).isoformat())) == first
    with pytest.raises(DecisionRefused, match="another verdict"):
        judged(ledger, verdict_of("promote"))
    assert outcome(ledger) == "Rejected"


def test_an_approval_and_a_rejection_settle_it(asking: Ledger) -> None:
    assert outcome(asking) == "AwaitingApproval"
    kept = answered(asking, story(asking), YES, NOW)
    assert outcome(asking) == "Approved"
    assert kept.told() | {"record": "", "digest": ""} == {
        "kind": "approval", "who": "Ann", "when": NOW.isoformat(), "reason": "checked", "expires": None,
        "record": "", "digest": "",
    }  # fmt: skip


def test_a_rejection_stands_when_nobody_would_be_asked_any_more(ledger: Ledger) -> None:
    judged(ledger, verdict_of("promote"))
    asked(ledger, story(ledger), 3600, NOW)
    answered(ledger, story(ledger), NO, NOW)
    assert [outcome(ledger, approval) for approval in ("always", "never")] == ["Rejected", "Rejected"]


def test_the_same_person_may_say_the_same_again_and_another_is_told_who_was_first(asking: Ledger) -> None:
    first = answered(asking, story(asking), YES, NOW)
    assert answered(asking, story(asking), replace(YES, reason="again"), NOW + HOUR) == first
    for act in (NO, replace(NO, who="Ann"), replace(YES, who="Bob")):
        with pytest.raises(AlreadyDecided) as refused:
            answered(asking, story(asking), act, NOW)
        assert "approval by Ann at 2030-01-01T00:00:00+00:00: checked" in refused.value.render()
    assert outcome(asking) == "Approved"


def test_of_many_at_once_exactly_one_decides(asking: Ledger) -> None:
    people = [Act("approval" if i % 2 else "rejection", f"person {i}", "now") for i in range(12)]
    start, told = Barrier(len(people)), story(asking)

    def answer(act: Act) -> str:
        start.wait()
        try:
            return answered(asking, told, act, NOW).record.who
        except AlreadyDecided as refused:
            return str(re.findall(r"by (person \d+) at", refused.render())[0])

    with ThreadPoolExecutor(len(people)) as pool:
        winners = set(pool.map(answer, people))
    assert winners == {story(asking).answer.record.who}


def test_at_the_last_moment_either_the_answer_or_the_end_counts_for_everybody(asking: Ledger) -> None:
    told, start = story(asking), Barrier(2)

    def end() -> str:
        start.wait()
        return expire(asking, told.question, NOW + HOUR).record.kind

    def answer() -> str:
        start.wait()
        try:
            return answered(asking, told, YES, NOW + HOUR - timedelta(seconds=1)).record.kind
        except DecisionRefused:
            return "expiry"

    with ThreadPoolExecutor(2) as pool:
        kinds = {one.result() for one in [pool.submit(end), pool.submit(answer)]}
    assert kinds == {story(asking).answer.record.kind}


def test_an_answer_that_comes_too_late_is_refused_and_the_next_start_asks_again(asking: Ledger) -> None:
    late = NOW + HOUR
    assert outcome(asking, now=late) == "Expired"  # before anybody has put it on record, too
    with pytest.raises(DecisionRefused, match="too late") as refused:
        answered(asking, story(asking), YES, late)
    assert "insitu retrain flights" in refused.value.render()
    assert (story(asking).answer.record.kind, outcome(asking)) == ("expiry", "Expired")
    again = asked(asking, story(asking), 60, late)
    assert (again.record.number, again.record.expires) == (2, "2030-01-01T01:01:00+00:00")
    assert asked(asking, story(asking), 999, late) == again
    answered(asking, story(asking), YES, late)
    assert outcome(asking) == "Approved"


def test_starting_again_after_the_end_puts_the_end_on_record_and_asks_again(asking: Ledger) -> None:
    asked(asking, story(asking), 60, NOW + HOUR)
    assert {n: kept.record.kind for n, kept in story(asking).answers.items()} == {1: "expiry"}
    assert outcome(asking, now=NOW + HOUR) == "AwaitingApproval"


def test_nobody_answers_what_was_not_asked(ledger: Ledger) -> None:
    judged(ledger, verdict_of("reject"))
    with pytest.raises(UsageError, match="asks nobody"):
        answered(ledger, story(ledger), YES, NOW)


def test_an_override_counts_until_it_expires_and_where_the_site_allows_it(ledger: Ledger) -> None:
    judged(ledger, verdict_of("reject"))
    overridden(ledger, story(ledger), PUBLISH, NOW + HOUR, NOW)
    assert outcome(ledger) == "Overridden"
    assert outcome(ledger, overrides=False) == "Rejected"
    assert outcome(ledger, now=NOW + HOUR) == "Rejected"
    second = overridden(ledger, story(ledger), PUBLISH, NOW + 3 * HOUR, NOW + HOUR)
    assert (second.record.number, outcome(ledger, now=NOW + HOUR)) == (2, "Overridden")


def test_overrides_at_once_are_all_kept(ledger: Ledger) -> None:
    judged(ledger, verdict_of("reject"))
    told = story(ledger)
    with ThreadPoolExecutor(6) as pool:
        numbers = pool.map(lambda _: overridden(ledger, told, PUBLISH, NOW + HOUR, NOW).record.number, range(6))
    assert sorted(numbers) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("who", "reason"), [("", "r"), (" ", "r"), ("Ann", ""), ("Ann", "\x1b[2J"), ("A\nB", "r"), ("A" * 101, "r")]
)
def test_a_name_and_a_reason_are_words_that_can_be_read(who: str, reason: str) -> None:
    with pytest.raises(UsageError, match="for the record"):
        Act("approval", who, reason)


def test_a_model_that_was_trained_anew_is_judged_and_approved_anew(asking: Ledger) -> None:
    answered(asking, story(asking), YES, NOW)
    judged(asking, replace(verdict_of("inconclusive", OTHER_EVIDENCE), when=(NOW + HOUR).isoformat()))
    newest = asking.newest()
    assert newest
    assert newest.gate.record.evidence == OTHER_EVIDENCE
    assert standing(newest, "inconclusive", True, NOW).outcome == "AwaitingApproval"


def test_the_same_decision_has_the_same_statement_whenever_and_on_whatever_bytes_it_was_made() -> None:
    one = verdict_of("promote")
    assert replace(one, when="2031-01-01T00:00:00+00:00", evidence=OTHER_EVIDENCE).statement == one.statement
    others = [replace(one, who="Ann"), replace(one, verdict="reject"), replace(one, run_key="c" * 64)]
    assert one.statement not in {other.statement for other in others}


def test_there_is_nothing_before_the_gate_has_judged(ledger: Ledger) -> None:
    assert ledger.story(EVIDENCE) is None
    assert ledger.newest() is None


def path(ledger: Ledger, name: str) -> Path:
    assert isinstance(ledger.state, FolderBlobs)
    return ledger.state.root / ledger.folder / EVIDENCE.removeprefix("sha256:") / name


def altered(ledger: Ledger) -> None:
    file = path(ledger, "gate.json")
    parts = json.loads(file.read_text())
    file.write_text(json.dumps(parts | {"payload": parts["payload"][:-8] + "AAAAAAA="}))


def forged(ledger: Ledger) -> None:
    """Somebody who can write the state, and has no key of the site, approves."""
    stranger = replace(ledger, keys=keys(new_key()))
    stranger.keep(replace(story(ledger).question.record, kind="approval", who="Ann", expires=None))


def unsigned(ledger: Ledger) -> None:
    envelope = json.loads(path(ledger, "gate.json").read_text())
    path(ledger, "answer-1.json").write_text(json.dumps(envelope | {"signatures": []}))


def of_another_run(ledger: Ledger) -> None:
    other = replace(ledger, run_key="c" * 64)
    kept = other.keep(replace(story(ledger).question.record, kind="approval", run_key="c" * 64))
    path(ledger, "answer-1.json").write_bytes(other.state.read(kept.name))


def of_other_evidence(ledger: Ledger) -> None:
    kept = ledger.keep(replace(story(ledger).question.record, kind="approval", evidence=OTHER_EVIDENCE))
    path(ledger, "answer-1.json").write_bytes(ledger.state.read(kept.name))


def renamed(ledger: Ledger) -> None:
    path(ledger, "override-1.json").write_bytes(path(ledger, "question-1.json").read_bytes())


def no_decision(ledger: Ledger) -> None:
    path(ledger, "answer-1.json").write_bytes(sign(PAYLOAD_TYPE, b'{"kind": "approval"}', KEY))


@pytest.mark.parametrize("tamper", [altered, forged, unsigned, of_another_run, of_other_evidence, renamed, no_decision])
def test_what_was_tampered_with_is_not_believed(asking: Ledger, tamper: Callable[[Ledger], None]) -> None:
    tamper(asking)
    with pytest.raises(SignatureRefused, match="in the site's state"):
        asking.story(EVIDENCE)


def test_an_approval_without_the_verdict_that_it_is_about_is_damage(asking: Ledger) -> None:
    path(asking, "gate.json").unlink()
    with pytest.raises(StateDamaged, match=r"gate\.json is gone"):
        asking.story(EVIDENCE)
