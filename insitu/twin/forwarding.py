"""Handing a request on to a real service of this machine, byte for byte."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import anyio.to_thread
import urllib3
from starlette.requests import Request
from starlette.responses import Response

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "server"}


async def forward(
    request: Request, port: int, *, headers: Mapping[str, str] | None = None, target: str | None = None
) -> Response:
    """Return what the service behind *port* answers to *request*.

    Args:
        headers: Headers to put in place of those of the same name; an empty value takes one away.
        target: Path and query to ask for instead.
    """
    body = await request.body()
    asked = {name: value for name, value in request.headers.items() if name not in _HOP_BY_HOP}
    asked.update({name.lower(): value for name, value in (headers or {}).items()})
    query = request.scope["query_string"].decode("latin-1")
    path = target or request.scope["raw_path"].decode("latin-1") + (f"?{query}" if query else "")
    kept = {name: value for name, value in asked.items() if value}
    return await anyio.to_thread.run_sync(_exchange, port, request.method, path, kept, body)


def _exchange(port: int, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Response:
    # A new connection each time: one that was kept may be closed just as it is used, and a PUT is not to be repeated.
    answer = _pool().urlopen(
        method,
        f"http://127.0.0.1:{port}{path}",
        headers={**headers, "connection": "close"},
        body=body,
        preload_content=False,
        decode_content=False,
        redirect=False,
        retries=False,
    )
    content = answer.read(decode_content=False)
    given = Response(content, answer.status)
    given.raw_headers = [
        (name.lower().encode(), value.encode("latin-1"))
        for name, value in answer.headers.items()
        if name.lower() not in _HOP_BY_HOP or (method == "HEAD" and name.lower() == "content-length")
    ]
    return given


@cache
def _pool() -> urllib3.PoolManager:
    return urllib3.PoolManager(maxsize=16, timeout=urllib3.Timeout(connect=10, read=600))
