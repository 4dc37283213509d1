"""What has no network reaches the listed endpoints through the proxy, and nothing else; every name is counted."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from loopback import wait_until

from insitu.edge.proxy import EAR, QUESTION, listening, request_in
from insitu.enclosure import endpoint, without_network

TRIES = """
import json, os, subprocess, sys, urllib.error, urllib.request
from insitu.edge.isolation import raise_loopback, reach, use_proxy

def look(address):
    try:
        with urllib.request.urlopen(urllib.request.Request(address, data=b"x" * 300_000), timeout=10) as answer:
            return len(answer.read())
    except urllib.error.HTTPError as error:
        return error.code
    except urllib.error.URLError as error:
        return str(error.reason)

raise_loopback()
use_proxy()
seen = [look(address) for address in sys.argv[1].split(",")]
child = "import socket; socket.create_connection(('192.0.2.1', 443), 5)"
alone = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True)
print(json.dumps({"seen": seen, "child": "unreachable" in alone.stderr, **reach()}))
assert not os.path.exists(os.path.dirname(os.environ["INSITU_PROXY"]))
"""


class Echo(BaseHTTPRequestHandler):
    """Answers with as many bytes as it was sent, and notes what it was asked."""

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append(self.requestline)  # type: ignore[attr-defined]
        self.server.hosts.append(self.headers.get_all("Host"))  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_CONNECT(self) -> None:
        self.server.asked.append(f"{self.requestline} {self.headers['Proxy-Authorization']}")  # type: ignore[attr-defined]
        self.send_error(407)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def server(hosts: list[list[str]] | None = None) -> Iterator[tuple[str, list[str]]]:
    """Run a server of this machine; yield its endpoint and what it is asked."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as running:
        running.asked, running.hosts = [], hosts if hosts is not None else []  # type: ignore[attr-defined]
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{running.server_address[1]}", running.asked  # type: ignore[attr-defined]
        running.shutdown()


def told_by_an_isolated_job(listed: str, addresses: str, **variables: str) -> dict[str, Any]:
    if not (alone := without_network()):
        pytest.skip("the kernel lets nobody here make a network namespace")
    proxy = [sys.executable, "-m", "insitu.edge.proxy", "around", str(os.getpid()), listed]
    plain = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    command = [*proxy, *alone, sys.executable, "-c", TRIES, addresses]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=plain | variables)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_a_job_without_a_network_reaches_what_is_listed_and_nothing_else() -> None:
    with server() as (store, asked), server() as (other, nothing):
        told = told_by_an_isolated_job(
            store, f"http://{store}/a?b=c,http://{other}/,http://elsewhere.example/,http://{store}/d"
        )
    assert told["seen"] == [300_000, 403, 403, 300_000]
    assert told["child"]
    assert asked == ["POST /a?b=c HTTP/1.1", "POST /d HTTP/1.1"]
    assert nothing == []
    assert told["network"] == "proxy"
    assert told["destinations"] == {"allowed": {store: 2}, "refused": {other: 1, "elsewhere.example:80": 1}}


def test_behind_another_proxy_that_one_is_asked_and_this_one_still_refuses() -> None:
    with server() as (beyond, asked):
        variables = {"HTTPS_PROXY": f"http://u:p%40ss@{beyond}", "NO_PROXY": "127.0.0.1"}
        tried = "https://hub.example/,https://other.example/"
        told = told_by_an_isolated_job("hub.example:443", tried, **variables)
    assert asked == ["CONNECT hub.example:443 HTTP/1.1 Basic dTpwQHNz"]
    assert told["seen"] == ["Tunnel connection failed: 502 No answer", "Tunnel connection failed: 403 Not listed"]
    assert told["destinations"] == {"allowed": {"hub.example:443": 1}, "refused": {"other.example:443": 1}}


def test_the_exit_of_the_command_is_that_of_the_proxy() -> None:
    for code, end in ((7, "sys.exit(7)"), (-15, "os.kill(os.getpid(), 15)"), (-9, "os.kill(os.getpid(), 9)")):
        proxy = [sys.executable, "-m", "insitu.edge.proxy", "around", str(os.getpid()), "hub.example:443"]
        done = subprocess.run([*proxy, sys.executable, "-c", f"import os, sys; {end}"], check=False)
        assert done.returncode == code


@contextmanager
def ear_of(proxy: Path) -> Iterator[socket.socket]:
    """Hand the proxy a listening socket, as a job does; yield a connection to it."""
    with socket.create_server(("127.0.0.1", 0)) as ear:
        with socket.socket(socket.AF_UNIX) as door:
            door.connect(str(proxy))
            socket.send_fds(door, [EAR], [ear.fileno()])
            door.recv(1 << 16)
        with socket.create_connection(ear.getsockname(), 10) as client:
            yield client


def heard(client: socket.socket) -> bytes:
    return b"".join(iter(lambda: client.recv(1 << 16), b""))


def test_a_second_request_behind_an_allowed_one_goes_nowhere(tmp_path: Path) -> None:
    with server() as (store, asked), server() as (other, nothing):
        listening(tmp_path / "proxy", [store])
        with ear_of(tmp_path / "proxy") as client:
            for place in (store, other):
                request = f"POST http://{place}/ HTTP/1.1\r\nHost: {place}\r\nConnection: keep-alive\r\n"
                client.sendall(f"{request}Content-Length: 1\r\n\r\nx".encode())
            assert heard(client).count(b"200 OK") == 1
    assert len(asked) == 1
    assert nothing == []


def test_the_destination_hears_the_host_that_is_listed_and_no_other(tmp_path: Path) -> None:
    hosts: list[list[str]] = []
    with server(hosts) as (store, _):
        listening(tmp_path / "proxy", [store])
        for header, code in (("Host", b" 200 "), (" Host ", b" 200 "), ("A: b\nHost", b" 403 ")):
            with ear_of(tmp_path / "proxy") as client:
                client.sendall(
                    f"POST http://{store}/ HTTP/1.1\r\nContent-Length: 1\r\n{header}: other.example\r\n\r\nx".encode()
                )
                assert code in heard(client).partition(b"\r\n")[0]
    assert hosts == [[store], [store]]


def test_a_proxy_out_of_descriptors_goes_on_when_there_are_some_again(tmp_path: Path) -> None:
    path, limit = tmp_path / "proxy", 16
    command = f"ulimit -n {limit}; exec {sys.executable} -m insitu.edge.proxy at {path} hub.example:443"

    def connected() -> socket.socket:
        door = socket.socket(socket.AF_UNIX)
        door.settimeout(10)
        door.connect(str(path))
        return door

    with subprocess.Popen(["sh", "-c", command]) as proxy, ExitStack() as waiting:
        waiting.callback(proxy.kill)
        wait_until(path.exists, 20, "the proxy")
        held = [waiting.enter_context(connected()) for _ in range(limit)]
        wait_until(lambda: len([*Path(f"/proc/{proxy.pid}/fd").iterdir()]) == limit, 20, "want of descriptors")
        for door in held:
            door.close()
        for _ in range(limit):
            with connected() as door, socket.socket() as some:
                socket.send_fds(door, [QUESTION], [some.fileno()])
                assert b"hub.example" in door.recv(1 << 16)
            with connected() as door, open(os.devnull) as nothing:
                socket.send_fds(door, [QUESTION], [nothing.fileno()])
                assert door.recv(1 << 16) == b""


def test_names_that_a_job_makes_up_are_few_and_look_like_names(tmp_path: Path) -> None:
    proxy = listening(tmp_path / "proxy", ["hub.example:443"])
    for number in range(60):
        with ear_of(tmp_path / "proxy") as client:
            client.sendall(f"CONNECT host{number}.example:443 HTTP/1.1\r\n\r\n".encode())
            assert heard(client).startswith(b"HTTP/1.1 403 ")
    with ear_of(tmp_path / "proxy") as client:
        client.sendall("CONNECT Jané-Doe\x00.example:443 HTTP/1.1\r\n\r\n".encode())
        assert heard(client).startswith(b"HTTP/1.1 403 ")
    refused = proxy.told()["refused"]
    assert len(refused) == 51
    assert refused["(others)"] == 11


@pytest.mark.parametrize(
    ("line", "to"),
    [
        ("CONNECT Hub.Example:443 HTTP/1.1", "hub.example:443"),
        ("GET http://hub.example/a HTTP/1.1", "hub.example:80"),
        ("GET http://u:p@hub.example:81/a HTTP/1.1", "hub.example:81"),
        ("CONNECT [::1]:443 HTTP/1.1", "::1:443"),
        ("GET https://hub.example/ HTTP/1.1", None),
        ("GET /a HTTP/1.1", None),
        ("CONNECT hub.example:99999 HTTP/1.1", None),
        ("CONNECT hub.example:443\r\nHost: x", None),
        ("", None),
    ],
)
def test_a_request_names_one_endpoint_or_none(line: str, to: str | None) -> None:
    found = request_in(f"{line}\r\nHost: elsewhere.example\r\n\r\n".encode())
    assert (found and found.to) == to


def test_endpoints_are_those_of_the_settings() -> None:
    assert endpoint("https://Data.blob.local.azurestack.external") == "data.blob.local.azurestack.external:443"
    assert endpoint("http://127.0.0.1:10000/devstoreaccount1") == "127.0.0.1:10000"
