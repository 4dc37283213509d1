"""Azure Container Registry: token exchange, limits and locks in front of a real docker-registry: NAME.azurecr.io."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from urllib.parse import parse_qsl

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from insitu.twin.acr_locks import Locks
from insitu.twin.acr_tokens import Tokens, asked_for, refused
from insitu.twin.arm import Resources
from insitu.twin.estate import Estate
from insitu.twin.forwarding import forward
from insitu.twin.journal import Side
from insitu.twin.programs import free_port, start
from insitu.twin.public_arm import registry_id
from insitu.twin.web import App, Receive, Scope, Send, service

PROGRAM = "docker-registry"
"""The name of the registry's program, and of the Debian package that it is in."""

_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
_CONTENT = re.compile(r"/v2/(?P<name>.+?)/(?P<kind>blobs|manifests|tags)/(?P<rest>.*)")
_PUT_BYTES, _MANIFEST_BYTES = 20 << 20, 4 << 20
_CONFIG = """\
version: 0.1
log: {{level: error}}
storage: {{filesystem: {{rootdirectory: {data}}}, delete: {{enabled: true}}}}
http: {{addr: '127.0.0.1:{port}', relativeurls: true}}
"""


def hosts(estate: Estate) -> Mapping[str, Side]:
    """Return the hosts that are played here."""
    return {estate.names.registry_host: "public"}


def app(estate: Estate) -> App:
    """Return the service."""
    registry, resources = _Registry(estate), Resources(estate, "public")
    there = service(
        [
            Route("/oauth2/exchange", registry.exchange, methods=["POST"]),
            Route("/oauth2/token", registry.token, methods=["GET", "POST"]),
            Route("/v2/", registry.ping),
            Route("/acr/v1/{rest:path}", registry.attributes, methods=["GET", "PATCH"]),
            Route("/v2/{rest:path}", registry.content, methods=_METHODS),
        ]
    )

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        """Answer for a registry that was made; the name of one that was not leads nowhere."""
        made = resources.has(registry_id(estate))
        await (there if made else Response("no such host", 404))(scope, receive, send)

    return serve


class _Registry:
    def __init__(self, estate: Estate) -> None:
        self._estate, self._tokens, self._locks = estate, Tokens(estate), Locks(estate)
        self._started = Lock()
        self._port = 0

    async def exchange(self, request: Request) -> Response:
        """Give a refresh token for one of Entra."""
        form = dict(parse_qsl((await request.body()).decode(errors="replace")))
        return JSONResponse(self._tokens.exchange(form))

    async def token(self, request: Request) -> Response:
        """Give an access token for a refresh token."""
        authorization = request.headers.get("authorization", "")
        form, scopes = asked_for(request.method, request.url.query, await request.body(), authorization)
        return JSONResponse(self._tokens.access(form, scopes))

    async def ping(self, request: Request) -> Response:
        """Say that this is a registry, to who has signed in."""
        self._tokens.require_any(request.headers.get("authorization", ""))
        return JSONResponse({}, headers={"Docker-Distribution-Api-Version": "registry/2.0"})

    async def attributes(self, request: Request) -> Response:
        """Show or change what may be done with a repository, a tag or a manifest."""
        name, place = self._locks.parse(request.url.path)
        action = "metadata_write" if request.method == "PATCH" else "metadata_read"
        self._tokens.require(request.headers.get("authorization", ""), name, action)
        if request.method == "PATCH":
            self._locks.change(name, place, await request.json())
        return JSONResponse(self._locks.shown(name, place))

    async def content(self, request: Request) -> Response:
        """Hand layers and manifests on to the registry, as far as the token, the limits and the locks allow."""
        match = _CONTENT.fullmatch(request.url.path)
        if match is None:
            raise refused(404, "NAME_UNKNOWN", "repository name not known to registry")
        name, kind, rest = match["name"], match["kind"], match["rest"]
        self._tokens.require(request.headers.get("authorization", ""), name, _action(request.method, kind))
        await self._require_limits(request, kind)
        if kind == "manifests":
            self._locks.require(name, rest, request.method)
        answer = await forward(request, await run_in_threadpool(self._upstream), headers={"authorization": ""})
        if kind == "manifests" and request.method == "PUT" and answer.status_code == 201:
            media_type = request.headers.get("content-type", "")
            self._locks.note(name, rest, answer.headers["docker-content-digest"], media_type)
        if kind == "manifests" and request.method == "DELETE" and answer.status_code == 202:
            self._locks.forget(name, rest)
        return answer

    async def _require_limits(self, request: Request, kind: str) -> None:
        size_bytes = len(await request.body())
        if kind == "manifests" and size_bytes > _MANIFEST_BYTES:
            raise refused(413, "MANIFEST_INVALID", "the manifest is larger than 4 MiB")
        if kind == "blobs" and request.method == "PUT" and size_bytes > _PUT_BYTES:
            raise refused(413, "SIZE_INVALID", "the request body is too large")
        if "content-range" in request.headers and "transfer-encoding" in request.headers:
            raise refused(400, "BLOB_UPLOAD_INVALID", "a range must come with its length")

    def _upstream(self) -> int:
        """Return the loopback port of the registry, which starts when it is first asked for."""
        with self._started:
            if not self._port:
                self._port = self._start(self._estate.folder / "registry")
            return self._port

    def _start(self, folder: Path) -> int:
        program = registry_program()
        if program is None:
            raise refused(501, "UNAVAILABLE", f"the twin keeps images in {PROGRAM}: install the package of that name")
        folder.mkdir(parents=True, exist_ok=True)
        port = free_port()
        (folder / "config.yml").write_text(_CONFIG.format(data=folder / "data", port=port))
        running = start("the registry", [program, "serve", str(folder / "config.yml")], folder / "registry.log")
        self._estate.at_end(running.stop)
        running.wait_for(port)
        return port


def registry_program() -> str | None:
    """Return where the registry's program is; None when it is not installed."""
    return shutil.which(PROGRAM)


def _action(method: str, kind: str) -> str:
    if method in ("GET", "HEAD"):
        return "pull" if kind != "tags" else "metadata_read"
    return "delete" if method == "DELETE" and kind == "manifests" else "push"
