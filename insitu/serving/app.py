"""The scoring server as a bare ASGI application: a table of paths, no framework."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from . import v2
from .answers import Answer, in_words, refusal
from .engine import Busy, Engine, Limits
from .metrics import Metrics
from .payload import BadRequest, Column, parse, rows_of
from .runtimes import Runtime

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Handler = Callable[[Scope, Receive], Awaitable[Answer]]

_REQUEST_ID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")


class _TooLarge(Exception):
    """The body has more bytes than the server takes."""


class _TooSlow(Exception):
    """The body has not come in time."""


class _Gone(Exception):
    """The client left before it had sent its request."""


@dataclass(frozen=True)
class _Route:
    method: str
    handler: Handler
    probe: bool = False
    """Whether it is asked every few seconds: in the log such requests would hide the rest."""


class ScoringApp:
    """Serves one model; live at once, ready when *load* has returned and until `stop`.

    Args:
        metadata: Answered at `GET /metadata`; its `columns` are the model's.
        load: Returns the model. When it raises, *failed* is called with the error.
        failed: Ends the server.
    """

    def __init__(
        self,
        metadata: Mapping[str, Any],
        load: Callable[[], Runtime],
        failed: Callable[[Exception], None],
        limits: Limits,
    ) -> None:
        self._metadata, self._failed, self._limits = metadata, failed, limits
        self._columns = [Column(**column) for column in metadata["columns"]]
        self._engine = Engine(load, self._columns, limits)
        self._metrics = Metrics(metadata)
        self._routes = self._all_routes(f"/v2/models/{metadata.get('model', 'model')}")
        self._loading: asyncio.Task[None] | None = None
        self._stopping = False

    def _all_routes(self, model: str) -> dict[str, _Route]:
        versioned = f"{model}/versions/{self._metadata.get('version', '1')}"
        return {
            **dict.fromkeys(("/", "/health", "/v2/health/live"), _Route("GET", self._is_live, probe=True)),
            "/ready": _Route("GET", self._is_ready, probe=True),
            "/metrics": _Route("GET", self._measured, probe=True),
            "/metadata": _Route("GET", self._described),
            **dict.fromkeys(("/score", "/invocations"), _Route("POST", self._score)),
            "/v2": _Route("GET", self._v2_server),
            **dict.fromkeys(
                ("/v2/health/ready", f"{model}/ready", f"{versioned}/ready"),
                _Route("GET", self._is_ready, probe=True),
            ),
            **dict.fromkeys((model, versioned), _Route("GET", self._v2_model)),
            **dict.fromkeys((f"{model}/infer", f"{versioned}/infer"), _Route("POST", self._v2_infer)),
        }

    def stop(self) -> None:
        """Be ready no more; what comes is still answered."""
        self._stopping = True

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
            await self._engine.load()
        except Exception as exc:  # noqa: BLE001  whatever a library raises, the host must hear of it
            self._failed(exc)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        started, path = time.perf_counter(), scope["path"]
        route, request_id = self._routes.get(path), _request_id(scope)
        try:
            answer = await self._answer(route, scope, receive)
        except _Gone:
            return
        except Exception as exc:  # noqa: BLE001  whatever a model raises must not end the server, nor leave it
            answer = _internal(exc, request_id)
        await _send(send, in_words(answer) if path.startswith("/v2/") else answer, request_id)
        seconds, shown = time.perf_counter() - started, path if route else "?"
        self._metrics.count(shown, answer.status, seconds, answer.rows)
        if not (route and route.probe):
            about = {"method": scope["method"], "path": shown, "status": answer.status, "rows": answer.rows}
            log(**about, ms=round(1000 * seconds, 3), request_id=request_id)

    async def _answer(self, route: _Route | None, scope: Scope, receive: Receive) -> Answer:
        if route is None:
            return refusal(404, "unknown_path", f"known paths are {', '.join(self._routes)}")
        if scope["method"] not in (route.method, "HEAD" if route.method == "GET" else ""):
            return refusal(405, "wrong_method", f"{scope['path']} takes {route.method}", allow=route.method)
        return await route.handler(scope, receive)

    async def _is_live(self, *_: Any) -> Answer:
        return Answer(200, {"status": "live"})

    async def _is_ready(self, *_: Any) -> Answer:
        if self._stopping:
            return refusal(503, "stopping", "the server ends")
        if not self._engine.loaded:
            return refusal(503, "not_ready", "the model is being loaded")
        return Answer(200, {"status": "ready"})

    async def _measured(self, *_: Any) -> Answer:
        ready = self._engine.loaded and not self._stopping
        return Answer(200, self._metrics.text(ready=ready, in_flight=self._engine.in_flight))

    async def _described(self, *_: Any) -> Answer:
        return Answer(200, self._metadata)

    async def _v2_server(self, *_: Any) -> Answer:
        version = str(self._metadata.get("version", ""))
        return Answer(200, {"name": "insitu", "version": version, "extensions": []})

    async def _v2_model(self, *_: Any) -> Answer:
        return Answer(200, v2.described(self._metadata, self._columns, self._engine.example))

    async def _score(self, scope: Scope, receive: Receive) -> Answer:
        async def scored(body: bytes) -> Answer:
            table = parse(body, self._columns)
            return Answer(200, {"predictions": await self._engine.predict(table)}, rows_of(table))

        return await self._taken(scope, receive, scored)

    async def _v2_infer(self, scope: Scope, receive: Receive) -> Answer:
        async def scored(body: bytes) -> Answer:
            asked = v2.read(body, self._columns)
            predictions = await self._engine.predict(asked.table)
            return Answer(200, v2.answer(predictions, self._metadata, asked), rows_of(asked.table))

        return await self._taken(scope, receive, scored)

    async def _taken(self, scope: Scope, receive: Receive, scored: Callable[[bytes], Awaitable[Answer]]) -> Answer:
        """Return what *scored* makes of the request's body, or why it is not asked."""
        if not self._engine.loaded:
            return refusal(503, "not_ready", "the model is being loaded")
        try:
            with self._engine.admitted():
                return await scored(await self._body(scope, receive))
        except BadRequest as exc:
            return Answer(400, {"error": exc.to_json()})
        except Busy:
            return refusal(503, "busy", f"{self._limits.max_requests} requests are being served", retry_after="1")
        except _TooLarge:
            return refusal(413, "too_large", f"the body may have {self._limits.max_body_bytes} bytes")
        except _TooSlow:
            return refusal(408, "too_slow", f"the body must come within {self._limits.body_timeout_s:g} s")

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        if int(_header(scope, b"content-length") or 0) > self._limits.max_body_bytes:
            raise _TooLarge
        try:
            async with asyncio.timeout(self._limits.body_timeout_s):
                return await _whole(receive, self._limits.max_body_bytes)
        except TimeoutError:
            raise _TooSlow from None


async def _whole(receive: Receive, max_bytes: int) -> bytes:
    body, more = bytearray(), True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Gone
        body += message.get("body", b"")
        if len(body) > max_bytes:
            raise _TooLarge
        more = message.get("more_body", False)
    return bytes(body)


def _header(scope: Scope, wanted: bytes) -> bytes | None:
    return next((value for name, value in scope["headers"] if name == wanted), None)


def _request_id(scope: Scope) -> str:
    """Return the client's own id, where it is one that may be repeated, else a new one."""
    given = _header(scope, b"x-request-id")
    return given.decode() if given and _REQUEST_ID.fullmatch(given) else os.urandom(16).hex()


def _internal(exc: Exception, request_id: str) -> Answer:
    """Return a 500 with an id that the log has too; the error's text may hold values and goes nowhere."""
    log(request_id=request_id, error=type(exc).__name__)
    return Answer(500, {"error": {"code": "internal", "message": "the model failed", "id": request_id}})


async def _send(send: Send, answer: Answer, request_id: str) -> None:
    content = answer.content()
    headers = [
        (b"content-type", answer.kind),
        (b"content-length", str(len(content)).encode()),
        (b"x-request-id", request_id.encode()),
        *((name.encode(), value.encode()) for name, value in answer.headers.items()),
    ]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def log(**fields: Any) -> None:
    """Write one JSON line; never give it a value of a request."""
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()
