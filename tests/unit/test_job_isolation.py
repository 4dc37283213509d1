"""An edge job without a network: it sees itself, nobody else, and says so."""

from __future__ import annotations

import os
import subprocess
import sys

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


def test_a_process_with_a_way_out_says_that_it_is_shared() -> None:
    told = "from insitu.edge.isolation import network; print(network())"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    with open("/proc/net/route") as routes:
        has_route = len(routes.readlines()) > 1
    assert done.stdout.strip() == ("shared" if has_route else "none")
