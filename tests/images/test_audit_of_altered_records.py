"""An audit proves nothing by what somebody has altered, taken away or garbled in the site's state."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from attested import KEY, record_of, tiny_image

from insitu.attesting import said_about_residency
from insitu.auditing import audit
from insitu.auditpage import page
from insitu.decisions import Record, digest_of
from insitu.egress import EGRESS, HEAD, SIGNED
from insitu.images.attest import attach_statements
from insitu.images.described import describe
from insitu.images.statements import residency
from insitu.journal import Journal, write_json
from insitu.recorded import SIGNATURE, keep_record
from insitu.residency.account import Account
from insitu.residency.ledger import extended, signed_head
from insitu.rulings import ledger_of
from insitu.settings import load_site
from insitu.wiring import Site, open_site

PROJECT, WHEN, GONE = Path(__file__).parents[2], "2026-11-30T12:00:00+00:00", None
SHORT = {
    "record": "Is the run record as it was written?",
    "list": "Is the list of what left whole?",
    "scan": "Does the model hold records of the data?",
    "waived": "What did a person let leave?",
    "files": "Are the files that left those that were scanned?",
    "job": "Could training send anything by itself?",
    "verdict": "Is the verdict the one that was signed?",
    "image": "Is the published image what its statements say?",
    "use": "May the image still be used?",
    "statement": "Does the residency statement say what is on record?",
    "rows": "How many rows could have left, whatever the encoding?",
}
SCAN: dict[str, Any] = {
    "verdict": "clear", "rows": 10, "rows_looked_for": 10, "rows_found": 0, "cells_found": 0, "bytes_scanned": 99,
    "capacity": {"rows": 2, "of": 10, "share": 0.2, "compressed_bytes": 25, "bits_per_row": 100.0},
}  # fmt: skip
METRICS = {"challenger": {"roc_auc": 0.7}}
TRAINED: dict[str, Any] = {
    "files": {"MLmodel": "a" * 64}, "onnx": {"sha256": sha256(b"model 1").hexdigest()}, "residency": SCAN,
    "network": "none", "metrics": METRICS,
}  # fmt: skip
CLEARED, UNSEEN = "scanned: no record in it", "not scanned"


def sent(what: str, digest: str = "a" * 64) -> dict[str, Any]:
    return {"what": what, "destination": "registry", "bytes": 5, "sha256": digest}


FILE, LAYER = sent("model file MLmodel"), sent("image layer")


@dataclass(frozen=True)
class PastRun:
    """A run that is on record as insitu writes it, and ways to alter that."""

    site: Site
    judged: Record

    @property
    def journal(self) -> Journal:
        return Journal(self.site.state, "tiny", self.judged.run_key)

    def tell(self, **changes: Any) -> None:
        """Let the site have told something else: it signs that, so other evidence has to give it away."""
        keep_record(self.journal, self.site.keys, {**(self.journal.entry("record") or {}), **changes})

    def forge(self, **changes: Any) -> None:
        """Alter the record as somebody does who has no key of the site."""
        self.journal.keep("record", self.journal.entry("record") | changes)

    def train(self, **changes: Any) -> None:
        """Let training have left something else, which the gate has signed."""
        trained = {**TRAINED, **changes}
        self.journal.keep("train", {"seconds": 1.0, "value": trained})
        ledger_of(self.site, "tiny", self.judged.run_key).keep(replace(self.judged, evidence=digest_of(trained)))

    def send(self, *entries: tuple[Mapping[str, Any], str]) -> None:
        """Let these have left, and sign that."""
        ledger: list[Any] = []
        for one, clearance in entries:
            ledger = extended(ledger, one, clearance, WHEN)
        self.journal.keep(EGRESS, ledger)
        self.journal.keep(HEAD, signed_head(ledger, self.judged.run_key, WHEN, self.site.keys.own()))
        self.tell(egress=ledger)

    def remove(self, *names: str) -> None:
        for name in names:
            self.site.state.delete(self.journal.name(name), etag=self.site.state.stat(self.journal.name(name)).etag)

    def forget_decisions(self) -> None:
        shutil.rmtree(self.site.project / "var/state/decisions")

    def found(self) -> dict[str, str]:
        """Return the status of each question; what was found can be printed, too."""
        told = audit(self.site, "tiny", self.judged.run_key)
        assert json.dumps(told.to_json())
        assert page(told)
        names = {question: name for name, question in SHORT.items()}
        return {names[one.question]: one.status for one in told.findings}


def past_run(root: Path, allowed: Record | None = None) -> PastRun:
    (root / "deployments/sites").mkdir(parents=True)
    (root / "models").mkdir()
    shutil.copy(PROJECT / "deployments/sites/local.toml", root / "deployments/sites/local.toml")
    (root / "image.pub").write_bytes(KEY.public.pem)  # the tiny image is signed with a key of its own
    trusting = {"INSITU_SITE__SIGNING__TRUSTED": json.dumps([str(root / "image.pub")])}
    site = open_site(root, load_site(root, "local", trusting))
    run = PastRun(site, record_of())
    image = tiny_image(site.settings.images.root / "tiny", record=allowed)
    run.tell(
        run_key=run.judged.run_key, model="tiny", state="Completed", finished=WHEN, error=None, residency=SCAN,
        validation={"success": True}, decision={"verdict": (allowed or run.judged).verdict},
        training={"network": "none", "metrics": METRICS["challenger"], "backend": "process"},
        batch={"manifest": {"container": "data", "blobs": []}}, model_version={"version": "1"},
        publication={"digest": image.digest},
    )  # fmt: skip
    run.train()
    run.send((FILE, CLEARED), (LAYER, CLEARED))
    run.journal.keep(SIGNED, {"entries": 0, "head": ""})
    said = said_about_residency(run.journal) | {"not_checked": ["what an earlier insitu did not look for"]}
    attach_statements(image.images, image.image, [residency(describe(image.images, image.digest), said)], KEY)
    Account(site.state, "data").take(run.judged.run_key, "tiny", SCAN["capacity"]["rows"])
    return run


BEFORE = dict.fromkeys(("record", "list", "scan", "files", "job", "verdict", "image"), "proved") | {
    "statement": "proved",
    "rows": "estimated",
}
ANOTHER = {"residency": SCAN | {"rows_looked_for": 11}, "training": {"network": "proxy", "metrics": {"roc_auc": 0.7}}}
UNSIGNED = dict.fromkeys(("scan", "files", "job", "verdict"), "open")
GARBLED = dict.fromkeys(("scan", "files", "job", "verdict", "statement"), "broken")


def untrained(run: PastRun) -> None:
    run.forget_decisions()
    run.remove("train")
    run.tell(training=None, residency=None, decision=None, publication=None)


def leaking(run: PastRun) -> None:
    untrained(run)
    run.send()
    run.tell(error={"code": "E-LEAK", "found": "10 rows"}, state="Failed")


def garble_entries(run: PastRun) -> None:
    run.journal.keep(EGRESS, [{"clearance": CLEARED}, *run.journal.entry(EGRESS)])


Alter = Callable[[PastRun], object]
CASES: dict[str, tuple[Alter, dict[str, str | None]]] = {
    "another code": (lambda run: run.forge(code="0" * 64), {"record": "broken"}),
    "an end that it did not have": (lambda run: run.forge(finished="2026-11-30T12:00:01+00:00"), {"record": "broken"}),
    "a rollback that nobody ordered": (lambda run: run.forge(rollback={"to": "1"}), {"record": "broken"}),
    "no signature": (lambda run: run.forge(**{SIGNATURE: None}), {"record": "broken"}),
    "a signature that is none": (lambda run: run.forge(**{SIGNATURE: [1]}), {"record": "broken"}),
    "no signature, and no publication": (
        lambda run: run.forge(**{SIGNATURE: None}, publication=None),
        {"record": "open", "image": "open", "statement": GONE},
    ),
    "its twin of another name": (
        lambda run: write_json(
            run.site.state, "runs/tiny/other/record.json", run.journal.entry("record") | {"finished": "2027"}
        ),
        {"record": "broken"},
    ),
    "another scan and network": (lambda run: run.tell(**ANOTHER), {"scan": "broken", "job": "broken"}),
    "the same of a run that has not ended": (
        lambda run: run.tell(**ANOTHER, state="Unfinished"),
        {"scan": "open", "job": "open"},
    ),
    "no training": (
        lambda run: run.tell(training=None),
        {"scan": "broken", "job": "broken", "verdict": "broken"},
    ),
    "no training of a run that has not ended": (
        lambda run: run.tell(training=None, residency=None, decision=None, publication=None, state="Unfinished"),
        {"scan": "open", "job": "open", "verdict": "open", "image": "open", "statement": GONE, "rows": GONE},
    ),
    "no publication, and a layer left": (
        lambda run: run.tell(publication=None),
        {"image": "open", "statement": GONE},
    ),
    "no publication, and no part of one left": (
        lambda run: (run.send((FILE, CLEARED)), run.tell(publication=None)),
        {"statement": GONE},
    ),
    "no decisions": (lambda run: run.forget_decisions(), UNSIGNED | {"verdict": "broken"}),
    "no verdict": (lambda run: run.tell(decision=None), {"verdict": "broken"}),
    "neither": (lambda run: (run.forget_decisions(), run.tell(decision=None)), UNSIGNED | {"verdict": "broken"}),
    "another training and the record with it": (
        lambda run: run.journal.keep("train", {"value": {**TRAINED, "network": "none", "seconds": 2.0}}),
        UNSIGNED | {"verdict": "broken"},
    ),
    "a file that left before with other bytes": (
        lambda run: run.send((sent("model file MLmodel", "b" * 64), CLEARED), (FILE, CLEARED)),
        {"files": "broken"},
    ),
    "a file that left before unscanned": (lambda run: run.send((FILE, UNSEEN), (FILE, CLEARED)), {"files": "open"}),
    "no ledger": (lambda run: run.remove(EGRESS), {"list": "broken", "files": "open"}),
    "no ledger, nor its end": (
        lambda run: (run.remove(EGRESS, HEAD), run.tell(egress=[], publication=None)),
        {"list": "open", "files": "open", "image": "open", "statement": GONE},
    ),
    "an entry without fields": (garble_entries, {"list": "broken", "files": "open"}),
    "a ledger that is an object": (
        lambda run: run.journal.keep(EGRESS, {"of": 1}),
        {"list": "broken", "files": "open"},
    ),
    "a ledger that is not JSON": (
        lambda run: (run.remove(EGRESS), run.site.state.create(run.journal.name(EGRESS), b"[")),
        {"list": "broken", "files": "open"},
    ),
    "a proxy that nobody knows of where it led": (
        lambda run: (
            run.forget_decisions(),
            run.train(network="proxy", destinations=None),
            run.tell(training={"network": "proxy", "metrics": {"roc_auc": 0.7}, "backend": "process"}),
        ),
        {"job": "broken", "statement": "broken"},
    ),
    "a part of what training left": (
        lambda run: run.journal.keep("train", {"value": {"files": {}}}),
        GARBLED,
    ),
    "nothing in what training left": (lambda run: run.journal.keep("train", {"seconds": 1.0, "value": {}}), GARBLED),
    "a waiver without fields": (
        lambda run: run.tell(residency=SCAN | {"waived": [{}]}),
        {"scan": "broken", "waived": "broken"},
    ),
    "an end that is no time": (lambda run: run.tell(finished="yesterday"), {}),
    "a publication of nothing": (
        lambda run: run.tell(publication={"digest": None}),
        {"image": "broken", "use": "broken", "statement": "broken"},
    ),
    "no account": (
        lambda run: run.site.state.delete("capacity/data.json", etag=run.site.state.stat("capacity/data.json").etag),
        {"rows": "broken"},
    ),
    "an account of no rows": (
        lambda run: write_json(run.site.state, "capacity/data.json", [{"run_key": run.judged.run_key}]),
        {"rows": "broken"},
    ),
    "a leak that left": (
        lambda run: run.tell(error={"code": "E-LEAK", "found": "10 rows"}),
        {"scan": "open"},
    ),
    "a leak that did not leave": (
        leaking,
        {"job": "open", "verdict": GONE, "statement": GONE, "rows": GONE},
    ),
}


def test_a_record_as_it_was_written_is_proved(tmp_path: Path) -> None:
    assert past_run(tmp_path).found() == BEFORE


@pytest.mark.parametrize("case", CASES)
def test_what_was_altered_is_no_proof(tmp_path: Path, case: str) -> None:
    run, (alter, changed) = past_run(tmp_path), CASES[case]
    alter(run)
    wanted = {name: status for name, status in (BEFORE | changed).items() if status is not GONE}
    assert run.found() == wanted


def test_an_override_that_has_ended_is_told_by_its_signature_whatever_the_record_says(tmp_path: Path) -> None:
    overruled = record_of(kind="override", who="ada", verdict="promote", expires=WHEN)
    assert past_run(tmp_path, overruled).found() == BEFORE | {"use": "open"}
