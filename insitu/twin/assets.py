"""Code, environments, models and data of the workspace: containers of versions that never change what they hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from secrets import token_hex
from typing import Any
from uuid import uuid4

from starlette.responses import Response
from starlette.routing import Route

from insitu.twin.machine_learning import (
    PROVIDER,
    SCOPE,
    Call,
    Document,
    Workspace,
    answer,
    not_found,
    route,
    user_error,
)

KINDS: Mapping[str, Sequence[str]] = {
    "codes": ("codeUri",),
    "environments": ("image", "condaFile", "build", "osType", "inferenceConfig"),
    "models": ("modelUri", "modelType"),
    "data": ("dataUri", "dataType"),
}
"""The kinds of assets, and what of a version never changes."""

_WORDS: Document = {"isArchived": False, "isAnonymous": False, "tags": {}, "properties": {}, "description": None}
_DEFAULTS: Mapping[str, Document] = {"models": {"flavors": {}, "stage": None, "jobName": None}}
_PAGE = 30


def _key(name: str, version: str) -> str:
    return f"{name}/{version}".lower()


class Assets:
    """The assets of a workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def routes(self) -> list[Route]:
        """Return the routes of every kind of asset."""
        kind = SCOPE + "/{kind}"
        version = kind + "/{name}/versions/{version}"
        return [
            route(version + "/startPendingUpload", "POST", work=self.start_upload),
            route(version, "GET", work=self.get),
            route(version, "PUT", work=self.put),
            route(version, "DELETE", work=self.delete),
            route(kind + "/{name}/versions", "GET", work=self.versions),
            route(kind + "/{name}", "GET", work=self.container),
            route(kind + "/{name}", "PUT", work=self.put_container),
            route(kind, "GET", work=self.containers),
        ]

    def known(self, kind: str, name: str, version: str) -> Document | None:
        """Return a version, or None; `@latest` is the newest."""
        if version == "@latest":
            return max(self._of(kind, name), key=_age, default=None)
        found: Document | None = self._workspace.shelf(kind).get(_key(name, version))
        return found

    def add(self, kind: str, name: str, version: str, properties: Document) -> Document:
        """Make or change a version; raise `Refused` when what it holds would change."""
        with self._workspace.shelf(kind).changing() as documents:
            earlier = documents.get(_key(name, version))
            if earlier:
                _check_unchanged(kind, earlier["properties"], properties)
            documents[_key(name, version)] = made = self._document(kind, name, version, properties, earlier)
        return made

    def start_upload(self, call: Call) -> Response:
        """Hand out a container of its own, and a signature that may write there."""
        self._allow(call, "write")
        container = f"{self._workspace.guid[:8]}-{token_hex(14)}"
        self._workspace.blobs.make_container(container)
        place = f"https://{self._workspace.names.workspace_blob}/{container}"
        credential = {"credentialType": "SAS", "sasUri": f"{place}?{self._workspace.key.container_sas(container)}"}
        consumption = {"blobUri": place, "storageAccountArmId": "", "credential": credential}
        return answer(
            {
                "blobReferenceForConsumption": consumption,
                "pendingUploadId": str(uuid4()),
                "pendingUploadType": "TemporaryBlobReference",
            }
        )

    def get(self, call: Call) -> Response:
        """Return a version."""
        self._allow(call, "read")
        document = self.known(call["kind"], call["name"], call["version"])
        if document is None:
            raise not_found(f"Asset with name: {call['name']} and version: {call['version']}")
        return answer(document)

    def put(self, call: Call) -> Response:
        """Make a version, or change the words about one; what it holds stays."""
        self._allow(call, "write")
        kind, name, version = call["kind"], call["name"], call["version"]
        properties = call.json.get("properties") or {}
        is_new = self.known(kind, name, version) is None
        if is_new:
            self._check(kind, properties)
        return answer(self.add(kind, name, version, properties), 201 if is_new else 200)

    def delete(self, call: Call) -> Response:
        """Forget a version."""
        self._allow(call, "delete")
        found = self._workspace.shelf(call["kind"]).remove(_key(call["name"], call["version"]))
        return Response(status_code=200 if found else 204)

    def versions(self, call: Call) -> Response:
        """Return the versions of one name, newest first."""
        self._allow(call, "read")
        versions = sorted(self._of(call["kind"], call["name"]), key=_age, reverse=True)
        if not versions and call["kind"] != "codes":
            raise not_found(f"Asset container with name: {call['name']}")
        return answer(page(call, [document for document in versions if _is_asked_for(call, document)]))

    def container(self, call: Call) -> Response:
        """Return what is known of all versions of one name."""
        self._allow(call, "read")
        if not self._of(call["kind"], call["name"]):
            raise not_found(f"Asset container with name: {call['name']}")
        return answer(self._container(call["kind"], call["name"]))

    def put_container(self, call: Call) -> Response:
        """Change the words about all versions of one name, or archive them."""
        self._allow(call, "write")
        key = f"{call['kind']}/{call['name']}".lower()
        self._workspace.shelf("containers").put(key, call.json.get("properties") or {})
        return answer(self._container(call["kind"], call["name"]))

    def containers(self, call: Call) -> Response:
        """Return every name of a kind."""
        self._allow(call, "read")
        names = {_name(document): None for document in self._all(call["kind"])}
        found = [self._container(call["kind"], name) for name in names]
        return answer(page(call, [document for document in found if _is_asked_for(call, document)]))

    def _allow(self, call: Call, verb: str) -> None:
        if call["kind"] not in KINDS:
            raise not_found(f"Resource type {call['kind']}")
        self._workspace.allow(call, f"workspaces/{call['kind']}/versions/{verb}")

    def _all(self, kind: str) -> list[Document]:
        shelf = self._workspace.shelf(kind)
        return [shelf.get(key) for key in shelf.names()]

    def _of(self, kind: str, name: str) -> list[Document]:
        shelf = self._workspace.shelf(kind)
        return [shelf.get(key) for key in shelf.names(_key(name, ""))]

    def _check(self, kind: str, properties: Document) -> None:
        """Refuse a new version that holds nothing, or points where there is nothing."""
        holds = KINDS[kind][0]
        if kind != "environments" and not properties.get(holds):
            raise user_error(f"The {holds} field is required.")
        if kind in ("models", "data") and str(properties[holds]).startswith("azureml://"):
            datastore, path = self._workspace.path_of(_resolved(properties[holds]))
            if next(self._workspace.blobs.names(self._workspace.datastores()[datastore], path), None) is None:
                raise user_error(f"The path {path} of the asset does not exist, or the workspace may not read it.")

    def _document(self, kind: str, name: str, version: str, properties: Document, earlier: Document | None) -> Document:
        told = {key: value for key, value in properties.items() if value is not None}
        merged = {
            **_WORDS,
            **_DEFAULTS.get(kind, {}),
            **(earlier["properties"] if earlier else {}),
            **told,
            "provisioningState": "Succeeded",
        }
        if str(merged.get("modelUri", "")).startswith("azureml://"):
            merged["modelUri"] = self._workspace.long_uri(*self._workspace.path_of(_resolved(merged["modelUri"])))
        return {
            "id": f"{self._workspace.id}/{kind}/{name}/versions/{version}",
            "name": version,
            "type": f"{PROVIDER}/workspaces/{kind}/versions",
            "properties": merged,
            "systemData": self._workspace.system_data(earlier and earlier["systemData"]),
        }

    def _container(self, kind: str, name: str) -> Document:
        versions = self._of(kind, name)
        numbers = [int(version["name"]) for version in versions if version["name"].isdigit()]
        latest = max(versions, key=_age)["name"] if versions else None
        told = self._workspace.shelf("containers").get(f"{kind}/{name}".lower()) or {}
        archived = bool(versions) and all(version["properties"]["isArchived"] for version in versions)
        computed = {"latestVersion": latest, "nextVersion": str(max(numbers, default=0) + 1)}
        return {
            "id": f"{self._workspace.id}/{kind}/{name}",
            "name": name,
            "type": f"{PROVIDER}/workspaces/{kind}",
            "properties": {**_WORDS, "isArchived": archived, **told, **computed},
            "systemData": self._workspace.system_data(),
        }


def _resolved(uri: str) -> str:
    """Return the datastore's address of what a job left."""
    prefix = "azureml://jobs/"
    if not uri.startswith(prefix):
        return uri
    job, _, rest = uri.removeprefix(prefix).partition("/outputs/")
    output, _, path = rest.partition("/paths/")
    if output in ("artifacts", "default"):
        return f"azureml://datastores/workspaceartifactstore/paths/ExperimentRun/dcid.{job}/{path}"
    return f"azureml://datastores/workspaceblobstore/paths/azureml/{job}/{output}/{path}"


def _check_unchanged(kind: str, earlier: Document, later: Document) -> None:
    for key in KINDS[kind]:
        if later.get(key) is None or later[key] == earlier.get(key):
            continue
        if kind == "models" and key == "modelUri" and _tail(later[key]) == _tail(earlier[key]):
            continue
        if key.endswith("Uri"):
            raise user_error("Asset paths cannot be updated.")
        raise user_error(f"A version with this name exists already, and its {key} cannot be changed.", 409)


def _tail(uri: str) -> str:
    return _resolved(uri).partition("datastores/")[2].rstrip("/")


def _name(document: Document) -> str:
    """Return the name of the asset that a version is of."""
    return str(document["id"]).split("/")[-3]


def _age(document: Document) -> str:
    return str(document["systemData"]["createdAt"])


def _is_asked_for(call: Call, document: Document) -> bool:
    """Tell whether a document passes the filters of the query."""
    properties: dict[str, Any] = document["properties"]
    view = call.query("listViewType", "ActiveOnly")
    if view != "All" and bool(properties.get("isArchived")) is not (view == "ArchivedOnly"):
        return False
    held: dict[str, str] = properties.get("properties") or {}
    if call.query("hash") and held.get("hash_sha256") != call.query("hash"):
        return False
    return not call.query("stage") or properties.get("stage") == call.query("stage")


def page(call: Call, found: Sequence[Document]) -> Document:
    """Return one page, and where the next one is."""
    start, top = int(call.query("$skip", "0")), int(call.query("$top", "0"))
    found = found[:top] if top else found
    page: Document = {"value": list(found[start : start + _PAGE])}
    if start + _PAGE < len(found):
        url = call.request.url.include_query_params(**{"$skip": start + _PAGE})
        page["nextLink"] = str(url.replace(scheme="https", netloc=call.request.headers["host"]))
    return page
