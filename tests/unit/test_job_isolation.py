"""An edge job without a network: it sees itself, nobody else, and says so."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from insitu.enclosure import without_network

LOOK = """
import socket
from insitu.edge.isolation import network, raise_loopback
raise_loopback()
server = socket.create_server(("127.0.0.1", 0))
socket.create_connection(server.getsockname(), 5).close()  # processes of a job find each other
try:
    socket.create_connection(("192.0.2.1", 443), 5)
except OSError as error:
    print(network(), error.errno)
"""


def test_a_job_that_is_alone_has_its_loopback_and_no_way_out() -> None:
    if not (alone := without_network()):
        pytest.skip("the kernel lets nobody here make a network namespace")
    done = subprocess.run([*alone, sys.executable, "-c", LOOK], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["none", "101"], done.stderr  # ENETUNREACH


def test_a_job_of_root_does_not_get_back_into_the_network_that_others_have() -> None:
    if os.geteuid() or not (alone := without_network()):
        pytest.skip("only root could")
    done = subprocess.run([*alone, "nsenter", "-t", str(os.getpid()), "-n", "true"], capture_output=True, check=False)
    assert b"ermission denied" in done.stderr


TOLD = "from insitu.edge.isolation import network; print(network())"


@pytest.mark.parametrize(
    ("variable", "value"), [("XDG_RUNTIME_DIR", "{0}"), ("DOCKER_HOST", "unix://{0}/docker.sock"), ("NOTHING", "")]
)
def test_a_job_that_could_ask_a_daemon_for_a_network_says_that_it_is_shared(
    tmp_path: Path, variable: str, value: str
) -> None:
    if not (alone := without_network()):
        pytest.skip("the kernel lets nobody here make a network namespace")
    with socket.socket(socket.AF_UNIX) as daemon:
        daemon.bind(str(tmp_path / "docker.sock"))
        environ = {**os.environ, "XDG_RUNTIME_DIR": "", "DOCKER_HOST": "", variable: value.format(tmp_path)}
        told = subprocess.check_output([*alone, sys.executable, "-c", TOLD], text=True, env=environ)
    assert told.strip() == ("none" if variable == "NOTHING" else "shared")


def test_a_job_that_keeps_the_right_to_enter_namespaces_says_that_it_is_shared() -> None:
    if os.geteuid() or not without_network():
        pytest.skip("only root has it")
    command = [shutil.which("unshare") or "", "--net", "--", sys.executable, "-c", TOLD]
    assert subprocess.check_output(command, text=True).strip() == "shared"


def test_a_process_with_a_way_out_says_that_it_is_shared() -> None:
    with open("/proc/net/route") as routes:
        if len(routes.readlines()) < 2:
            pytest.skip("this machine has none")
    assert subprocess.check_output([sys.executable, "-c", TOLD], text=True).strip() == "shared"
