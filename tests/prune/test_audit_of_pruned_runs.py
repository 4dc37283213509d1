"""An audit of a run that was pruned says what is gone, and proves by what stays and by nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from prune_helpers import NOW, a_site, add_run, key_of, prune_all

from insitu.auditing import audit
from insitu.decisions import Record, digest_of
from insitu.egress import EGRESS, HEAD, SIGNED, Door
from insitu.images.transfer import Sent
from insitu.journal import Journal
from insitu.residency.account import Account
from insitu.residency.ledger import head, signed_head
from insitu.rulings import ledger_of
from insitu.wiring import Site

FILE, KEY = "a" * 64, key_of(1)
SCAN: dict[str, Any] = {
    "verdict": "clear", "rows": 10, "rows_looked_for": 10, "rows_found": 0, "cells_found": 0, "bytes_scanned": 99,
    "capacity": {"rows": 2, "of": 10, "share": 0.2, "compressed_bytes": 25, "bits_per_row": 100.0},
}  # fmt: skip
METRICS = {"challenger": {"roc_auc": 0.7}}
TRAINED = {"files": {"MLmodel": FILE}, "residency": SCAN, "network": "none", "metrics": METRICS, "onnx": None}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A run of long ago that left all that an audit looks at, and younger ones; it was pruned."""
    made, when = a_site(tmp_path / "project"), NOW.isoformat(timespec="seconds")
    journal = Journal(made.state, "flights", KEY)
    Door(journal).file(Sent("model file MLmodel", "registry", 5, FILE), SCAN)
    entries = journal.entry(EGRESS)
    told = {
        "egress": entries,
        "training": {"network": "none", "metrics": METRICS["challenger"], "backend": "process"},
        "residency": SCAN,
        "error": None,
        "validation": {"success": True},
        "decision": {"verdict": "promote", "champion": None, "outcome": "Promoted"},
        "batch": {"manifest": {"container": "flights", "blobs": []}},
    }
    for number, days in enumerate((200, 60, 20), start=1):
        add_run(made, number, days, **(told if number == 1 else {}))
    for name in ("waived", "blob-names"):
        remove(made, name)
    journal.keep("train", {"seconds": 1.0, "value": TRAINED})
    journal.keep(EGRESS, entries)
    journal.keep(SIGNED, {"entries": 1, "head": head(entries)})
    journal.keep(HEAD, signed_head(entries, KEY, when, made.keys.own()))
    judged = Record(
        kind="gate", number=1, model="flights", site=made.name, run_key=KEY, batch="b" * 64,
        evidence=digest_of(TRAINED), champion=None, verdict="promote", reasons=(), settings={}, who="insitu", when=when,
    )  # fmt: skip
    ledger_of(made, "flights", KEY).keep(judged)
    Account(made.state, "flights").take(KEY, "flights", SCAN["capacity"]["rows"])
    prune_all(made, do_it=True)
    return made


def remove(site: Site, name: str) -> None:
    name = f"runs/flights/{KEY}/{name}.json"
    site.state.delete(name, etag=site.state.stat(name).etag)


def findings(site: Site) -> dict[str, tuple[str, str]]:
    return {one.question: (one.status, one.found) for one in audit(site, "flights", "1").findings}


def test_what_stays_proves_as_before_and_what_is_gone_is_told(site: Site) -> None:
    found = findings(site)
    status, told = found.pop("What is left of the run?")
    assert status == "open"
    kept, gone = told.split("gone, so nothing here proves it: ")
    assert "what training left, by digests, the ledger of what left, its signed end" in kept
    assert "the model version with its files" in gone
    status, told = found.pop("Is the published image what its statements say?")
    assert status == "open"
    assert "neither it nor its signed statements" in told
    assert found.pop("How many rows could have left, whatever the encoding?")[0] == "estimated"
    assert {status for status, _ in found.values()} == {"proved"}
    assert len(found) == 6  # also the run record: pruned, and signed again


def test_without_what_training_left_the_run_record_alone_proves_nothing(site: Site) -> None:
    remove(site, "train")
    found = findings(site)
    assert "what training left, by digests" in found["What is left of the run?"][1].split("gone,")[1]
    assert found.pop("Is the run record as it was written?")[0] == "proved"
    assert found.pop("Is the list of what left whole?")[0] == "proved"
    assert found.pop("How many rows could have left, whatever the encoding?")[0] == "estimated"
    assert {status for status, _ in found.values()} == {"open"}
    journal = Journal(site.state, "flights", KEY)
    record: dict[str, Any] = {**journal.entry("record")}
    del record["pruned"]
    journal.keep("record", record)  # as if nobody had pruned it: then somebody else took it away
    assert findings(site)["Is the run record as it was written?"][0] == "broken"
    assert not audit(site, "flights", "1").holds
    assert findings(site)["Does the model hold records of the data?"][0] == "broken"


def test_a_ledger_that_is_gone_is_not_called_whole(site: Site) -> None:
    for name in (EGRESS, SIGNED, HEAD):
        remove(site, name)
    assert findings(site)["Is the list of what left whole?"][0] == "broken"
