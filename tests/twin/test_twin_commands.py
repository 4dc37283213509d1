"""`insitu twin` as people use it: a process of its own, its settings, its log, its end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from doc_blocks import REPO
from loopback import listens, wait_until

from insitu.settings import load_site
from insitu.twin.azurite import PROGRAM
from insitu.twin.process import find
from insitu.twin.sshd import sshd_program

needs_parts = pytest.mark.skipif(
    not (PROGRAM.exists() and sshd_program() and shutil.which("docker-registry")),
    reason="Azurite, sshd or docker-registry are not installed: tests/system-parts.sh does that",
)


def _insitu(project: Path, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("insitu")), "twin", *words, "--project", str(project)]
    return subprocess.run(command, env={**os.environ, **environ}, capture_output=True, text=True, check=False)


def _new_project(folder: Path) -> Path:
    for name in ("models", "deployments/sites"):
        (folder / name).mkdir(parents=True)
    return folder


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project, in a path with spaces, whose twin may run."""
    folder = _new_project(tmp_path_factory.mktemp("twin of a project") / "p")
    yield folder
    _insitu(folder, "down")


@pytest.fixture
def told(project: Path) -> dict[str, Any]:
    """What `up` says of the twin that runs."""
    up = _insitu(project, "up", "--detach", "--json")
    assert up.returncode == 0, up.stderr
    value: dict[str, Any] = json.loads(up.stdout)
    return value


@needs_parts
def test_up_writes_a_site_that_loads_and_that_is_production_s_but_for_the_network(
    project: Path, told: dict[str, Any]
) -> None:
    site = load_site(project, "twin", os.environ)

    assert site.network.proxy == told["proxy"]
    assert site.hub is not None
    assert site.hub.arm == "https://management.north.hub.example"
    assert site.registry == "insitutwin.azurecr.io"
    assert site.training.kind == told["backend"] == "attached-vm"
    text = (project / told["settings"]).read_text()
    secrets = list((project / "var/twin/secrets").iterdir())
    assert secrets
    assert not [file for file in secrets if file.read_text() in text]
    assert {file.stat().st_mode & 0o077 for file in secrets} == {0}


@needs_parts
def test_up_again_is_the_same_twin_and_another_kind_is_refused(project: Path, told: dict[str, Any]) -> None:
    assert json.loads(_insitu(project, "up", "--detach", "--json").stdout) == told

    other = _insitu(project, "up", "--detach", "--backend", "docker")
    assert (other.returncode, "insitu twin down" in other.stderr) == (2, True)


@needs_parts
@pytest.mark.usefixtures("told")
def test_faults_are_added_shown_and_cleared(project: Path) -> None:
    assert "no faults" in _insitu(project, "fault", "clear").stdout
    added = _insitu(
        project, "fault", "add", "status:429:7", "--host", "*.azurecr.io", "--when", "after", "--times", "2"
    )
    assert added.returncode == 0, added.stderr
    assert "condition  queue-stuck" in _insitu(project, "fault", "set", "queue-stuck").stdout

    status = json.loads(_insitu(project, "status", "--json").stdout)
    assert status["conditions"] == ["queue-stuck"]
    (fault,) = status["faults"]
    assert (fault["kind"], fault["host"], fault["when"], fault["times"]) == ("status:429:7", "*.azurecr.io", "after", 2)

    assert "queue-stuck" not in _insitu(project, "fault", "clear", "queue-stuck").stdout
    wrong = _insitu(project, "fault", "add", "explode")
    assert (wrong.returncode, "silence" in wrong.stderr) == (2, True)
    assert "no faults" in _insitu(project, "fault", "clear").stdout


@needs_parts
@pytest.mark.usefixtures("told")
def test_data_of_a_model_of_ones_own_is_put_on_the_hub_once(project: Path) -> None:
    shutil.copy(REPO / "deployments/sites/local.toml", project / "deployments/sites")
    shutil.copytree(REPO / "models/flights", project / "models/rides")
    settings = project / "models/rides/model.toml"
    settings.write_text(settings.read_text().replace('container = "flights"', 'container = "rides"'))
    for name in ("month=1/flights.parquet", "month=1/notes.txt"):
        blob = project / "var/blobs/rides" / name
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(b"rows")

    put = _insitu(project, "put", "rides")
    assert (put.returncode, put.stdout.splitlines()[0]) == (0, "put month=1/flights.parquet"), put.stderr
    assert "insitu retrain rides --site twin" in put.stdout
    assert json.loads(_insitu(project, "put", "rides", "--json").stdout) == {"blobs": []}
    assert _insitu(project, "put", "ride").returncode == 2


@needs_parts
def test_the_log_tells_what_went_where(project: Path, told: dict[str, Any]) -> None:
    with pytest.raises(requests.exceptions.ProxyError):
        requests.get("https://elsewhere.example/x", proxies={"https": told["proxy"]}, timeout=10)
    requests.get(
        "https://login.microsoftonline.com/common/discovery/instance",
        proxies={"https": told["proxy"]}, verify=str(project / "var/twin/ca.pem"), timeout=10,
    )  # fmt: skip

    egress = _insitu(project, "log", "--egress").stdout
    assert "elsewhere.example:443 (refused)" in egress
    assert "hub.example" not in egress
    assert "hub.example" in _insitu(project, "log").stdout  # the example data went there
    assert "GET login.microsoftonline.com/common/discovery" in _insitu(project, "log", "--egress", "--lines").stdout
    lines = json.loads(_insitu(project, "log", "--egress", "--json").stdout)
    assert {line["kind"] for line in lines} == {"refused", "sign-in"}
    assert _insitu(project, "log", "--clear").returncode == 0
    assert json.loads(_insitu(project, "log", "--json").stdout) == []


@needs_parts
def test_a_twin_that_is_killed_leaves_nothing_running_and_goes_on_where_it_was(
    project: Path, told: dict[str, Any]
) -> None:
    site = load_site(project, "twin", os.environ)
    login = site.compute.model_dump()["ssh"]
    os.kill(told["pid"], signal.SIGKILL)
    wait_until(lambda: not listens(login["port"]), what="the end of sshd")
    assert find(project / "var" / "twin") is None
    assert _insitu(project, "status").returncode == 1

    again = _insitu(project, "up", "--detach", "--json")
    assert again.returncode == 0, again.stderr
    after = load_site(project, "twin", os.environ).compute.model_dump()["ssh"]
    assert after["host_key"] == login["host_key"]
    months = [line for line in _hub_lines(project) if line["method"] == "PUT"]
    assert months == []  # the blobs were still there
    down = _insitu(project, "down")
    assert "is down" in down.stdout
    assert "no twin" in _insitu(project, "down").stdout
    assert not listens(int(json.loads(again.stdout)["proxy"].rpartition(":")[2]))


@needs_parts
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_a_twin_in_the_foreground_ends_with_its_command(tmp_path: Path, end: signal.Signals) -> None:
    project = _new_project(tmp_path / "p")
    command = [str(Path(sys.executable).with_name("insitu")), "twin", "up", "--project", str(project)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as foreground:
        assert foreground.stdout
        assert "the twin is ready" in foreground.stdout.readline()
        run = find(project / "var" / "twin")
        assert run
        foreground.send_signal(end)
        assert foreground.wait(60) == 0
    assert not listens(run.port)


def _hub_lines(project: Path) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = json.loads(_insitu(project, "log", "--json").stdout)
    return [line for line in lines if line["side"] == "hub"]


def test_what_is_not_installed_is_named_before_anything_starts(tmp_path: Path) -> None:
    project = _new_project(tmp_path / "p")
    found = _insitu(project, "up", "--no-install", PATH=str(tmp_path))

    assert found.returncode == 2
    assert "no docker-registry" in found.stderr
    assert "make twin" in found.stderr
    assert not (project / "var").exists()


def test_without_a_twin_every_command_says_how_to_start_one(tmp_path: Path) -> None:
    project = _new_project(tmp_path / "p")

    for words in (["fault", "clear"], ["fault", "set", "queue-stuck"], ["fault", "add", "drop"]):
        found = _insitu(project, *words)
        assert (found.returncode, "insitu twin up --detach" in found.stderr) == (2, True)
    assert _insitu(project, "status").returncode == 1


@pytest.mark.parametrize(("name", "found"), [("plant", "no twin wrote it"), ("../plant", "no name of a site")])
def test_settings_of_a_real_site_are_never_written_over(tmp_path: Path, name: str, found: str) -> None:
    project = _new_project(tmp_path)
    settings = project / "deployments/sites/plant.toml"
    settings.write_text("# a site of ours\n")

    refused = _insitu(project, "up", "--detach", "--name", name)

    assert (refused.returncode, found in refused.stderr) == (2, True)
    assert settings.read_text() == "# a site of ours\n"
    assert [file.name for file in project.rglob("*.toml")] == ["plant.toml"]
    assert not (project / "var").exists()
