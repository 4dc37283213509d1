"""A real Prefect server on a free loopback port, for tests."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from loopback import free_port, wait_until

_TRIES = 5


@dataclass(frozen=True)
class PrefectServer:
    """A server, asked through its API.

    Attributes:
        login: `user:password`, where it wants one.
    """

    url: str
    home: Path
    login: str = ""
    pid: int = 0

    def ask(self, path: str, body: Mapping[str, Any] | None = None, method: str | None = None) -> Any:
        """GET *path*, or POST *body* to it, or use another *method*; a database that is busy is asked again."""
        headers = {"Content-Type": "application/json"}
        if self.login:
            headers["Authorization"] = f"Basic {base64.b64encode(self.login.encode()).decode()}"
        data = None if body is None else json.dumps(body).encode()
        for left in reversed(range(_TRIES)):
            try:
                with urlopen(Request(self.url + path, data, headers, method=method), timeout=60) as answer:
                    return json.loads(answer.read() or b"null")
            except HTTPError as error:  # SQLite takes one writer at a time; Prefect's own client tries again, too
                if error.code != 503 or not left:
                    raise
                time.sleep(1)
        raise AssertionError("at least one try")

    def answers(self) -> bool:
        """Tell whether the server is up."""
        try:
            return bool(self.ask("/health"))
        except OSError:
            return False

    def holds(self, text: str) -> bool:
        """Tell whether any file of the server's database holds *text*."""
        return any(text.encode() in path.read_bytes() for path in self.home.glob("prefect.db*"))


@contextmanager
def prefect_server(
    home: Path, environ: Mapping[str, str], login: str = "", port: int | None = None, *, ui: bool = False
) -> Iterator[PrefectServer]:
    """Run a server whose files lie in *home*, with what *environ* sets; it wants *login* where that is given.

    It may be killed, and started again on the same *port*. With *ui* it has the UI as `insitu up` shows it.
    """
    port = port or free_port()
    options = [*([] if ui else ["--no-ui"]), "--host", "127.0.0.1", "--port", str(port)]
    command = [sys.executable, "-m", "prefect", "server", "start", *options]
    own = {"PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "true"}
    if ui:
        own |= {
            "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
            "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(home / "ui"),
            "PREFECT_SERVER_UI_V2_ENABLED": "false",
            "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        }
    if login:
        own |= {"PREFECT_SERVER_API_AUTH_STRING": login, "PREFECT_API_AUTH_STRING": login}
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(command, env={**environ, **own}, stdout=log, stderr=log, start_new_session=True)
    server = PrefectServer(f"http://127.0.0.1:{port}/api", home, login, process.pid)
    try:
        wait_until(server.answers, 120, "the start of the Prefect server")
        yield server
    finally:
        process.terminate()
        process.wait(30)
