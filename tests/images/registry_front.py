"""What stands before a real registry, counts what it is asked, and misbehaves as a test tells it to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Front(ThreadingHTTPServer):
    """The front.

    Attributes:
        asked: Method and path of every request.
        received_bytes: Bytes of bodies that arrived.
        misbehave: Answers a request itself and tells so; else the registry behind answers.
    """

    daemon_threads = True

    def __init__(self, registry: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.registry, self.host = registry, f"127.0.0.1:{self.server_port}"
        self.asked: list[str] = []
        self.received_bytes = 0
        self.misbehave: Callable[[Handler], bool] = lambda _: False

    def handle_error(self, *_: object) -> None:
        """Say nothing of connections that the client ended."""


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: Front
    protocol_version = "HTTP/1.1"

    def _do(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        if not self.server.misbehave(self):
            self.forward()

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _do  # noqa: N815

    def body(self) -> bytes:
        """Read the request's body."""
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.received_bytes += len(content)
        return content

    def forward(self) -> None:
        """Answer as the registry does."""
        self.say(*self.ask())

    def ask(self) -> tuple[int, Mapping[str, str], bytes]:
        """Return status, headers and content of the registry's answer."""
        back = HTTPConnection(self.server.registry)
        back.request(self.command, self.path, self.body(), dict(self.headers.items()))
        answer = back.getresponse()
        content = answer.read()
        back.close()
        return answer.status, dict(answer.getheaders()), content

    def say(self, status: int, headers: Mapping[str, str], content: bytes = b"") -> None:
        """Answer."""
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        length = headers.get("Content-Length") if self.command == "HEAD" else None
        if status != 204:
            self.send_header("Content-Length", length or str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def registry_front(registry: str) -> Iterator[Front]:
    """Run the front before the registry at `host:port`."""
    server = Front(registry)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
