"""What the services of the twin have in common: how they are put together, and how they say no."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
"""An ASGI application."""


class Refused(Exception):
    """A service's no: a status and a body, as the real service words it.

    Args:
        status: HTTP status.
        body: JSON value of the answer.
        headers: Further headers, such as `WWW-Authenticate`.
    """

    def __init__(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        super().__init__(status, body)
        self.status, self.body, self.headers = status, body, headers or {}


def arm_error(status: int, code: str, message: str, **headers: str) -> Refused:
    """Return a refusal in the form of Azure's resource managers; `_` in a header's name stands for `-`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Refused(status, {"error": {"code": code, "message": message}}, {"x-ms-failure-cause": "gateway", **named})


def service(routes: Sequence[BaseRoute]) -> App:
    """Return the ASGI application of *routes*; `Refused` becomes its answer, an unknown path a 404 as ARM's."""

    def refuse(_: Request, refusal: Exception) -> Response:
        assert isinstance(refusal, Refused)
        return JSONResponse(refusal.body, refusal.status, refusal.headers)

    def unknown(request: Request, _: Exception) -> Response:
        message = f"No registered resource provider found for {request.method} {request.url.path}."
        return JSONResponse({"error": {"code": "NoRegisteredProviderFound", "message": message}}, 404)

    app: App = Starlette(routes=list(routes), exception_handlers={Refused: refuse, 404: unknown})
    return app


def require_version(request: Request, known: Sequence[str]) -> str:
    """Return the request's api-version; raise `Refused` when it is missing or none of *known*."""
    version = request.query_params.get("api-version")
    if version is None:
        raise arm_error(
            400, "MissingApiVersionParameter", "The api-version query parameter (?api-version=) is required."
        )
    if version not in known:
        supported = ", ".join(known)
        raise arm_error(
            400,
            "InvalidResourceType" if not known else "NoRegisteredProviderFound",
            f"No registered resource provider found for api-version '{version}'. Supported versions: '{supported}'.",
        )
    return version
