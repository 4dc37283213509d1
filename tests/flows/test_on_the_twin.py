"""Whole flows against Azure and a hub, as the twin plays them: nothing leaves, nothing is done twice."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from dockerd import docker_daemon
from flow_helpers import KILLED, NewProject, Project, finish
from loopback import wait_until
from planted import TOKENS
from plants import found
from prefect_server import PrefectServer

from insitu.adapters.azure.blobs import AzureBlobs
from insitu.settings import AzureBlobStore, SecretSource
from insitu.twin.azurite import PROGRAM
from insitu.twin.estate import Backend, Estate
from insitu.twin.faults import Fault
from insitu.twin.hub_blob import make_containers
from insitu.twin.server import running_estate
from insitu.twin.site_file import write_site_file
from insitu.twin.sshd import sshd_program

pytestmark = pytest.mark.slow

NewRehearsal = Callable[..., tuple[Project, Estate]]
JOBS = r"/workspaces/[^/]+/jobs/[^/?]+\?"
MODELS = r"/workspaces/[^/]+/models/[^/]+/versions/[^/?]+\?"


@pytest.fixture
def rehearsal(new_project: NewProject, tmp_path: Path) -> Iterator[NewRehearsal]:
    """Make a project whose months are on the hub of an estate of its own; no planted token may leave that."""
    if not PROGRAM.exists() or sshd_program() is None:
        pytest.skip("Azurite or sshd are not installed: tests/system-parts.sh does that")
    estates = []

    def make(name: str, backend: Backend) -> tuple[Project, Estate]:
        running = running_estate(tmp_path / "twin", backend=backend, in_memory=True)
        estates.append(running)
        estate, project = running.__enter__(), new_project(name)
        make_containers(estate)
        write_site_file(estate, project.root)
        _move_to_hub(project, estate)
        return project, estate

    yield make
    for running in estates:
        running.__exit__(None, None, None)
    assert found(tmp_path / "twin", TOKENS) == {}


def _move_to_hub(project: Project, estate: Estate) -> None:
    """Put the project's months on the hub, as an operator does, past every log."""
    account = estate.names.hub_account
    store = AzureBlobs(
        AzureBlobStore(
            kind="azure-blob", account_url=estate.storage().url(account),
            key=SecretSource(file=estate.account_key(account)),
        ), "flights",
    )  # fmt: skip
    for path in (project.var / "blobs" / "flights").rglob("*.parquet"):
        store.create(path.relative_to(project.var / "blobs" / "flights").as_posix(), path.read_bytes())
    store.create("bell\x07", b"x")  # breaks every listing that comes across it


def _asked(estate: Estate, method: str, pattern: str) -> list[str]:
    """Return the paths of requests to public hosts."""
    return [
        line.path for line in estate.journal.lines("public") if line.method == method and re.search(pattern, line.path)
    ]


def _made(estate: Estate, pattern: str) -> set[str]:
    """Return the different things that were to be made."""
    return {path.partition("?")[0] for path in _asked(estate, "PUT", pattern)}


@pytest.mark.parametrize("backend", ["attached-vm", "kubernetes"])
def test_a_run_is_published_and_no_row_and_no_secret_leaves(
    rehearsal: NewRehearsal, server: PrefectServer, backend: Backend
) -> None:
    project, estate = rehearsal(f"twin {backend}", backend)
    planted = set(pq.read_table(project.blob(1), columns=["tailnum"])["tailnum"].drop_null().to_pylist())
    assert len(planted) > 100

    done = project.retrain("--site", "twin", "--json").require(0)

    record: Any = done.json
    assert (record["state"], record["training"]["backend"]) == ("Completed", backend)
    assert record["publication"]["reference"] == f"{estate.names.registry_host}/flights:1"
    assert len(_made(estate, JOBS)) == len(_made(estate, MODELS)) == 1
    assert list(estate.journal.lines("unknown")) == []
    sent = b"".join(file.read_bytes() for file in estate.journal.bodies.iterdir())
    assert len(sent) > 100_000
    words = set(re.findall(rb"N\d{3,5}[A-Z]{0,2}", sent))
    assert not {word for word in words if word.decode() in planted}
    secrets = [file.read_text() for file in (estate.folder / "secrets").iterdir()]
    for secret in secrets:
        assert secret.encode() not in sent
        assert secret not in done.out + done.err
        assert not server.holds(secret)

    estate.journal.clear()
    assert "nothing new" in project.retrain("--site", "twin").require(0).out
    assert _asked(estate, "PUT", ".") == []


def test_answers_that_are_lost_after_the_work_make_nothing_twice(rehearsal: NewRehearsal) -> None:
    project, estate = rehearsal("twin of lost answers", "attached-vm")
    for kind, path in (
        ("drop", JOBS),
        ("status:503", MODELS),
        ("drop", r"/v2/flights/blobs/uploads"),
        ("status:503", r"/v2/flights/manifests/"),
    ):
        estate.faults.add(Fault(kind, path=path, method="P*", when="after"))

    record: Any = project.retrain("--site", "twin", "--json").require(0).json

    assert estate.faults.to_json()["faults"] == []
    assert record["state"] == "Completed"
    assert len(_made(estate, JOBS)) == len(_made(estate, MODELS)) == 1
    assert record["model_version"]["version"] == "1"


def test_a_run_whose_process_was_killed_attaches_to_the_job_that_goes_on(rehearsal: NewRehearsal) -> None:
    project, estate = rehearsal("twin of a killed run", "attached-vm")
    started = project.start("retrain", "flights", "--site", "twin")
    wait_until(lambda: _asked(estate, "PUT", JOBS), 120, "the submission of the job")
    os.killpg(started.pid, signal.SIGKILL)
    finish(started).require(KILLED)

    record: Any = project.retrain("--site", "twin", "--json").require(0).json

    assert record["state"] == "Completed"
    assert len(_made(estate, JOBS)) == 1


@pytest.mark.docker
def test_a_run_trains_in_a_container_and_is_recorded_in_the_workspace(
    rehearsal: NewRehearsal, tmp_path_factory: pytest.TempPathFactory
) -> None:
    project, estate = rehearsal("twin of containers", "docker")
    with docker_daemon(tmp_path_factory.mktemp("docker")) as docker:  # a short path, for its sockets' sake
        host = {"INSITU_SITE__TRAINING__HOST": docker.address}
        record: Any = project.retrain("--site", "twin", "--json", **host).require(0).json

    assert (record["state"], record["training"]["backend"]) == ("Completed", "docker")
    assert record["training"]["network"] == "proxy"
    assert record["training"]["destinations"]["refused"] == {}
    assert _made(estate, JOBS) == set()
    assert len(_made(estate, MODELS)) == 1
    assert {line.kind for line in estate.journal.lines("public")} >= {"run history", "model", "image manifest"}
