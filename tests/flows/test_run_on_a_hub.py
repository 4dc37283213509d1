"""A site whose data and state are blobs of an Azure Stack Hub: Azurite behind a proxy of the hub's service version."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from azurite import Azurite
from flow_helpers import NOBODY_HOME, NewProject, Project
from prefect_server import PrefectServer
from stack_hub import StackHub

from insitu.adapters.azure.blobs import AzureBlobs
from insitu.settings import AzureBlobStore

SITE = """\
[data]
kind = "azure-blob"
account_url = "{url}"
key = {{ env = "HUB_KEY" }}

[state]
kind = "azure-blob"
account_url = "{url}"
key = {{ env = "HUB_KEY" }}
"""

pytestmark = pytest.mark.slow


@pytest.fixture
def state(hub_settings: AzureBlobStore) -> AzureBlobs:
    return AzureBlobs(hub_settings, "insitu-state")


@pytest.fixture
def project(new_project: NewProject, emulator: Azurite, hub: StackHub, hub_settings: AzureBlobStore) -> Project:
    """A project without a blob on this machine: its months and its state are on the hub."""
    made = new_project("on a stack hub")
    for container in ("flights", "insitu-state"):
        emulator.create_container(container)
    blobs, flights = made.var / "blobs" / "flights", AzureBlobs(hub_settings, "flights")
    for path in blobs.rglob("*.parquet"):
        flights.create(path.relative_to(blobs).as_posix(), path.read_bytes())
    shutil.rmtree(made.var / "blobs")
    site = made.root / "deployments" / "sites" / "local.toml"
    before, rest = site.read_text().split("\n[data]\n")
    site.write_text(before + "\n" + SITE.format(url=hub.url) + "\n[models]\n" + rest.split("\n[models]\n")[1])
    return made


def test_a_run_on_the_hub_is_published_and_a_second_finds_nothing_new(
    project: Project, emulator: Azurite, hub: StackHub, server: PrefectServer, state: AzureBlobs
) -> None:
    assert "HUB_KEY" in project.retrain(PREFECT_API_URL=NOBODY_HOME).require(2).complaint
    key = {"HUB_KEY": emulator.key}
    done = project.retrain("--json", **key).require(0)
    record: Any = done.json
    assert record["state"] == "Completed"
    assert record["publication"]["champion"]
    assert f"runs/flights/{record['run_key']}/record.json" in list(state.names("runs/"))
    again = project.retrain(PREFECT_API_URL=NOBODY_HOME, **key).require(0)
    assert "nothing new" in again.out
    assert project.run("history", "flights", "--json", **key).require(0).json == [record | {"marks": ["champion"]}]

    assert set(hub.requests) == {"2019-07-07"}
    assert not (project.var / "blobs").exists()
    assert not (project.var / "state").exists()
    assert list(_holding(project.root, emulator.key)) == []
    assert emulator.key not in done.out + done.err
    assert not server.holds(emulator.key)
    assert [name for name in state.names() if emulator.key.encode() in state.read(name)] == []


def _holding(folder: Path, text: str) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if path.is_file() and text.encode() in path.read_bytes():
            yield path
