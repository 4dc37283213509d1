"""App Service of the hub: one web app, which runs under a real Node, and its Kudu."""

from __future__ import annotations

import asyncio
import hmac
from base64 import b64decode
from collections.abc import Mapping

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from insitu.errors import InsituError
from insitu.twin.estate import Estate
from insitu.twin.forwarding import forward
from insitu.twin.journal import Side
from insitu.twin.web import App, Receive, Refused, Scope, Send, service
from insitu.twin.webapp import WebApp, told

APP = "insitu-relay"
PUBLISHING_USER = f"${APP}"
_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
_HTML = {"Content-Type": "text/html"}
_STARTING_PAGE = "<html><head><title>Microsoft Azure App Service - Welcome</title></head><body>Your app is up</body>"


def app_host(estate: Estate) -> str:
    """Return the host of the web app."""
    return f"{APP}.appservice.{estate.names.hub_domain}"


def scm_host(estate: Estate) -> str:
    """Return the host of its Kudu."""
    return f"{APP}.scm.appservice.{estate.names.hub_domain}"


def hosts(estate: Estate) -> Mapping[str, Side]:
    """Return the hosts that are played here."""
    return {app_host(estate): "hub", scm_host(estate): "hub"}


def app(estate: Estate) -> App:
    """Return the service."""
    return _AppService(estate).app


class _AppService:
    def __init__(self, estate: Estate) -> None:
        self.estate = estate
        self.site = WebApp(estate, APP)
        self._under_way: set[asyncio.Task[bool]] = set()
        kudu = service(
            [
                Route("/api/zipdeploy", self.zip_deploy, methods=["POST"]),
                Route("/api/deployments", self.deployments),
                Route("/api/deployments/{id}", self.deployment),
            ]
        )
        pages = service([Route("/{path:path}", self.page, methods=_METHODS)])
        self.app = _by_host({scm_host(estate): kudu, app_host(estate): pages})

    async def zip_deploy(self, request: Request) -> Response:
        """Unpack a zip over the app's folder: at once, or behind the answer."""
        self._require_publisher(request)
        content = await request.body()
        if not content:
            raise Refused(400, {"Message": "The zip file is empty."})
        begun = self.site.begin(request.query_params.get("message", "Created via a push deployment"))
        if begun is None:
            return PlainTextResponse("There is a deployment currently in progress. Please try again later.", 409)
        work = asyncio.create_task(anyio.to_thread.run_sync(self.site.finish, content))
        self._under_way.add(work)
        work.add_done_callback(self._under_way.discard)
        if request.query_params.get("isAsync", "").lower() == "true":
            place = f"https://{scm_host(self.estate)}/api/deployments/latest?deployer=ZipDeploy"
            return Response(status_code=202, headers={"Location": place})
        return Response(status_code=200 if await work else 500)

    async def deployments(self, request: Request) -> Response:
        """List what was deployed."""
        self._require_publisher(request)
        return JSONResponse([told(one, APP) for one in self.site.deployments()])

    async def deployment(self, request: Request) -> Response:
        """Describe one deployment: 202 while it is under way."""
        self._require_publisher(request)
        wanted = request.path_params["id"]
        known = self.site.deployments()
        one = next((one for one in known if wanted in ("latest", one["id"])), None)
        if one is None:
            raise Refused(404, {"Message": f"Deployment '{wanted}' not found."})
        return JSONResponse(told(one, APP), 200 if one["complete"] else 202)

    async def page(self, request: Request) -> Response:
        """Hand a request to the app, as IIS does."""
        try:
            port = await anyio.to_thread.run_sync(self.site.port)
        except InsituError:
            return Response("iisnode encountered an error when processing the request.", 500, _HTML)
        if port is None:
            return Response(_STARTING_PAGE, 200 if request.url.path == "/" else 404, _HTML)
        headers = {"X-Forwarded-Proto": "https", "X-ARR-SSL": "2048|256|CN=twin", "X-Original-URL": request.url.path}
        return await forward(request, port, headers=headers)

    def _require_publisher(self, request: Request) -> None:
        """Let in the publishing user, and principals that may deploy; raise `Refused`."""
        scheme, _, proof = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "basic":
            secret = self.estate.secret("relay-publishing.secret").read_text()
            if hmac.compare_digest(_decoded(proof), f"{PUBLISHING_USER}:{secret}".encode()):
                return
        elif scheme.lower() == "bearer":
            who = self.estate.directory.check(request.headers, self.estate.hub_audience)
            scope = f"{self.estate.names.hub_group_id}/providers/Microsoft.Web/sites/{APP}"
            self.estate.directory.require(who, scope, "Microsoft.Web/sites/publish/Action", "Website Contributor")
            return
        raise Refused(401, {"Message": "Unauthorized"}, {"WWW-Authenticate": 'Basic realm="site"'})


def _decoded(proof: str) -> bytes:
    try:
        return b64decode(proof, validate=True)
    except ValueError:
        return b""


def _by_host(apps: Mapping[str, App]) -> App:
    """Return one application that is another one for each host."""

    async def dispatch(scope: Scope, receive: Receive, send: Send) -> None:
        await apps[scope["server"][0]](scope, receive, send)

    return dispatch
