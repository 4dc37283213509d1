"""The units for systemd and the compose file start what there is, with options and settings that there are."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from flows.running.environment import LOGGERS
from flows.running.services import beside_the_server
from insitu.cli import main
from insitu.settings import load_site

REPO = Path(__file__).parents[2]
UNITS = sorted((REPO / "deployments/systemd").glob("*.service"))
COMPOSE = yaml.safe_load((REPO / "deployments/compose/compose.yaml").read_text())
OURS = {name: service for name, service in COMPOSE["services"].items() if service.get("image") == "insitu"}


def commands() -> Iterator[tuple[str, list[str]]]:
    for unit in UNITS:
        for line in re.findall(r"^ExecStart\w*=/opt/insitu/.venv/bin/insitu (.*)$", unit.read_text(), re.MULTILINE):
            yield unit.name, line.replace("%i", "local").split()
    for name, service in OURS.items():
        yield name, [word.replace("${INSITU_SITE:-local}", "local") for word in service["command"]]


def parsed(words: list[str]) -> dict[str, Any]:
    """Return the options of a command line; fail as the command would."""
    command: click.Command = main
    while isinstance(command, click.Group):
        name, *words = words
        found = command.get_command(click.Context(command), name)
        assert found, f"no command {name}"
        command = found
    return command.make_context("insitu", words).params


KNOWN = {"server", *(service.name for service in beside_the_server(load_site(REPO, "local", {}), {}))}


@pytest.mark.parametrize(("place", "words"), commands())
def test_each_command_is_one(place: str, words: list[str]) -> None:
    options = parsed(words)
    assert options["site"] == "local"
    if "only" in options:
        assert options["only"] in KNOWN
        assert options["only"] in place


def test_containers_and_units_run_every_service() -> None:
    assert {unit.name.removeprefix("insitu-").partition("@")[0] for unit in UNITS} == KNOWN
    assert OURS.keys() - {"deploy"} == KNOWN
    target = (REPO / "deployments/systemd/insitu@.target").read_text()
    assert {f"insitu-{name}@%i.service" for name in KNOWN} <= set(target.split("Wants=")[1].split())


def test_the_variables_of_the_containers_are_settings_and_make_a_postgresql_site() -> None:
    for service in OURS.values():
        site = {name: value for name, value in service["environment"].items() if name.startswith("INSITU_")}
        ours = load_site(REPO, "local", site).services
        assert ours.database
    assert [name for name, service in OURS.items() if "DATABASE" in service["environment"]] == ["server"]
    assert OURS["server"]["environment"]["DATABASE"].startswith("postgresql+asyncpg://prefect:${POSTGRES_PASSWORD:?")
    told = load_site(REPO, "local", OURS["server"]["environment"] | {"INSITU_SITE__SERVICES__WORKERS": "3"}).services
    assert (told.workers, told.host) == (3, "0.0.0.0")


def test_nothing_of_the_containers_is_reached_from_other_machines_or_may_write_elsewhere() -> None:
    for service in OURS.values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["volumes"] == ["state:/opt/insitu/var"]


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd is not installed")
    for unit in [*UNITS, REPO / "deployments/systemd/insitu@.target"]:
        text = unit.read_text().replace("/opt/insitu/.venv/bin/insitu", sys.executable)  # it must be there
        (tmp_path / unit.name.replace("@", "@local")).write_text(text)
    units = sorted(str(path) for path in tmp_path.iterdir())
    environ = {**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"}
    done = subprocess.run(["systemd-analyze", "verify", *units], env=environ, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_no_deployment_has_settings_of_prefect_that_its_worker_has_not() -> None:
    """Otherwise its runs would each get a fresh process, and begin seconds later."""
    deployments = yaml.safe_load((REPO / "prefect.yaml").read_text())["deployments"]
    for deployment in deployments:
        variables = deployment["work_pool"].get("job_variables", {}).get("env", {})
        told = {name: value for name, value in variables.items() if name.startswith("PREFECT_")}
        assert told.items() <= {"PREFECT_LOGGING_EXTRA_LOGGERS": ",".join(LOGGERS)}.items(), deployment["name"]
