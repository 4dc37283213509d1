"""The scoring server as a bare ASGI application: five paths, no framework."""

from __future__ import annotations

import asyncio
import json
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .payload import BadRequest, Column, parse
from .runtimes import Runtime

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_FEW_ROWS = 100
_METHODS = {
    "/": "GET",
    "/health": "GET",
    "/ready": "GET",
    "/metadata": "GET",
    "/score": "POST",
    "/invocations": "POST",
}

_PROBES = ("/", "/health", "/ready")  # asked every few seconds: in the log they would hide the rest


class _TooLarge(Exception):
    """The body has more bytes than the server takes."""


class _Gone(Exception):
    """The client left before it had sent its request."""


@dataclass(frozen=True)
class Answer:
    """What goes back: *body* becomes JSON; *rows* were scored."""

    status: int
    body: Mapping[str, Any]
    rows: int = 0


def refusal(status: int, code: str, message: str) -> Answer:
    """Return an error as every path answers it."""
    return Answer(status, {"error": {"code": code, "message": message}})


class ScoringApp:
    """Serves one model; live at once, ready when *load* has returned.

    Args:
        metadata: Answered at `GET /metadata`; its `columns` are the model's.
        load: Returns the model. When it raises, *failed* is called with the error.
        failed: Ends the server.
        max_body_bytes: Longer requests get 413.
    """

    def __init__(
        self,
        metadata: Mapping[str, Any],
        load: Callable[[], Runtime],
        failed: Callable[[Exception], None],
        *,
        max_body_bytes: int,
    ) -> None:
        self._metadata, self._load, self._failed = metadata, load, failed
        self._columns = [Column(**column) for column in metadata["columns"]]
        self._max_body_bytes = max_body_bytes
        self._runtime: Runtime | None = None
        self._loading: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection as ASGI has it."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        self._loading = asyncio.create_task(self._become_ready())
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async def _become_ready(self) -> None:
        try:
            self._runtime = await asyncio.to_thread(self._load)
        except Exception as exc:  # noqa: BLE001  whatever a library raises, the host must hear of it
            self._failed(exc)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        method, path = scope["method"], scope["path"]
        try:
            answer = await self._answer(method, path, scope, receive)
        except _Gone:
            return
        except Exception as exc:  # noqa: BLE001  whatever a model raises must not end the server, nor leave it
            answer = _internal(exc)
        body = json.dumps(answer.body, separators=(",", ":")).encode()
        await _send(send, answer.status, body, allow=_METHODS.get(path))
        if path not in _PROBES:
            shown = path if path in _METHODS else "?"
            milliseconds = round(1000 * (time.perf_counter() - started), 3)
            log(method=method, path=shown, status=answer.status, rows=answer.rows, ms=milliseconds)

    async def _answer(self, method: str, path: str, scope: Scope, receive: Receive) -> Answer:
        if path not in _METHODS:
            return refusal(404, "unknown_path", f"known paths are {', '.join(_METHODS)}")
        if method != _METHODS[path]:
            return refusal(405, "wrong_method", f"{path} takes {_METHODS[path]}")
        if path == "/metadata":
            return Answer(200, self._metadata)
        if path in _PROBES[:2]:
            return Answer(200, {"status": "live"})
        if self._runtime is None:
            return refusal(503, "not_ready", "the model is being loaded")
        if path == "/ready":
            return Answer(200, {"status": "ready"})
        return await self._score(self._runtime, scope, receive)

    async def _score(self, runtime: Runtime, scope: Scope, receive: Receive) -> Answer:
        try:
            table = parse(await self._body(scope, receive), self._columns)
        except BadRequest as exc:
            return Answer(400, {"error": exc.to_json()})
        except _TooLarge:
            return refusal(413, "too_large", f"the body may have {self._max_body_bytes} bytes")
        rows = len(next(iter(table.values()), ()))
        if runtime.quick and rows <= _FEW_ROWS:
            return Answer(200, {"predictions": runtime.predict(table)}, rows)
        return Answer(200, {"predictions": await asyncio.to_thread(runtime.predict, table)}, rows)

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if int(declared) > self._max_body_bytes:
            raise _TooLarge
        body = bytearray()
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _Gone
            body += message.get("body", b"")
            if len(body) > self._max_body_bytes:
                raise _TooLarge
            more = message.get("more_body", False)
        return bytes(body)


def _internal(exc: Exception) -> Answer:
    """Return a 500 with an id that the log has too; the error's text may hold values and goes nowhere."""
    incident = uuid.uuid4().hex
    log(incident=incident, error=type(exc).__name__)
    return Answer(500, {"error": {"code": "internal", "message": "the model failed", "id": incident}})


async def _send(send: Send, status: int, body: bytes, allow: str | None) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 405 and allow:
        headers.append((b"allow", allow.encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def log(**fields: Any) -> None:
    """Write one JSON line; never give it a value of a request."""
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()
