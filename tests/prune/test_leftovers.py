"""What no run speaks for goes when it has lain there for long enough, and not before."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path

import pytest
from prune_helpers import NOW, RULES, a_site, add_run, age, key_of, prune_all

from insitu.images.blobs import BlobFolder
from insitu.images.manifest import parts_of
from insitu.journal import write_json
from insitu.leases import Lease, take
from insitu.pruning import prune
from insitu.wiring import Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = a_site(tmp_path / "project")
    for number, days in enumerate((200, 100, 20), start=1):
        add_run(made, number, days)
    return made


def of_kind(site: Site, kind: str, **options: bool) -> list[str]:
    return [Path(item.name).name for item in prune_all(site, **options)[0] if item.kind == kind]


def taken(site: Site, name: str) -> Lease:
    lease = take(site.state, name, "work")
    assert isinstance(lease, Lease)
    return lease


@pytest.mark.parametrize(
    "place", ["var", "var/jobs", "var/images/flights/blobs/sha256", "var/state/runs/flights", "var/scoring/images"]
)
def test_files_of_killed_processes_go_after_a_day(site: Site, place: str) -> None:
    folder = site.project / place
    folder.mkdir(parents=True, exist_ok=True)
    for name, days in ((".staged-old", 2.0), (".staged-new", 0.5), ("other", 200.0)):
        (folder / name).write_bytes(b"x")
        age(folder / name, days)
    assert of_kind(site, "leftover", do_it=True) == [".staged-old"]
    assert {".staged-new", "other"} <= {path.name for path in folder.iterdir()}
    assert not (folder / ".staged-old").exists()


def test_what_is_unpacked_of_images_that_do_not_stay_goes(site: Site) -> None:
    images, work = site.layout("flights"), site.project / "var/scoring"
    stays = set[str]()
    for tag in ("1", "3"):
        found = images.resolve(tag)
        assert found
        layers = {one.digest.replace(":", "-") for one in parts_of(found[1])[1]}
        unpacked = [
            work / "images" / found[0].digest.replace(":", "-"),
            *(work / "unpacked-layers" / x for x in layers),
        ]
        for path in unpacked:
            (path / "usr").mkdir(parents=True, exist_ok=True)
            (path / "usr/file").write_bytes(bytes(100))
            age(path, 2)
        stays = {path.name for path in unpacked}
    assert len(of_kind(site, "unpacked", do_it=True)) == 2  # the image, and the one layer that it had alone
    assert {path.name for folder in ("images", "unpacked-layers") for path in (work / folder).iterdir()} == stays


def test_what_was_unpacked_today_stays(site: Site) -> None:
    folder = site.project / "var/scoring/images" / f"sha256-{'0' * 64}"
    folder.mkdir(parents=True)
    assert of_kind(site, "unpacked") == []
    age(folder, 1.1)
    assert of_kind(site, "unpacked") == [folder.name]


def test_words_of_flow_runs_go_when_these_have_ended_long_ago(site: Site) -> None:
    ended, lives, lately, elsewhere = (f"leases/flow-runs/{name}.json" for name in ("ended", "lives", "lately", "away"))
    for name in (ended, lately):
        taken(site, name).give_back()
    lease = taken(site, lives)
    other = replace(lease.held, holder=replace(lease.held.holder, machine="another", host="another"))
    site.state.create(elsewhere, json.dumps(asdict(other)).encode())
    for name in (ended, lives, elsewhere):
        age(site.project / "var/state" / name, 31)
    age(site.project / "var/state" / lately, 29)
    prune_all(site, do_it=True)
    assert list(site.state.names("leases/flow-runs/")) == [lately, lives]


def test_parcels_that_nothing_names_go_when_no_job_is_under_way(site: Site) -> None:
    of_version, of_job, of_nobody, young = (sha256(text).hexdigest() for text in (b"v", b"j", b"n", b"y"))
    for digest in (of_version, of_job, of_nobody, young):
        site.state.create(f"parcels/{digest}", b"part")
        age(site.project / "var/state/parcels" / digest, 29 if digest == young else 31)
    age(site.project / "var/state/jobs" / key_of(2) / "spec.json", 31)
    write_json(site.state, "versions/flights/3.json", {"run_key": key_of(3), "files": {"MLmodel": [of_version]}})
    write_json(site.state, f"jobs/{key_of(3)}/left.json", {"files": {"model/MLmodel": [of_job]}})
    for end, gone in (("", []), ("left", [of_nobody])):
        write_json(site.state, f"jobs/{key_of(3)}/beat.json", {"owner": "it", "end": end})
        assert of_kind(site, "parcel", do_it=True) == gone
    assert {name.removeprefix("parcels/") for name in site.state.names("parcels/")} == {of_version, of_job, young}


def test_layers_that_no_image_that_stays_has_go_when_nobody_used_them_of_late(site: Site) -> None:
    cache, layout = BlobFolder(site.settings.images.root / ".cache/layers"), site.layout("flights")
    found = layout.resolve("3")
    assert found
    stays = parts_of(found[1])[1][0]
    cache.share(stays, BlobFolder(site.settings.images.root / "flights"))
    old, used = (cache.add(content, "layer") for content in (b"old", b"used"))
    for one, days in ((stays, 200), (old, 31), (used, 29)):
        note = cache.root / f"{one.digest[-8:]}.json"
        note.write_text(json.dumps({"digest": one.digest}))
        age(note, days)
    assert of_kind(site, "kept layer", do_it=True) == [old.digest.removeprefix("sha256:")]
    assert (cache.holds(old), cache.holds(used), cache.holds(stays)) == (False, True, True)
    assert len([*cache.root.glob("*.json")]) == 2


def test_torn_notes_and_layers_that_no_note_names_go_when_they_have_lain_for_long(site: Site) -> None:
    cache = BlobFolder(site.settings.images.root / ".cache/layers")
    paths = [cache.path(cache.add(content, "layer").digest) for content in (b"old", b"lately")]
    torn = [cache.root / f"{name}.json" for name in ("old", "lately")]
    for path, days in zip([*paths, *torn], (31, 29, 31, 29), strict=True):
        if path.suffix:
            path.write_text('{"digest"')
        age(path, days)
    assert of_kind(site, "kept layer", do_it=True) == [torn[0].name, paths[0].name]
    assert [path.exists() for path in (*paths, *torn)] == [False, True, False, True]


def test_a_base_that_the_site_names_no_more_goes_when_it_has_lain_for_long(site: Site) -> None:
    bases = BlobFolder(site.settings.images.root / ".bases")
    old, lately = (bases.add(content, "layer") for content in (b"old", b"lately"))
    age(bases.path(old.digest), 31)
    other = site.project / "deployments/sites/other.toml"
    text = (site.project / "deployments/sites/local.toml").read_text()
    for base, kept in ((f"oci:bases@{old.digest}", True), ("torn", True), (f"oci:bases@{lately.digest}", False)):
        other.write_text(text.replace("[images]", f'[images]\nbase = "{base}"'))
        assert of_kind(site, "kept base") == ([] if kept else [old.digest.removeprefix("sha256:")])
    assert of_kind(site, "kept base", do_it=True) == [old.digest.removeprefix("sha256:")]
    assert (bases.holds(old), bases.holds(lately)) == (False, True)


def test_of_one_model_alone_leftovers_stay(site: Site) -> None:
    path = site.project / "var/.staged-old"
    path.write_bytes(b"x")
    age(path, 2)
    going, _ = prune(site, "flights", RULES, NOW)
    assert "leftover" not in {item.kind for item in going}
