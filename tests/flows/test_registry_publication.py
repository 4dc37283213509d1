"""Publishing to a real registry, seen by an independent tool."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest
from flow_helpers import NOBODY_HOME, NewProject, PublishedRun, audit

pytestmark = [pytest.mark.slow, pytest.mark.registry]


def inspect(reference: str) -> str:
    """Return the digest that skopeo finds under *reference*."""
    if not shutil.which("skopeo"):
        pytest.skip("the Debian package skopeo is not installed")
    command = ["skopeo", "inspect", "--tls-verify=false", f"docker://{reference}"]
    return str(json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["Digest"])


def test_a_run_that_was_published_to_the_layout_is_only_published_again_to_a_registry(
    published: PublishedRun, new_project: NewProject, registry_host: str
) -> None:
    project = new_project("to a registry", like=published.project)
    before = audit(project)
    there = {"INSITU_SITE__REGISTRY": registry_host}
    record = project.retrain("--json", **there).require(0).json
    assert record["publication"]["reference"] == f"{registry_host}/flights:1"
    assert inspect(record["publication"]["reference"]) == record["publication"]["digest"]
    assert inspect(f"{registry_host}/flights:latest") == published.record["image"]["digest"]
    assert record["training"] == published.record["training"]
    assert audit(project) == before

    sent = [entry for entry in record["egress"] if entry["destination"] == f"{registry_host}/flights"]
    layers = {layer["digest"].removeprefix("sha256:") for layer in record["image"]["layers"]}
    assert layers <= {entry["sha256"] for entry in sent}

    again = project.retrain(PREFECT_API_URL=NOBODY_HOME, **there).require(0)
    assert "nothing new" in again.out


def test_a_registry_that_does_not_answer_is_named_and_the_run_goes_on_later(
    published: PublishedRun, new_project: NewProject, registry_host: str
) -> None:
    project = new_project("to a registry that is away", like=published.project)
    done = project.retrain("--json", INSITU_SITE__REGISTRY="127.0.0.1:9").require(1)
    assert "127.0.0.1:9" in done.complaint
    assert done.json["state"] == "Failed"
    record = project.retrain("--json", INSITU_SITE__REGISTRY=registry_host).require(0).json
    assert inspect(record["publication"]["reference"]) == record["publication"]["digest"]
    assert audit(project).versions == ["1"]


def test_a_target_that_is_named_later_gets_the_champion_and_a_rollback_has_nowhere_to_go(
    published: PublishedRun, new_project: NewProject
) -> None:
    project = new_project("to a folder of bundles", like=published.project)
    with (project.root / "models/flights/model.toml").open("a") as file:
        file.write('\n[[deploy]]\nname = "edge"\nkind = "bundle"\nfolder = "var/drop"\n')
    record = project.retrain("--json").require(0).json
    (deployed,) = record["deployment"]
    digest = published.record["publication"]["digest"]
    assert (deployed["name"], deployed["digest"], deployed["was"]) == ("edge", digest, None)
    assert record["training"] == published.record["training"]
    assert json.loads((project.var / "drop/latest.json").read_text())["digest"] == digest
    assert "nothing new" in project.retrain(PREFECT_API_URL=NOBODY_HOME).require(0).out
    assert "no earlier version" in project.run("rollback", "flights").require(2).complaint
