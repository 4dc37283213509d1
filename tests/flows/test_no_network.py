"""No packet leaves the machine during a run: it runs in a network whose only way out is counted."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from flow_helpers import INSITU, NewProject, Project

from insitu.twin.azurite import PROGRAM

pytestmark = [
    pytest.mark.network,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can make network namespaces"),
]

# The way out is one end of a cable whose other end nobody holds. Addresses are those reserved for
# documentation; the neighbour is written down so that no address resolution counts.
COUNTED = """
set -e
ip link set lo up
sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1 2>/dev/null || true
ip link add out type veth peer name beyond
ip address add 192.0.2.2/24 dev out
ip link set beyond up
ip link set out up
ip neighbour add 192.0.2.1 lladdr 02:00:00:00:00:01 dev out
ip route add default via 192.0.2.1 dev out
mount --bind "$RESOLVER" /etc/resolv.conf
"$@" >"$TOLD" 2>&1 || echo "exit code $?" >>"$TOLD"
ip -statistics -json link show out
"""


def packets_sent(command: Sequence[str], environ: dict[str, str], folder: Path) -> tuple[int, str]:
    """Return how many packets *command* sends to other machines, and what it printed."""
    if not shutil.which("ip") or not shutil.which("unshare"):
        pytest.skip("the Debian package iproute2 is not installed")
    resolver, told = folder / "resolv.conf", folder / "told"
    resolver.write_text("nameserver 198.51.100.53\noptions timeout:1 attempts:1\n")
    done = subprocess.run(
        ["unshare", "--net", "--mount", "bash", "-c", COUNTED, "bash", *command],
        env=environ | {"RESOLVER": str(resolver), "TOLD": str(told)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if "Unknown device type" in done.stderr:
        pytest.skip("this kernel has no veth devices to count with")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)[0]["stats64"]["tx"]["packets"], told.read_text()


def test_a_connection_to_another_machine_would_be_counted(surroundings: dict[str, str], tmp_path: Path) -> None:
    attempt = "import socket; socket.create_connection(('198.51.100.7', 443), 1)"
    sent, told = packets_sent([sys.executable, "-c", attempt], surroundings, tmp_path)
    assert sent > 0, told
    assert "imed out" in told


def test_a_question_for_a_name_would_be_counted(surroundings: dict[str, str], tmp_path: Path) -> None:
    attempt = "import socket; socket.getaddrinfo('telemetry.example', 443)"
    sent, told = packets_sent([sys.executable, "-c", attempt], surroundings, tmp_path)
    assert sent > 0, told


@pytest.mark.slow
def test_a_whole_run_sends_packets_to_the_services_that_its_site_lists_and_to_nobody_else(
    new_project: NewProject, surroundings: dict[str, str], tmp_path: Path
) -> None:
    if not shutil.which("nft") or not shutil.which("docker-registry") or not PROGRAM.exists():
        pytest.skip("nftables, docker-registry or Azurite is not installed: tests/system-parts.sh does that")
    project = Project(new_project("without a network").root, surroundings)
    beside = [sys.executable, str(Path(__file__).parent / "listed_services.py"), str(project.root)]
    command = [str(INSITU), "retrain", "flights", "--project", str(project.root)]
    helpers = {"PYTHONPATH": str(Path(__file__).parents[1])}
    sent, told = packets_sent([*beside, *command], surroundings | helpers, tmp_path)
    assert "PROMOTE" in told, told[-6000:]
    counted = json.loads(told.splitlines()[-1])
    assert counted["unlisted"] == sent == 1, told[-6000:]  # the one that shows that they are counted
    assert counted["blobs"] > 50
    assert counted["registry"] > 50
    (record,) = project.kept("record")
    assert record["training"]["network"] == "proxy"
    assert list(record["training"]["destinations"]["allowed"]) == [blob_service_of(project)]
    assert record["training"]["destinations"]["refused"] == {}

    command = [str(INSITU), "score", "flights", "--project", str(project.root)]
    sent, told = packets_sent(command, surroundings | {"BLOB_KEY": "bm8ga2V5"}, tmp_path)
    assert "prediction" in told
    assert sent == 0


def blob_service_of(project: Project) -> str:
    site = (project.root / "deployments/sites/local.toml").read_text()
    return site.partition('account_url = "http://')[2].partition("/")[0]
