"""HTTP/1.1 over one accepted connection, and how an ASGI application answers one request of it."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import h11

from insitu.twin.web import App

_READ_BYTES = 1 << 18
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


@dataclass(frozen=True)
class Asked:
    """One request, read whole; header names are lower case."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes = field(repr=False)

    def header(self, name: str) -> str:
        """Return the first header of that name, or nothing."""
        return next((value for key, value in self.headers if key == name), "")


@dataclass(frozen=True)
class Answer:
    """One answer, whole."""

    status: int
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = field(default=b"", repr=False)


class Wire:
    """The server's side of one connection."""

    def __init__(self, sock: socket.socket, first: bytes = b"") -> None:
        self.sock = sock
        self._http = h11.Connection(h11.SERVER)
        if first:
            self._http.receive_data(first)

    def receive(self) -> Asked | None:
        """Return the next request, or None when the client is done."""
        if self._http.states[h11.CLIENT] is h11.DONE and self._http.states[h11.SERVER] is h11.DONE:
            self._http.start_next_cycle()
        head, body = None, bytearray()
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                self._read()
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                assert head is not None
                headers = [(name.decode(), value.decode("latin-1")) for name, value in head.headers]
                return Asked(head.method.decode(), head.target.decode("latin-1"), headers, bytes(body))
            else:  # ConnectionClosed, or PAUSED because the last answer closes the connection
                return None

    def send(self, answer: Answer, *, only_bytes: int | None = None) -> None:
        """Send an answer; with *only_bytes* of its body no more than those, whatever its head promises."""
        headers = [(name, value) for name, value in answer.headers if name.decode().lower() not in _HOP_BY_HOP]
        length = next((value for name, value in answer.headers if name.lower() == b"content-length"), None)
        if answer.body or length is None:
            length = str(len(answer.body)).encode()
        if answer.status >= 200 and answer.status != 204:
            headers.append((b"content-length", length))
        self._write(self._http.send(h11.Response(status_code=answer.status, headers=headers)))
        if only_bytes is not None:
            self.sock.sendall(answer.body[:only_bytes])
            return
        if answer.body:
            self._write(self._http.send(h11.Data(data=answer.body)))
        self._write(self._http.send(h11.EndOfMessage()))

    @property
    def goes_on(self) -> bool:
        """Whether another request may follow."""
        return self._http.our_state is h11.DONE

    def _read(self) -> None:
        if self._http.they_are_waiting_for_100_continue:
            self._write(self._http.send(h11.InformationalResponse(status_code=100, headers=[])))
        self._http.receive_data(self.sock.recv(_READ_BYTES))

    def _write(self, data: bytes | None) -> None:
        self.sock.sendall(data or b"")


class Loop:
    """An event loop in a thread of its own, in which the applications run."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="twin-services")
        self._thread.start()

    def answer(self, app: App, host: str, asked: Asked) -> Answer:
        """Return what *app* answers; raise what it raises."""
        return asyncio.run_coroutine_threadsafe(_answer(app, host, asked), self._loop).result()

    def stop(self) -> None:
        """End the loop; what runs in it is canceled."""
        self._loop.call_soon_threadsafe(self._end)
        self._thread.join(10)

    def _end(self) -> None:
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.call_soon(self._loop.stop)


async def _answer(app: App, host: str, asked: Asked) -> Answer:
    """Run *app* on one request that is there whole."""
    path, _, query = asked.target.partition("?")
    scope: MutableMapping[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": asked.method,
        "scheme": "https",
        "path": unquote(path),
        "raw_path": path.encode("latin-1"),
        "query_string": query.encode("latin-1"),
        "root_path": "",
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in asked.headers],
        "server": (host, 443),
        "client": ("127.0.0.1", 0),
    }
    parts: list[bytes] = []
    started: dict[str, Any] = {"status": 500, "headers": []}
    asked_for = [{"type": "http.request", "body": asked.body, "more_body": False}]

    async def receive() -> MutableMapping[str, Any]:
        return asked_for.pop() if asked_for else {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            started.update(status=message["status"], headers=message.get("headers", []))
        elif message["type"] == "http.response.body":
            parts.append(message.get("body", b""))

    await app(scope, receive, send)
    return Answer(started["status"], [(bytes(n), bytes(v)) for n, v in started["headers"]], b"".join(parts))
