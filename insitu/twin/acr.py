"""Azure Container Registry: token exchange, limits and locks in front of a real docker-registry: NAME.azurecr.io."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from urllib.parse import parse_qsl
from uuid import uuid4

import urllib3
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from insitu.twin.acr_locks import Locks
from insitu.twin.acr_referrers import Referrers
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
_CONTENT = re.compile(r"/v2/(?P<name>.+?)/(?P<kind>blobs|manifests|tags|referrers)/(?P<rest>.*)")
_PUT_BYTES, _MANIFEST_BYTES = 20 << 20, 4 << 20
_INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
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
    estate.registry_port = registry.port
    there = service(
        [
            Route("/oauth2/exchange", registry.exchange, methods=["POST"]),
            Route("/oauth2/token", registry.token, methods=["GET", "POST"]),
            Route("/v2/", registry.ping),
            Route("/acr/v1/{rest:path}", registry.attributes, methods=["GET", "PATCH", "DELETE"]),
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
        self._referrers = Referrers(estate)
        self._started = Lock()
        self._loopback_port = 0

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
        """Show or change what may be done with a repository, a tag or a manifest; remove a tag."""
        name, place = self._locks.parse(request.url.path)
        action = {"PATCH": "metadata_write", "DELETE": "delete"}.get(request.method, "metadata_read")
        self._tokens.require(request.headers.get("authorization", ""), name, action)
        if request.method == "DELETE":
            self._locks.require_tag(name, place)
            await run_in_threadpool(_untag, self.port(), name, place[1:])
            self._locks.forget(name, place[1:])
            return Response(status_code=202)
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
        if other := request.query_params.get("from"):  # a blob is to be taken over from there
            self._tokens.require(request.headers.get("authorization", ""), other, "pull")
        await self._require_limits(request, kind)
        if kind == "referrers":
            return self._referrers.shown(request, name, rest)
        if kind == "manifests":
            self._locks.require(name, rest, request.method)
        answer = await forward(request, await run_in_threadpool(self.port), headers={"authorization": ""})
        if kind == "manifests" and request.method == "PUT" and answer.status_code == 201:
            media_type = request.headers.get("content-type", "")
            digest = answer.headers["docker-content-digest"]
            self._locks.note(name, rest, digest, media_type)
            self._referrers.note(name, digest, media_type, await request.body(), answer)
        if kind == "manifests" and request.method == "DELETE" and answer.status_code == 202:
            self._locks.forget(name, rest)
            self._referrers.forget(name, rest)
        return answer

    async def _require_limits(self, request: Request, kind: str) -> None:
        size_bytes = len(await request.body())
        if kind == "manifests" and size_bytes > _MANIFEST_BYTES:
            raise refused(413, "MANIFEST_INVALID", "the manifest is larger than 4 MiB")
        if kind == "blobs" and request.method == "PUT" and size_bytes > _PUT_BYTES:
            raise refused(413, "SIZE_INVALID", "the request body is too large")
        if "content-range" in request.headers and "transfer-encoding" in request.headers:
            raise refused(400, "BLOB_UPLOAD_INVALID", "a range must come with its length")

    def port(self) -> int:
        """Return the loopback port of the registry, which starts when it is first asked for."""
        with self._started:
            if not self._loopback_port:
                self._loopback_port = self._start(self._estate.folder / "registry")
            return self._loopback_port

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


def _untag(port: int, name: str, tag: str) -> None:
    """Give the tag to an index of nothing and remove that: the registry behind removes digests alone."""
    index = {"schemaVersion": 2, "mediaType": _INDEX_TYPE, "manifests": [], "annotations": {"once": str(uuid4())}}
    place = f"http://127.0.0.1:{port}/v2/{name}/manifests"
    put = urllib3.request("PUT", f"{place}/{tag}", body=json.dumps(index), headers={"Content-Type": _INDEX_TYPE})
    urllib3.request("DELETE", f"{place}/{put.headers['Docker-Content-Digest']}")


def _action(method: str, kind: str) -> str:
    if method in ("GET", "HEAD"):
        return "pull" if kind != "tags" else "metadata_read"
    return "delete" if method == "DELETE" and kind == "manifests" else "push"
