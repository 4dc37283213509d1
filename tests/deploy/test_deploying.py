"""Each version that becomes champion goes to the targets of model.toml, by digest; a rollback takes it from there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from deploy_helpers import Estate

from insitu.deployments import deployed
from insitu.errors import BackendUnavailable, SettingsError
from insitu.lineage import finished
from insitu.residency.ledger import require_whole
from insitu.runs import open_run

TARGETS = """
[[deploy]]
name = "edge"
kind = "bundle"
folder = "var/drop"

[[deploy]]
name = "line-1"
kind = "kubernetes"
file = "var/line-1.yaml"
namespace = "models"
pull_secret = "registry"
"""
AWAY = """
[[deploy]]
name = "away"
kind = "docker"
host = "unix:///nobody/listens/here.sock"
"""
REGISTRY = "registry.example:5000"


@pytest.fixture
def registered(registry_host: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A registry that the site publishes to."""
    monkeypatch.setenv("INSITU_SITE__REGISTRY", registry_host)
    return registry_host


def pointer(estate: Estate) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((estate.root / "var/drop/latest.json").read_text())
    assert (estate.root / "var/drop" / found["bundle"]).stat().st_size == found["size_bytes"]
    return found


def manifest(estate: Estate) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((estate.root / "var/line-1.yaml").read_text()))


def state(estate: Estate, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((estate.root / f"var/state/deployments/flights/{name}.json").read_text())
    return found


def next_deployed(estate: Estate, month: int) -> str:
    estate.arrive(month)
    run = estate.judged()
    digest = estate.release(run).digest
    estate.deploy(run)
    return digest


def test_every_target_is_given_the_champion_by_digest_and_a_rollback_takes_it_back(
    estate: Estate, registered: str
) -> None:
    estate.configure(TARGETS)
    third, fourth = next_deployed(estate, 4), next_deployed(estate, 5)
    site = open_run(estate.root, "flights", "local").site
    assert deployed(site, "flights") == {"edge": fourth, "line-1": fourth}
    assert state(estate, "edge")["history"][0]["digest"] == third
    image = f"{registered}/flights@{fourth}"
    assert manifest(estate)[0]["spec"]["template"]["spec"]["containers"][0]["image"] == image
    assert pointer(estate)["digest"] == fourth
    left = [one["destination"] for one in estate.insitu("show", "flights")["egress"] if "deployment" in one["what"]]
    assert left == [str(estate.root / "var/drop/latest.json"), str(estate.root / "var/line-1.yaml")]

    told = estate.insitu("rollback", "flights")
    assert (told["was"], told["to"], told["left"]) == ("4", "3", {})
    assert [(one["name"], one["digest"], one["was"]) for one in told["deployment"]] == [
        ("edge", third, fourth),
        ("line-1", third, fourth),
    ]
    assert deployed(site, "flights") == {"edge": third, "line-1": third}
    assert manifest(estate)[0]["spec"]["template"]["spec"]["containers"][0]["image"].endswith(third)
    assert pointer(estate)["version"] == "3"
    # The run that was rolled back, started again: it is not the champion, and is deployed nowhere.
    assert finished(open_run(estate.root, "flights", "local"))
    assert estate.deploy(open_run(estate.root, "flights", "local")) == []
    assert deployed(site, "flights") == {"edge": third, "line-1": third}


def test_pods_are_locked_in_and_replaced_only_when_ready(estate: Estate, registered: str) -> None:
    estate.configure(TARGETS)
    next_deployed(estate, 4)
    deployment, service = manifest(estate)
    spec, pod = deployment["spec"], deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert container["readinessProbe"]["httpGet"] == {"path": "/ready", "port": "http"}
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["resources"]["limits"] == {"memory": "1024M"}
    assert (pod["securityContext"]["runAsNonRoot"], pod["securityContext"]["runAsUser"]) == (True, 10001)
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    assert service["spec"]["selector"] == spec["selector"]["matchLabels"]
    assert spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()
    assert registered


def test_a_target_that_fails_keeps_none_of_the_others_and_the_next_start_goes_on(
    estate: Estate, registered: str
) -> None:
    estate.configure(AWAY + TARGETS)
    estate.arrive(4)
    run = estate.judged()
    digest = estate.release(run).digest
    with pytest.raises(BackendUnavailable, match="version 3 of flights is not deployed to away"):
        estate.deploy(run)
    assert deployed(run.site, "flights") == {"edge": digest, "line-1": digest}
    assert (estate.champion, run.site.registry("flights").resolve("latest")[0].digest) == ("3", digest)  # type: ignore[index]

    mended = (estate.root / "models/flights/model.toml").read_text().replace(AWAY, "")
    (estate.root / "models/flights/model.toml").write_text(mended)
    again = estate.deploy(open_run(estate.root, "flights", "local"))
    assert [(one.name, one.was) for one in again] == [("edge", digest), ("line-1", digest)]  # nothing was to be done
    assert registered


def test_a_rollback_goes_on_where_a_target_was_away(estate: Estate, registered: str) -> None:
    estate.configure(TARGETS)
    third = next_deployed(estate, 4)
    next_deployed(estate, 5)
    file = estate.root / "var/line-1.yaml"
    file.unlink()
    file.mkdir()  # it cannot be written
    failed = estate.insitu("rollback", "flights", exit_code=1)
    assert "line-1" in failed["error"]["what"]
    assert (estate.champion, pointer(estate)["digest"]) == ("3", third)
    file.rmdir()
    told = estate.insitu("rollback", "flights")
    assert (told["was"], told["to"], told["order"]) == ("4", "3", "rollbacks/flights/1.json")
    assert manifest(estate)[0]["metadata"]["annotations"]["insitu.io/digest"] == third
    assert registered


def test_what_only_people_let_pass_is_left_where_nobody_was_asked(estate: Estate) -> None:
    careful = TARGETS.partition('[[deploy]]\nname = "line-1"')[0].replace("kind =", 'when = "approved"\nkind =')
    estate.configure(careful)
    estate.arrive(4)
    run = estate.judged()
    estate.release(run)
    assert estate.deploy(run) == []
    assert not (estate.root / "var/drop").exists()


def test_a_target_that_was_named_later_is_work_for_the_run_that_made_the_champion(estate: Estate) -> None:
    assert finished(open_run(estate.root, "flights", "local"))
    estate.configure(TARGETS.partition('[[deploy]]\nname = "line-1"')[0])
    run = open_run(estate.root, "flights", "local")
    assert finished(run) is None
    estate.deploy(run)
    assert finished(run)


def test_a_folder_keeps_the_bundle_before_and_no_more(estate: Estate) -> None:
    estate.configure(TARGETS.partition('[[deploy]]\nname = "line-1"')[0])
    for month in (4, 5, 6):
        next_deployed(estate, month)
    bundles = sorted(path.name.rsplit("-", 1)[0] for path in (estate.root / "var/drop").glob("*.bundle"))
    assert bundles == ["flights-4", "flights-5"]
    assert pointer(estate)["version"] == "5"


def test_a_bundle_that_is_written_again_leaves_the_one_before(estate: Estate) -> None:
    estate.configure(TARGETS.partition('[[deploy]]\nname = "line-1"')[0])
    next_deployed(estate, 4)
    next_deployed(estate, 5)
    (estate.root / "var/drop" / pointer(estate)["bundle"]).unlink()  # somebody has moved it away instead of copying it
    run = open_run(estate.root, "flights", "local")
    estate.deploy(run)
    assert len(list((estate.root / "var/drop").glob("*.bundle"))) == 2
    assert (estate.root / "var/drop" / pointer(estate)["before"]).is_file()


def test_a_target_wants_what_it_stands_on(estate: Estate) -> None:
    estate.configure(TARGETS + '\n[[deploy]]\nname = "cloud"\nkind = "azure-ml-endpoint"\nendpoint = "flights"\n')
    with pytest.raises(SettingsError) as refused:
        open_run(estate.root, "flights", "local")
    assert "registry" in refused.value.render()
    assert "[azure]" in refused.value.render()
    assert Path(estate.root, "models/flights/model.toml").is_file()


def test_the_doctor_asks_every_target(estate: Estate) -> None:
    estate.configure(AWAY + TARGETS.partition('[[deploy]]\nname = "line-1"')[0])
    told = {one["name"]: one for one in estate.insitu("doctor", exit_code=1)["checks"]}
    assert told["target edge of flights"]["found"] == "runs no image of it yet"
    assert not told["target away of flights"]["ok"]
    assert "host of [[deploy]]" in told["target away of flights"]["next_action"]


def test_a_bundle_that_is_carried_away_is_in_the_ledger(estate: Estate, tmp_path: Path) -> None:
    file = tmp_path / "two.bundle"
    estate.insitu("bundle", "export", "flights", "2", "-o", str(file))
    key = estate.insitu("show", "flights", "2")["run_key"]
    entries = json.loads((estate.root / "var/state/runs/flights" / key / "egress.json").read_text())
    require_whole(entries)
    assert (entries[-1]["what"], entries[-1]["destination"]) == ("bundle", str(file))
