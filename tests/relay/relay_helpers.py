"""A relay that runs under a real Node, and its callers."""

from __future__ import annotations

import hmac
import http.client
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loopback import free_port, listens, wait_until

from insitu.relay import FOLDER

REPO = Path(__file__).parents[2]
KEY = "a-key-that-callers-of-the-relay-know-0001"
CALL = {"model": "flights"}


class Answer(dict[str, Any]):
    """The JSON of an answer, with its status."""

    def __init__(self, status: int, headers: Mapping[str, str], text: str) -> None:
        super().__init__(json.loads(text))
        self.status, self.headers, self.text = status, headers, text


class _Pipe(http.client.HTTPConnection):
    """A connection to a socket in the file system: to Node what IIS's named pipe is."""

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.host)


@dataclass
class Relay:
    """A relay that runs now; `place` is its port, or the path of its pipe."""

    place: str
    log: Path
    process: subprocess.Popen[bytes]

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Return the answer to one request."""
        kind = http.client.HTTPConnection if self.place.isdigit() else _Pipe
        host, port = ("127.0.0.1", int(self.place)) if self.place.isdigit() else (self.place, None)
        connection = kind(host, port, timeout=60)
        try:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.getheaders()), answer.read().decode())
        finally:
            connection.close()

    def ready(self, call: object = CALL, *, once: str = "", **headers: str) -> Answer:
        """Make a signed call; *headers* replace those of it, with `_` for `-`."""
        body = call if isinstance(call, bytes) else json.dumps(call).encode()
        all_headers = {"Content-Type": "application/json"} | ({"Idempotency-Key": once} if once else {})
        all_headers |= signed("POST", "/ready", body, once)
        all_headers |= {name.replace("_", "-"): value for name, value in headers.items()}
        return self.ask("POST", "/ready", body, all_headers)

    def check(self) -> Answer:
        """Ask, with a signature, whether it can do its work."""
        return self.ask("GET", "/ready", None, signed("GET", "/ready", b""))

    def with_key(self, call: object = CALL, key: str = KEY) -> Answer:
        """Make a call that holds the key itself."""
        headers = {"Content-Type": "application/json", "X-Relay-Key": key}
        return self.ask("POST", "/ready", json.dumps(call).encode(), headers)


def signed(method: str, path: str, body: bytes, once: str = "", *, key: str = KEY, ago_s: float = 0) -> dict[str, str]:
    """Return the headers with which a caller signs."""
    moment = str(int(time.time() - ago_s))
    text = "\n".join([method, path, moment, once, ""]).encode() + body
    return {
        "X-Relay-Timestamp": moment,
        "X-Relay-Signature": "sha256=" + hmac.digest(key.encode(), text, "sha256").hex(),
    }


@contextmanager
def running_relay(
    node: Path, folder: Path, state: Mapping[str, str], *, pipe: bool = False, release: Mapping[str, Any] | None = None,
    **settings: str,
) -> Iterator[Relay]:  # fmt: skip
    """Run the project's relay from a copy in *folder*, with application *settings* of its own."""
    root, log = folder / "wwwroot", folder / "relay.log"
    shutil.copytree(REPO / FOLDER, root, dirs_exist_ok=True)
    told = {"digest": "d" * 64, "site": "hub", "models": ["flights", "prices"], "state": dict(state)}
    told |= {"signed_only": False, "deployment": "retrain/{model}"} | dict(release or {})
    (root / "release.json").write_text(json.dumps(told))
    place = str(folder / "p") if pipe else str(free_port())
    environ = {"PATH": os.environ["PATH"], "PORT": place, "RELAY_KEY": KEY} | settings
    with log.open("wb") as output:
        process = subprocess.Popen([str(node), "server.js"], cwd=root, env=environ, stdout=output, stderr=output)
    try:
        wait_until(lambda: Path(place).exists() if pipe else listens(int(place)), 30, "the start of the relay")
        yield Relay(place, log, process)
    finally:
        process.terminate()
        process.wait(30)
