"""What people are asked about stays, registries are touched where the site says so, and the command tells it all."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from prune_helpers import NOW, RULES, a_site, add_run, key_of, names, prune_all, tree, why

from insitu.decisions import Kind, Record, iso
from insitu.images.client import RegistryImages
from insitu.images.publish import publish_image
from insitu.journal import read_json
from insitu.lineage import finished
from insitu.rulings import ledger_of
from insitu.runs import Run, open_run
from insitu.wiring import Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = a_site(tmp_path / "project")
    for number, days in enumerate((200, 100, 20), start=1):
        add_run(made, number, days)
    return made


def decided(site: Site, number: int, *kinds: Kind, expires: str | None = None) -> None:
    """Put decisions about a run on record."""
    ledger = ledger_of(site, "flights", key_of(number))
    said: Mapping[str, Any] = {
        "number": 1, "model": "flights", "site": site.name, "run_key": key_of(number), "batch": "b", "champion": None,
        "evidence": "sha256:" + "e" * 64, "reasons": (), "settings": {}, "verdict": "inconclusive", "who": "Ann",
        "when": iso(NOW - timedelta(days=150)), "reason": "because",
    }  # fmt: skip
    for kind in ("gate", *kinds):
        ledger.keep(Record(kind=kind, **said, expires=None if kind == "gate" else expires))


SOON, LONG_AGO = iso(NOW + timedelta(days=1)), iso(NOW - timedelta(days=1))


@pytest.mark.parametrize(
    ("kinds", "expires", "reason"),
    [
        (("question",), SOON, "a person is asked about it"),
        (("question", "approval"), SOON, "Ann has approved it, and it is not published yet"),
        (("override",), SOON, "Ann has let it pass, and it is not published yet"),
        (("question",), LONG_AGO, None),
        (("question", "rejection"), SOON, None),
        (("override",), LONG_AGO, None),
        ((), None, None),
    ],
    ids=["asked", "approved", "overridden", "asked too long ago", "rejected", "overridden too long ago", "nobody"],
)
def test_what_waits_for_a_person_or_was_let_pass_stays(
    site: Site, kinds: tuple[Kind, ...], expires: str | None, reason: str | None
) -> None:
    add_run(site, 6, 150, state="NotPromoted", publication=None)
    decided(site, 6, *kinds, expires=expires)
    going, staying = prune_all(site)
    assert why(staying).get(f"run {key_of(6)[:12]}") == ((reason,) if reason else None)
    assert bool(reason) is not any(of == f"run {key_of(6)[:12]}" for of, _ in names(going))


def test_a_run_whose_decisions_nobody_can_trust_stays(site: Site) -> None:
    add_run(site, 6, 150, state="NotPromoted", publication=None)
    decided(site, 6, "question", expires=SOON)
    (site.project / "var/keys/signing.pem").unlink()
    _, staying = prune_all(site)
    assert "it cannot be told whether it is needed" in why(staying)[f"run {key_of(6)[:12]}"][0]


@pytest.mark.registry
@pytest.mark.parametrize("allowed", [False, True])
def test_a_registry_loses_images_only_where_the_site_says_so(tmp_path: Path, registry_host: str, allowed: bool) -> None:
    model = f"pruned-{allowed}".lower()
    site = a_site(tmp_path / "project", registry=registry_host)
    registry = RegistryImages(registry_host, model)
    for number, days in enumerate((200, 100, 20), start=1):
        record = add_run(site, number, days, model=model)
        publish_image(record["image"]["digest"], site.layout(model), registry, (str(number), "latest"))
    rules = RULES.model_copy(update={"registry": allowed})
    going, _ = prune_all(site, rules, do_it=True)
    assert [item.kind for item in going].count("image") == 1 + allowed
    assert list(registry.tags()) == (["2", "3", "latest"] if allowed else ["1", "2", "3", "latest"])
    gone = read_json(site.state, f"runs/{model}/{key_of(1, model)}/record.json")["image"]["digest"]
    assert (registry.resolve(gone) is None) is allowed
    assert len(registry.referrers(record["image"]["digest"])) == 1
    assert list(site.layout(model).tags()) == ["2", "3", "latest"]
    assert prune_all(site, rules, do_it=True)[0] == []


def test_a_run_that_was_pruned_is_done_and_its_record_is_not_written_over(make_run: Callable[[], Run]) -> None:
    run = make_run()
    for state in ("Completed", "NotPromoted"):
        record = {"run_key": run.key, "state": state, "pruned": iso(NOW), "model_version": {"version": "1"}}
        run.journal.keep("record", record)
        assert finished(run) == record
    run.journal.keep("record", record | {"state": "Failed"})
    assert finished(run) is None
    record |= {"state": "Failed", "publication": {"digest": "sha256:1"}}  # in deploying, and then rolled back from
    run.journal.keep("record", record)
    assert finished(run) == record


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[[], Run]:
    def make() -> Run:
        source, root = Path(__file__).parents[2], tmp_path / "other"
        for file in ("deployments/sites/local.toml", "models/flights/model.toml", "data_checks/flights.json"):
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).write_bytes((source / file).read_bytes())
        for month in (1, 2):
            path = root / f"var/blobs/flights/month={month:02d}/flights.parquet"
            path.parent.mkdir(parents=True)
            path.write_bytes(b"flights")
        return open_run(root, "flights", "local")

    return make


def test_the_command_shows_first_and_takes_away_when_told(site: Site) -> None:
    def insitu(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "insitu", "prune", *arguments, "--project", str(site.project)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    before = tree(site.project)
    shown = json.loads(insitu("--keep", "1", "--json").stdout)
    assert tree(site.project) == before
    assert shown["applied"] is False
    assert {(item["of"].partition(",")[0], item["kind"]) for item in shown["going"]} >= {("version 1", "image")}
    assert sum(item["bytes"] for item in shown["going"]) == shown["bytes"] > 0
    done = insitu("flights", "--keep", "1", "--apply")
    assert done.returncode == 0, done.stderr
    assert "went   flights version 1, run" in done.stdout
    assert "freed" in done.stdout
    assert "version 1" not in insitu("--keep", "1").stdout
    assert list(site.layout("flights").tags()) == ["3", "latest"]
    unknown = insitu("departures", "--json")
    assert (unknown.returncode, json.loads(unknown.stdout)["error"]["code"]) == (2, "E-USE")
