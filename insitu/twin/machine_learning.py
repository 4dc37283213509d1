"""What the Azure Machine Learning services of the twin have in common: the workspace, its rights, its refusals."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from insitu.twin.arm import Resources
from insitu.twin.estate import MANAGEMENT, Estate
from insitu.twin.sas import Key, SignedBlobs
from insitu.twin.shelf import Shelf
from insitu.twin.web import App, Receive, Refused, Scope, Send, arm_error, require_version
from insitu.twin.workspace_blob import inside, key_of

Document = dict[str, Any]
"""A JSON object."""

PROVIDER = "Microsoft.MachineLearningServices"
SCOPE = f"/subscriptions/{{sub}}/resourceGroups/{{group}}/providers/{PROVIDER}/workspaces/{{workspace}}"
"""The path of a workspace, as a pattern."""

DATA_SCIENTIST = "AzureML Data Scientist"
_SPELLED = {
    word.lower(): word for word in ("/subscriptions/", "/resourceGroups/", f"/providers/{PROVIDER}/", "/workspaces/")
}
_WORDS = re.compile("|".join(map(re.escape, _SPELLED)), re.IGNORECASE)

VERSIONS = (
    *("2022-02-01-preview", "2022-05-01", "2022-10-01", "2022-10-01-preview", "2023-02-01-preview", "2023-04-01"),
    *("2023-04-01-preview", "2023-06-01-preview", "2023-08-01-preview", "2023-10-01", "2024-01-01-preview"),
    *("2024-04-01", "2024-04-01-preview", "2024-07-01-preview", "2024-10-01", "2024-10-01-preview"),
    *("2025-01-01-preview", "2025-06-01", "2025-09-01", "2025-12-01"),
)
"""The api-versions that the resource provider knows."""


@dataclass(frozen=True)
class Call:
    """One request to a service, read whole."""

    request: Request
    body: bytes

    @property
    def json(self) -> Document:
        """The body as a JSON object; raise `Refused`."""
        try:
            value = json.loads(self.body or b"{}")
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise arm_error(
                400, "InvalidRequestContent", "The request content was invalid and could not be deserialized."
            )
        return value

    def __getitem__(self, name: str) -> str:
        """Return a part of the path."""
        return str(self.request.path_params[name])

    def query(self, name: str, default: str = "") -> str:
        """Return a parameter of the query."""
        return str(self.request.query_params.get(name, default))


Work = Callable[[Call], Response]


def route(path: str, *methods: str, work: Work) -> Route:
    """Return the route of *work*, which runs in a thread of its own."""

    async def run(request: Request) -> Response:
        call = Call(request, await request.body())
        return await run_in_threadpool(work, call)

    return Route(path, run, methods=list(methods))


def canonical(app: App) -> App:
    """Return *app* for paths whose fixed words are written in any case, as resource managers take them."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        path = _WORDS.sub(lambda word: _SPELLED[word[0].lower()], scope["path"])
        await app({**scope, "path": path}, receive, send)

    return serve


def answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Return a JSON answer."""
    return JSONResponse(value, status, headers=dict(headers or {}))


def user_error(message: str, status: int = 400, *, code: str = "UserError") -> Refused:
    """Return a refusal as the management front end words it."""
    info = {"type": "ComponentName", "info": {"value": "managementfrontend"}}
    return Refused(status, {"error": {"code": code, "message": message, "details": [], "additionalInfo": [info]}})


def not_found(what: str) -> Refused:
    """Return the refusal for something that there is not."""
    return user_error(f"{what} not found.", 404, code="UserError")


def now() -> str:
    """Return the time as the services write it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Workspace:
    """The one workspace of the estate."""

    def __init__(self, estate: Estate) -> None:
        self.estate, self.names = estate, estate.names
        self.id = self.names.workspace_id
        self.resources = Resources(estate, "public")
        self.guid = str(uuid5(NAMESPACE_URL, self.id))
        """Its own id, which never changes."""

    @cached_property
    def blobs(self) -> SignedBlobs:
        """The storage account behind it; blob storage starts when this is first asked for."""
        blobs = inside(self.estate)
        for container in self.datastores().values():
            blobs.make_container(container)
        return blobs

    @property
    def key(self) -> Key:
        """Name and key of its storage account."""
        return key_of(self.estate)

    @property
    def api_host(self) -> str:
        """The host of run history and of MLflow."""
        return f"{self.names.location}.api.azureml.ms"

    @property
    def artifacts(self) -> str:
        """The container of what jobs print and leave."""
        return "azureml"

    def shelf(self, kind: str) -> Shelf:
        """Return what is remembered of a kind of thing, such as `jobs`."""
        return self.estate.shelf(f"azure-ml-{kind}")

    def datastores(self) -> Mapping[str, str]:
        """Return the container of each datastore; the first one is the default."""
        return {"workspaceblobstore": f"azureml-blobstore-{self.guid}", "workspaceartifactstore": self.artifacts}

    def path_of(self, uri: str) -> tuple[str, str]:
        """Return datastore and blob path of an `azureml://` address; raise `Refused`."""
        match = re.fullmatch(r"azureml://(?:.*/)?datastores/([^/]+)/paths/(.*)", uri)
        if match and match[1] in self.datastores():
            return match[1], match[2].rstrip("/")
        raise user_error(f"The datastore of {uri} could not be found.")

    def long_uri(self, datastore: str, path: str) -> str:
        """Return the whole `azureml://` address of a path."""
        names = self.names
        place = f"subscriptions/{names.subscription}/resourcegroups/{names.group}/workspaces/{names.workspace}"
        return f"azureml://{place}/datastores/{datastore}/paths/{path}"

    def system_data(self, earlier: Document | None = None) -> Document:
        """Return who made something, and when."""
        who = {"createdBy": self.names.client, "createdByType": "Application", "createdAt": now()}
        return {**who, **(earlier or {}), "lastModifiedAt": now()}

    def allow(self, call: Call, action: str, *roles: str) -> None:
        """Let a request to the resource manager go on that may do *action*; raise `Refused`."""
        self.allow_here(call, action, *(roles or (DATA_SCIENTIST,)))
        require_version(call.request, VERSIONS)

    def allow_here(self, call: Call, action: str, *roles: str) -> None:
        """Let a request go on that names this workspace and may do *action*; raise `Refused`."""
        directory = self.estate.directory
        principal = directory.check(call.request.headers, MANAGEMENT, self.names.tenant)
        allowing = (*roles, "Reader", DATA_SCIENTIST) if action.endswith("/read") else roles
        directory.require(principal, self.id, f"{PROVIDER}/{action}", *allowing)
        found = SCOPE.format(**{key: call[key] for key in ("sub", "group", "workspace")})
        if found.lower() != self.id.lower() or not self.resources.has(self.id):
            what = f"{PROVIDER}/workspaces/{call['workspace']}"
            message = f"The Resource '{what}' under resource group '{call['group']}' was not found."
            raise arm_error(404, "ResourceNotFound", message)
