"""No path publishes without a decision on record: forged, altered, missing and expired ones send nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from insitu.acts import Act
from insitu.decisions import Story
from insitu.errors import DecisionRefused, InsituError, SignatureRefused, TrainingFailed
from insitu.files import file_digests
from insitu.gate import Decision, Verdict
from insitu.lineage import close, finished
from insitu.planning.plan import readiness_of
from insitu.ports import ModelVersion
from insitu.release import BuiltImage, publish_model, require_what_was_judged
from insitu.rulings import answer, ask, judge, override, require_allowed, standing_of, story_of
from insitu.runs import Run, open_run
from insitu.settings import SiteGateSettings
from insitu.training import Trained

ANN, BOB = Act("approval", "Ann", "checked"), Act("rejection", "Bob", "no")
CEM = Act("override", "Cem", "the old one is worse")
TRAINED: dict[str, Any] = {"seconds": 1.0, "value": {"rows": 100, "metrics": {"challenger": {}}}}
SOON = datetime.now(UTC) + timedelta(days=1)


def judged(project: Path, verdict: Verdict, **gate: Any) -> Run:
    """Return a run that has trained and was judged, where people decide as *gate* says."""
    run = open_run(project, "flights", "local")
    run = replace(run, model=run.model.model_copy(update={"gate": run.model.gate.model_copy(update=gate)}))
    run.journal.keep("train", TRAINED)
    run.journal.again("gate", Decision, lambda: judge(run, Decision(verdict, ("roc_auc gains",), "3")))
    return run


def where(run: Run, **gate: Any) -> Run:
    """Return the run at a site that lets people decide as *gate* says."""
    settings = run.site.settings.model_copy(update={"gate": SiteGateSettings(**gate)})
    return replace(run, site=replace(run.site, settings=settings))


@pytest.fixture
def project(make_project: Callable[..., Path]) -> Path:
    return make_project(1, 2)


@pytest.fixture
def run(project: Path) -> Run:
    return judged(project, "promote")


def told(run: Run) -> Story:
    story = story_of(run)
    assert story
    return story


def refusal(run: Run, statement: str | None = None) -> InsituError:
    """Return why publishing is refused; nothing has gone anywhere."""
    label = statement if statement is not None else told(run).gate.record.statement
    image = BuiltImage("sha256:" + "0" * 64, 1, (), "onnx", 0.0, decision=label)
    decided, version = Decision("promote", ("forged",), "3", outcome="Promoted"), ModelVersion("flights", "4", "uri")
    with pytest.raises((DecisionRefused, SignatureRefused)) as refused:
        publish_model(run, decided, version, image, lambda _: None)
    assert run.journal.entry("egress") is None
    assert not (run.site.project / "var" / "images").exists()
    assert not (run.site.project / "var" / "mlflow").exists()
    return refused.value


def decisions(run: Run) -> Path:
    return run.site.project / "var" / "state" / "decisions"


def test_a_promoted_model_is_allowed_by_the_verdict_on_record(run: Run) -> None:
    assert require_allowed(run).record.verdict == "promote"


@pytest.mark.parametrize("name", ["model/MLmodel", "model/more.pkl", "model/.rows", "model.onnx"])
def test_files_that_are_not_those_that_were_judged_are_not_released(run: Run, name: str) -> None:
    output = run.site.jobs.output("job") / "output"
    (output / "model").mkdir(parents=True)
    for file in ("model/MLmodel", "model.onnx"):
        (output / file).write_text(file)
    digest = sha256(b"model.onnx").hexdigest()
    trained = Trained(
        job="job", backend="process", seconds=1.0, champion=None, rows=100, metrics={}, difference=None, curves={},
        onnx={"usable": True, "sha256": digest}, claimed={}, files=file_digests(output / "model"), peak_memory_bytes=1,
    )  # fmt: skip
    require_what_was_judged(run, trained)
    (output / name).write_text("another")
    with pytest.raises(TrainingFailed, match="not those that were judged") as refused:
        require_what_was_judged(run, trained)
    assert Path(name).name in str(refused.value.found)


def test_a_missing_record_publishes_nothing(run: Run) -> None:
    label = told(run).gate.record.statement
    shutil.rmtree(decisions(run))
    assert "no decision about it is on record" in refusal(run, label).what


def test_an_altered_record_publishes_nothing(project: Path) -> None:
    run = judged(project, "reject")
    label = told(run).gate.record.statement
    (file,) = decisions(run).rglob("gate.json")
    envelope = json.loads(file.read_text())
    payload = envelope["payload"]
    file.write_text(json.dumps(envelope | {"payload": payload[:40] + "AAAA" + payload[44:]}))
    assert isinstance(refusal(run, label), SignatureRefused)


def test_a_record_by_a_key_that_the_site_does_not_know_publishes_nothing(run: Run) -> None:
    label = told(run).gate.record.statement
    (run.site.project / "var" / "keys" / "signing.pem").unlink()
    refused = refusal(run, label)
    assert isinstance(refused, SignatureRefused)
    assert "signing.trusted" in refused.render()


def test_a_journal_that_was_changed_to_promote_publishes_nothing(project: Path) -> None:
    run = judged(project, "reject")
    run.journal.keep("gate", {"seconds": 0, "value": {"verdict": "promote", "reasons": [], "outcome": "Promoted"}})
    assert "it is Rejected" in refusal(run).what


def test_a_record_about_other_evidence_publishes_nothing(run: Run) -> None:
    label = told(run).gate.record.statement
    anew = {**TRAINED["value"], "rows": 101}
    run.journal.keep("train", {"seconds": 1.0, "value": anew})  # and not judged
    assert "no decision about it is on record" in refusal(run, label).what


def test_an_image_that_names_another_decision_is_not_published(run: Run) -> None:
    assert "labelled with another decision" in refusal(run, "sha256:" + "1" * 64).what


@pytest.mark.parametrize(("verdict", "approval"), [("promote", "always"), ("inconclusive", "inconclusive")])
def test_what_awaits_approval_is_published_after_it_and_not_before(
    project: Path, verdict: Verdict, approval: str
) -> None:
    run = judged(project, verdict, approval=approval)
    assert "it is AwaitingApproval" in refusal(run).what
    ask(run)
    assert "it is AwaitingApproval" in refusal(run).what
    kept = answer(run.site, told(run), ANN)
    assert require_allowed(run) == kept


def test_what_a_person_rejects_is_not_published(project: Path) -> None:
    run = judged(project, "promote", approval="always")
    ask(run)
    answer(run.site, told(run), BOB)
    assert "it is Rejected" in refusal(run).what


def test_only_those_whom_the_site_names_decide(project: Path) -> None:
    run = where(judged(project, "promote", approval="always"), approvers=["Bob"])
    ask(run)
    with pytest.raises(DecisionRefused, match="does not let 'Ann' decide"):
        answer(run.site, told(run), ANN)
    assert answer(run.site, told(run), replace(ANN, who="Bob")).record.who == "Bob"
    assert require_allowed(run).record.who == "Bob"
    assert "does not let 'Bob' decide" in refusal(where(run, approvers=["Cem"])).what  # not any more


@pytest.mark.parametrize("verdict", ["reject", "inconclusive"])
def test_an_override_publishes_until_it_expires(project: Path, verdict: Verdict) -> None:
    run = where(judged(project, verdict), allow_override=True)
    kept = override(run.site, told(run), CEM, SOON)
    assert require_allowed(run) == kept
    after = standing_of(run, now=SOON)
    assert after
    assert after.outcome in ("Rejected", "Inconclusive")


def test_an_override_is_refused_where_the_site_does_not_allow_it_now(project: Path) -> None:
    run = judged(project, "reject")
    with pytest.raises(DecisionRefused, match="does not let people overrule") as refused:
        override(run.site, told(run), CEM, SOON)
    assert "allow_override = true" in refused.value.render()
    override(where(run, allow_override=True).site, told(run), CEM, SOON)
    assert "it is Rejected" in refusal(run).what


def test_an_override_is_for_what_did_not_pass_and_for_times_to_come(project: Path) -> None:
    run = where(judged(project, "promote", approval="always"), allow_override=True)
    with pytest.raises(DecisionRefused, match="needs no override") as refused:
        override(run.site, told(run), CEM, SOON)
    assert "insitu approve flights" in refused.value.render()
    with pytest.raises(InsituError, match="expire before it counts"):
        override(run.site, told(run), CEM, datetime.now(UTC))


def test_an_expired_override_sends_nothing(project: Path) -> None:
    run = where(judged(project, "reject"), allow_override=True)
    past = datetime.now(UTC) - timedelta(hours=2)
    override(run.site, told(run), CEM, past + timedelta(hours=1), now=past)
    assert "it is Rejected" in refusal(run).what


def test_a_finished_run_is_left_alone_unless_people_have_something_to_say(project: Path) -> None:
    run = where(judged(project, "reject"), allow_override=True)
    close(run, "NotPromoted")
    assert finished(run)
    override(run.site, told(run), CEM, SOON)
    assert finished(run) is None


def test_a_run_that_awaits_approval_is_not_finished(project: Path) -> None:
    run = judged(project, "promote", approval="always")
    ask(run)
    close(run, "NotPromoted")
    assert finished(run) is None
    answer(run.site, told(run), BOB)
    assert finished(run)


def test_a_key_that_cannot_be_read_is_named_before_anything_is_trained(run: Run) -> None:
    assert all(check.name != "signing key" for check in readiness_of(run))
    (run.site.project / "var" / "keys" / "signing.pem").write_text("no key")
    (check,) = [check for check in readiness_of(run) if check.name == "signing key"]
    assert not check.ok
    assert "signing.pem" in check.found


def test_who_is_asked_is_no_part_of_the_run_key(project: Path) -> None:
    keys = {judged(project, "promote", approval=approval).key for approval in ("never", "always")}
    assert len(keys) == 1
