"""A model that could hold more than it may waits for a person, by the same question as every other model."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from insitu.acts import Act
from insitu.capacity import account_of, note_leaving, note_metrics, over
from insitu.decisions import Story
from insitu.errors import AlreadyDecided, DecisionRefused
from insitu.gate import Decision, Verdict
from insitu.residency.waivers import Scope
from insitu.rulings import answer, ask, judge, lapsed, override, require_allowed, standing_of, story_of
from insitu.runs import Run, open_run
from insitu.settings import SiteGateSettings

CAPACITY = {"rows": 200, "of": 1000, "share": 0.2, "compressed_bytes": 2500, "metric_bits": 350, "bits_per_row": 100.0}
NOW = datetime.now(UTC)
ANN, ALWAYS = Act("approval", "Ann", "the data is public"), {"approval": "always"}


def trained(project: Path, scan: dict[str, Any] | None = None, **limits: float) -> Run:
    """Return a run that has trained a model with room for 200 of 1,000 rows."""
    run = open_run(project, "flights", "local")
    residency = run.model.residency.model_copy(update=limits)
    run = replace(run, model=run.model.model_copy(update={"residency": residency}))
    value = {"residency": {"verdict": "clear", "capacity": CAPACITY} if scan is None else scan}
    run.journal.keep("train", {"seconds": 1.0, "value": value})
    return run


def at_a_site(run: Run, gate: SiteGateSettings) -> Run:
    """Return the run at a site that lets people decide as *gate* says."""
    return replace(run, site=replace(run.site, settings=run.site.settings.model_copy(update={"gate": gate})))


def told(run: Run) -> Story:
    story = story_of(run)
    assert story
    return story


def judged(run: Run, verdict: Verdict = "promote") -> Decision:
    return run.journal.again("gate", Decision, lambda: judge(run, Decision(verdict, ("roc_auc gains",), "3")))


@pytest.fixture
def project(make_project: Callable[..., Path]) -> Path:
    return make_project(1, 2)


def test_without_a_limit_nobody_is_asked(project: Path) -> None:
    assert judged(trained(project)).outcome == "Promoted"


@pytest.mark.parametrize("limits", [{"max_capacity_share": 0.2}, {"budget_share": 0.2}])
def test_within_a_limit_nobody_is_asked(project: Path, limits: dict[str, float]) -> None:
    assert judged(trained(project, **limits)).outcome == "Promoted"


def test_limits_are_no_part_of_the_run_key(project: Path) -> None:
    assert trained(project, max_capacity_share=0.1, budget_share=0.5).key == trained(project).key


@pytest.mark.parametrize("limit", ["max_capacity_share", "budget_share"])
def test_beyond_a_limit_a_person_decides_and_the_first_answer_counts(project: Path, limit: str) -> None:
    run = trained(project, **{limit: 0.1})
    decision = judged(run)
    assert decision.outcome == "AwaitingApproval"
    assert f"residency.{limit} 0.1" in decision.reasons[-1]
    with pytest.raises(DecisionRefused, match="AwaitingApproval"):
        require_allowed(run)
    ask(run)
    answer(run.site, told(run), ANN)
    assert require_allowed(run).record.who == "Ann"


def test_a_model_that_nobody_measured_waits_where_there_is_a_limit(project: Path) -> None:
    assert "nobody measured" in judged(trained(project, scan={}, budget_share=1.0)).reasons[-1]


def test_what_is_rejected_anyway_asks_nobody(project: Path) -> None:
    decision = judged(trained(project, max_capacity_share=0.1), "reject")
    assert decision.outcome == "Rejected"
    assert "residency.max_capacity_share 0.1" in decision.reasons[-1]  # which an override signs


def test_an_approval_that_does_not_name_what_others_left_since_is_asked_for_anew(project: Path) -> None:
    run = trained(project, budget_share=0.5)
    run = replace(run, model=run.model.model_copy(update={"gate": run.model.gate.model_copy(update=ALWAYS)}))
    judged(run)
    ask(run)
    answer(run.site, told(run), ANN)
    assert require_allowed(run).record.who == "Ann"
    account_of(run).take("another run", "another model", 400)
    with pytest.raises(DecisionRefused, match="AwaitingApproval") as refused:
        require_allowed(run)
    assert "since then with what left of flights before, up to 60 % of 1,000 rows" in refused.value.render()
    assert "60 % of 1,000 rows" in ask(run).record.reasons[-1]
    assert require_allowed_after(run, lambda: answer(run.site, told(run), ANN)) == "approval"
    account_of(run).give_back("another run", 340)  # 54 % are fewer than those that she has agreed to
    assert require_allowed(run).record.kind == "approval"
    account_of(run).take(run.key, run.model.name, 200)
    account_of(run).take("a later run", "another model", 400)
    assert require_allowed(run).record.kind == "approval"  # it left before that


def test_a_question_that_does_not_name_what_others_left_since_is_ended_and_put_anew(project: Path) -> None:
    run = trained(project, budget_share=0.5)
    account_of(run).take("another run", "another model", 400)
    judged(run)
    first = ask(run)
    account_of(run).give_back("another run", 340)
    assert ask(run) == first  # whoever agrees to 60 % agrees to 54 %
    account_of(run).take("a third run", "another model", 500)
    second = ask(run)
    assert "104 % of 1,000 rows" in second.record.reasons[-1]
    assert second.record.number == 2
    ended = told(run).answers[1].record
    assert (ended.kind, "since then" in ended.reason) == ("expiry", True)
    assert require_allowed_after(run, lambda: answer(run.site, told(run), ANN)) == "approval"
    with pytest.raises(AlreadyDecided, match="decided already") as late:
        answer(run.site, told(run), replace(ANN, who="Bob"))
    assert "insitu retrain flights" in late.value.render()


@pytest.mark.parametrize("verdict", ["reject", "inconclusive"])
def test_an_override_that_does_not_name_what_others_left_since_counts_no_more(project: Path, verdict: Verdict) -> None:
    run = at_a_site(trained(project, budget_share=0.5), SiteGateSettings(allow_override=True))
    act, until = Act("override", "Ann", "the old one is broken"), NOW + timedelta(days=1)
    judged(run, verdict)
    override(run.site, told(run), act, until)
    assert require_allowed(run).record.who == "Ann"
    account_of(run).take("another run", "another model", 400)
    with pytest.raises(DecisionRefused, match="since then with what left of flights before"):
        require_allowed(run)
    override(run.site, told(run), act, until)  # without what it is over now
    with pytest.raises(DecisionRefused):
        require_allowed(run)
    assert "by Ann does not count any more: since then with what left" in str(lapsed(run))
    assert require_allowed_after(run, lambda: override(run.site, told(run), act, until, over=over(run))) == "override"


def require_allowed_after(run: Run, decide: Callable[[], object]) -> str:
    """Return what allows publishing after a person has decided; it names all that the model is over."""
    decide()
    record = require_allowed(run).record
    assert set(over(run)) <= set(record.reasons)
    return record.kind


def test_what_left_before_counts_and_a_run_counts_once(project: Path) -> None:
    run = trained(project, budget_share=0.5)
    account = account_of(run)
    for _ in range(2):
        note_metrics(run)
        with note_leaving(run):
            pass
    assert [(entry["run_key"], entry["rows"]) for entry in account.entries()] == [(run.key, 200)]
    account.take("another run", "another model", 400)
    assert over(run) == ()  # it left before that
    account.take(run.key, run.model.name, 201)  # and now with more, after it
    value = {"residency": {"verdict": "clear", "capacity": {**CAPACITY, "rows": 201}}}
    run.journal.keep("train", {"seconds": 1.0, "value": value})
    assert "61 % of 1,000 rows could have left" in "".join(over(run))


def test_a_model_that_is_refused_stays_on_the_account_with_its_metrics_alone(project: Path) -> None:
    run = trained(project)
    for body, rows in ((refuse, 4), (lambda: None, 200), (refuse, 200)):  # what left once has left
        with suppress(DecisionRefused), note_leaving(run):
            body()
        assert [entry["rows"] for entry in account_of(run).entries()] == [rows]


def refuse() -> None:
    raise DecisionRefused("not now")


def test_a_waiver_over_so_many_rows_lets_it_go_unasked_and_no_more(project: Path) -> None:
    run = trained(project, max_capacity_share=0.1)
    run = at_a_site(run, SiteGateSettings(allow_waivers=True))
    waivers = run.site.waivers(run.model.name)
    waivers.give(Scope("capacity", most=199), Act("waiver", "Ann", "public"), NOW + timedelta(days=1), NOW)
    assert over(run)
    waivers.give(Scope("capacity", most=200), Act("waiver", "Ann", "public"), NOW + timedelta(days=1), NOW)
    assert over(run) == ()
    judged(run)
    waivers.revoke(2, Act("revocation", "Ann", "no"), NOW)
    stands = standing_of(run)
    assert stands
    assert stands.outcome == "AwaitingApproval"
