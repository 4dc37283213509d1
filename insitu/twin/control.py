"""How the command line speaks with a twin that runs: HTTP to the proxy's own port, with a secret."""

from __future__ import annotations

import hmac
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from insitu.errors import InsituError, UsageError
from insitu.twin.estate import Estate
from insitu.twin.faults import Fault
from insitu.twin.hub_blob import make_containers
from insitu.twin.process import HEADER, SECRET
from insitu.twin.web import App, Refused, service


def control(estate: Estate) -> App:
    """Return the application behind the proxy's own port."""

    secret = estate.secret(SECRET).read_text()

    def allowed(request: Request) -> None:
        if not hmac.compare_digest(request.headers.get(HEADER, "").encode(), secret.encode()):
            raise Refused(403, {"error": "this is the proxy of an insitu twin; use `insitu twin`"})

    async def status(request: Request) -> Response:
        allowed(request)
        return JSONResponse(estate.faults.to_json() | {"tokens": estate.directory.issued, "backend": estate.backend})

    async def change_faults(request: Request) -> Response:
        allowed(request)
        asked: dict[str, Any] = await request.json() if request.method == "POST" else {}
        try:
            if request.method == "DELETE":
                estate.clear(request.query_params.get("condition"))
            elif condition := asked.get("condition"):
                estate.set_condition(condition)
            else:
                estate.faults.add(Fault(**asked))
        except UsageError as error:
            raise Refused(400, error.to_json()) from None
        return JSONResponse(estate.faults.to_json())

    async def make_container(request: Request) -> Response:
        allowed(request)
        name = (await request.json())["name"]
        try:
            await run_in_threadpool(make_containers, estate, name)
        except InsituError as error:
            raise Refused(503, error.to_json()) from None
        return JSONResponse({"container": name})

    return service(
        [
            Route("/status", status),
            Route("/faults", change_faults, methods=["POST", "DELETE"]),
            Route("/containers", make_container, methods=["POST"]),
        ]
    )
