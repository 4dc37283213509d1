"""What nothing needs goes, what somebody needs stays, and a prune that is killed is gone on with."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prune_helpers import (
    NOW,
    RULES,
    FolderModels,
    a_site,
    add_run,
    age,
    key_of,
    names,
    prune_all,
    require_sound,
    tree,
    why,
)

from insitu.acts import Act
from insitu.adapters.local.images import LayoutImages
from insitu.errors import UsageError
from insitu.journal import read_json, write_json
from insitu.leases import alone_with, of_model, only_run, take
from insitu.lineage import Records
from insitu.pruning import prune
from insitu.rollback import roll_back
from insitu.wiring import Site
from insitu.withdrawals import Rollback

EVERYTHING = {"image", "model version", "job folder", "state"}
KEPT = {
    f"{name}.json" for name in ("record", "train", "waived", "blob-names", "egress", "egress-signed", "egress-head")
}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Five versions, the newest of which is the champion; the last two and what is young would stay anyway."""
    made = a_site(tmp_path / "project")
    for number, days in enumerate((200, 150, 100, 60, 20), start=1):
        add_run(made, number, days)
    return made


def layout(site: Site) -> LayoutImages:
    images = site.layout("flights")
    assert isinstance(images, LayoutImages)
    return images


def test_without_saying_so_nothing_is_changed(site: Site) -> None:
    before = tree(site.project)
    going, staying = prune_all(site)
    assert names(going) == {(f"version {n}", kind) for n in (1, 2, 3) for kind in EVERYTHING}
    assert all(item.size_bytes > 0 for item in going)
    assert set(why(staying)) == {"4", "5"}
    assert tree(site.project) == before


def test_what_nothing_needs_goes_and_its_record_stays_and_says_so(site: Site) -> None:
    foreseen, _ = prune_all(site)
    done, _ = prune_all(site, do_it=True)
    assert [item.to_json() for item in done] == [item.to_json() for item in foreseen]
    images = layout(site)
    assert list(images.tags()) == ["4", "5", "latest"]
    require_sound(images)
    blobs = {path.name for path in (images.root / "blobs/sha256").iterdir()}
    assert len(blobs) == 3 + 2 * (1 + 1 + 1 + 2) + 1  # shared layers; layer, config, manifest, attestation; its config
    assert [one.version for one in site.models.versions("flights")] == ["4", "5"]
    for number in range(1, 6):
        key, gone = key_of(number), number < 4
        left = {name.rpartition("/")[2] for name in site.state.names(f"runs/flights/{key}/")}
        assert (left == KEPT) is gone
        assert (site.project / "var/jobs" / key).exists() is not gone
        assert (site.project / f"var/reports/flights/{key}.html").exists() is not gone  # it shows values
        assert bool(list(site.state.names(f"jobs/{key}"))) is not gone
        assert ("pruned" in read_json(site.state, f"runs/flights/{key}/record.json")) is gone
    assert len(Records(site.state).of_model("flights")) == 5
    assert prune_all(site, do_it=True)[0] == []


def test_blobs_that_what_stays_needs_are_not_counted_as_freed(site: Site) -> None:
    going, _ = prune_all(site)
    before = sum(path.stat().st_size for path in (layout(site).root / "blobs/sha256").iterdir())
    prune_all(site, do_it=True)
    after = sum(path.stat().st_size for path in (layout(site).root / "blobs/sha256").iterdir())
    said = sum(item.size_bytes for item in going if item.kind == "image")
    assert 0 < said <= before - after < said + 3 * 2000  # manifests and attestations are small


def foreign_tag(site: Site) -> str:
    images = layout(site)
    found = images.resolve("1")
    assert found
    images.tag("production", *found)
    return "tag production"


def shadow_alias(site: Site) -> str:
    FolderModels(site.project / "var/versions").set_alias("flights", "shadow", "1")
    return "alias shadow"


def deployment(site: Site) -> str:
    found = layout(site).resolve("1")
    assert found
    write_json(site.state, "deployments/flights/edge.json", {"digest": found[0].digest, "history": []})
    return "deployed to edge"


def champion(site: Site) -> str:
    FolderModels(site.project / "var/versions").set_alias("flights", "champion", "1")
    return "alias champion"


def way_back(site: Site) -> str:
    FolderModels(site.project / "var/versions").set_alias("flights", "champion", "2")
    return "`insitu rollback` would go back to it"


def under_way(site: Site) -> str:
    take(site.state, of_model("flights"), key_of(1))
    return "under way"


def ordered(site: Site) -> str:
    found = layout(site).resolve("1")
    assert found
    when = NOW.isoformat(timespec="seconds")
    order = Rollback(1, "flights", site.name, "5", "1", found[0].digest, "Ann", "the newer ones are worse", when)
    site.withdrawals("flights").give(order)
    return "a rollback to it is under way"


@pytest.mark.parametrize("use", [foreign_tag, shadow_alias, deployment, champion, way_back, under_way, ordered])
def test_what_is_in_use_stays_and_is_told_why(site: Site, use: Callable[[Site], str]) -> None:
    reason = use(site)
    going, staying = prune_all(site)
    assert reason in why(staying)["1"]
    assert {of for of, _ in names(going)} >= {"version 3"}
    assert "version 1" not in {of for of, _ in names(going)}


def test_the_newest_versions_and_young_runs_stay(site: Site) -> None:
    rules = RULES.model_copy(update={"keep_versions": 3, "keep_days": 160})
    _, staying = prune_all(site, rules)
    assert set(why(staying)) == {"2", "3", "4", "5"}
    assert why(staying)["2"] == ("150 days old",)
    assert "one of the 3 newest versions" in why(staying)["3"]


def test_a_run_that_published_nothing_goes_when_it_is_old(site: Site) -> None:
    for number, days in ((6, 90), (7, 5)):
        add_run(site, number, days, state="NotPromoted", publication=None, decision={"outcome": "Rejected"})
    going, staying = prune_all(site)
    old, young = f"run {key_of(6)[:12]}", f"run {key_of(7)[:12]}"
    assert {kind for of, kind in names(going) if of == old} == EVERYTHING
    assert "5 days old" in why(staying)[young]


def test_a_run_that_was_killed_before_its_record_goes_when_it_is_old(site: Site) -> None:
    name = f"runs/flights/{key_of(9)}/snapshot.json"
    write_json(site.state, name, {})
    age(site.project / "var/state" / name, 90)
    prune_all(site, do_it=True)
    assert list(site.state.names(f"runs/flights/{key_of(9)}/")) == []


def _pruned_apart(site: Site, variable: str, value: str) -> int | None:
    """Prune in a process of its own; return how it ended."""

    def work() -> None:
        os.environ[variable] = value
        prune_all(site, do_it=True)
        os._exit(0)  # not through what this process's threads have registered for its own end

    process = get_context("fork").Process(target=work)
    process.start()
    process.join()
    return process.exitcode


def test_killed_anywhere_it_leaves_no_broken_tag_and_the_next_one_does_the_rest(tmp_path: Path) -> None:
    def made(name: str) -> Site:
        site = a_site(tmp_path / name)
        for number, days in enumerate((200, 100, 60, 20), start=1):
            add_run(site, number, days)
        return site

    whole = made("whole")
    assert _pruned_apart(whole, "INSITU_CRASH_LOG", str(tmp_path / "points")) == 0
    points = sorted(set((tmp_path / "points").read_text().splitlines()))
    assert len(points) == 8
    for point in points:
        killed = made(point.replace(":", " "))
        assert _pruned_apart(killed, "INSITU_CRASH_AT", point) == -signal.SIGKILL
        require_sound(layout(killed))
        prune_all(killed, do_it=True)
        assert set(tree(killed.project)) == set(tree(whole.project)), point
        assert prune_all(killed)[0] == []


def test_a_run_that_starts_meanwhile_waits_for_the_prune(site: Site) -> None:
    order, threads = list[str](), list[threading.Thread]()

    def start() -> None:
        with only_run(site.state, "flights", "a run that starts"):
            order.append("run")

    def removed(_: object) -> None:
        if not threads:
            threads.append(threading.Thread(target=start))
            threads[0].start()
        order.append("removed")

    going, _ = prune_all(site, do_it=True, on_removed=removed)
    threads[0].join(timeout=60)
    assert order == ["removed"] * len(going) + ["run"]


def test_a_rollback_that_starts_meanwhile_waits_for_the_prune(site: Site) -> None:
    order, threads = list[str](), list[threading.Thread]()

    def start() -> None:
        with alone_with(site.state, "champions/flights"):
            order.append("rollback")

    def removed(_: object) -> None:
        if not threads:
            threads.append(threading.Thread(target=start))
            threads[0].start()
        order.append("removed")

    going, _ = prune_all(site, do_it=True, on_removed=removed)
    threads[0].join(timeout=60)
    assert order == ["removed"] * len(going) + ["rollback"]


def test_a_model_that_is_being_trained_stays_as_it_is_and_the_others_do_not(site: Site) -> None:
    for number, days in enumerate((200, 150, 100, 1), start=1):
        add_run(site, number, days, model="arrivals")
    before = tree(site.project)
    with only_run(site.state, "flights", key_of(99)):
        going, staying = prune_all(site, do_it=True)
    assert {item.model for item in going} == {"arrivals"}
    (busy,) = [stay for stay in staying if stay.model == "flights"]
    assert "is under way" in busy.why[0]
    after = tree(site.project)
    assert {name: data for name, data in after.items() if "arrivals" not in name and key_of(1, "arrivals") not in name}
    assert [name for name in before if "flights/" in name and after.get(name) != before[name]] == []


def test_one_model_alone_is_pruned(site: Site) -> None:
    for number, days in enumerate((200, 150, 100), start=1):
        add_run(site, number, days, model="arrivals")
    going, _ = prune(site, "arrivals", RULES, NOW)
    assert {item.model for item in going} == {"arrivals"}
    with pytest.raises(UsageError, match="departures has no runs"):
        prune(site, "departures", RULES, NOW)


def test_what_somebody_writes_meanwhile_is_not_deleted(site: Site) -> None:
    name = f"runs/flights/{key_of(1)}/report.json"
    going, _ = prune_all(site)
    write_json(site.state, name, {"other": 1})
    for item in going:
        item.remove()
    assert name in site.state.names(f"runs/flights/{key_of(1)}/")
    assert f"runs/flights/{key_of(1)}/snapshot.json" not in site.state.names(f"runs/flights/{key_of(1)}/")


def test_a_version_that_was_pruned_is_no_way_back(site: Site) -> None:
    prune_all(site, do_it=True)
    flights: Any = SimpleNamespace(name="flights")
    with pytest.raises(UsageError, match="no published version 1"):
        roll_back(site, flights, "1", Act("rollback", "Ann", "the newer ones are worse"))
    assert site.withdrawals("flights").orders() == []


def test_records_go_only_where_the_site_says_so_and_after_the_rest(site: Site) -> None:
    rules = RULES.model_copy(update={"keep_records_days": 120})
    for left in (KEPT, set()):
        prune_all(site, rules, do_it=True)
        found = {name.rpartition("/")[2] for name in site.state.names(f"runs/flights/{key_of(1)}/")}
        assert found == left
    assert len(Records(site.state).of_model("flights")) == 3
