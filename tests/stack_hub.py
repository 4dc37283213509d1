"""A blob service as Azure Stack Hub's: a proxy in front of Azurite that speaks no newer version, and fails on demand.

It is a server of its own that forwards bytes; nothing of the client or of Azurite is replaced.
"""

from __future__ import annotations

import http.client
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

NEWEST_VERSION = "2019-07-07"
_REFUSAL = """<?xml version="1.0" encoding="utf-8"?>
<Error><Code>InvalidHeaderValue</Code>
<Message>The value for one of the HTTP headers is not in the correct format.</Message>
<HeaderName>x-ms-version</HeaderName><HeaderValue>{}</HeaderValue></Error>"""
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}


@dataclass
class StackHub:
    """What the proxy saw, and what it shall do to the next requests.

    Attributes:
        connections: How many connections were opened.
        requests: How many requests came, by the service version that they named.
        sent_bytes: Bytes of bodies that were sent to clients, by version.
        paths: Path and query of every request, in order.
        drop_after_bytes: Break the next answers to GET after so many bytes of the body, one entry per answer.
        when_dropped: What is done at each such break.
        lose_answers: Carry out so many requests of a method and hang up without a word.
        fail_with: Answer the next requests with these statuses.
        page: Answer every request with this and status 200, as a proxy does that wants somebody to sign in.
        clock_skew_s: How far the `Date` of an answer is from the time.
    """

    url: str = ""
    connections: int = 0
    requests: Counter[str] = field(default_factory=Counter)
    sent_bytes: Counter[str] = field(default_factory=Counter)
    paths: list[str] = field(default_factory=list)
    drop_after_bytes: list[int] = field(default_factory=list)
    when_dropped: Callable[[], object] = lambda: None
    lose_answers: Counter[str] = field(default_factory=Counter)
    fail_with: list[int] = field(default_factory=list)
    page: bytes = b""
    clock_skew_s: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def reset(self) -> None:
        """Forget what was seen and what shall fail."""
        for collection in (self.requests, self.sent_bytes, self.paths, self.drop_after_bytes, self.lose_answers):
            collection.clear()
        self.fail_with.clear()
        self.when_dropped = lambda: None
        self.connections, self.clock_skew_s, self.page = 0, 0.0, b""


class _Forward(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    hub: StackHub
    port: int

    def setup(self) -> None:
        super().setup()
        with self.hub.lock:
            self.hub.connections += 1
        self.upstream = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def finish(self) -> None:
        self.upstream.close()
        super().finish()

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        version = self.headers.get("x-ms-version", "")
        with self.hub.lock:
            self.hub.requests[version] += 1
            self.hub.paths.append(self.path)
            status = self.hub.fail_with.pop(0) if self.hub.fail_with else None
            lost = self.hub.lose_answers[self.command] > 0
            self.hub.lose_answers[self.command] -= lost
        if status is not None:
            return self.answer(status, {}, b"", version)
        if self.hub.page:
            return self.answer(200, {"Content-Type": "text/html"}, self.hub.page, version)
        if version > NEWEST_VERSION:
            headers = {"x-ms-error-code": "InvalidHeaderValue", "Content-Type": "application/xml"}
            return self.answer(400, headers, _REFUSAL.format(version).encode(), version)
        got, data = self.forward(body)
        if lost:
            self.close_connection = True
            return None
        return self.answer(got.status, dict(got.getheaders()), data, version)

    def forward(self, body: bytes) -> tuple[http.client.HTTPResponse, bytes]:
        for attempt in range(2):
            try:
                self.upstream.request(self.command, self.path, body, dict(self.headers))
                got = self.upstream.getresponse()
                return got, got.read()
            except ConnectionError:  # Azurite has closed the idle connection
                self.upstream.close()
                if attempt:
                    raise
        raise AssertionError

    do_GET = do_HEAD = do_PUT = do_DELETE = do_POST = handle_any  # noqa: N815 - the names that the base class asks for

    def answer(self, status: int, headers: dict[str, str], data: bytes, version: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        length = headers.get("content-length") if self.command == "HEAD" else None
        self.send_header("Content-Length", length or str(len(data)))
        self.end_headers()
        with self.hub.lock:
            drops = self.hub.drop_after_bytes if self.command == "GET" and status < 300 else []
            if drops:
                data, self.close_connection = data[: drops.pop(0)], True
            self.hub.sent_bytes[version] += len(data)
        if self.close_connection:
            self.hub.when_dropped()
        self.wfile.write(data)

    def date_time_string(self, timestamp: float | None = None) -> str:
        return super().date_time_string((timestamp or time.time()) + self.hub.clock_skew_s)

    def log_message(self, *_: Any) -> None:
        """Stay silent."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: Any) -> None:
        """Stay silent: clients that were killed hang up."""


@contextmanager
def stack_hub(account_url: str, tls: ssl.SSLContext | None = None) -> Iterator[StackHub]:
    """Serve the account of an Azurite on another loopback port."""
    _, _, address, account = account_url.split("/")
    hub = StackHub()
    handler = type("Forward", (_Forward,), {"hub": hub, "port": int(address.split(":")[1])})
    server = _Server(("127.0.0.1", 0), handler)
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    hub.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}/{account}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
