"""What lies around the workspace in the public resource group: storage, vault, registry, and the workspace itself."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from insitu.twin.arm import Operations, Resources, group_of, not_found, type_of
from insitu.twin.estate import MANAGEMENT, Estate
from insitu.twin.machine_learning import PROVIDER, VERSIONS, Call, Document, Workspace, answer, route
from insitu.twin.web import arm_error, require_version

_VERSIONS: Mapping[str, Sequence[str]] = {
    "microsoft.machinelearningservices": VERSIONS,
    "microsoft.resources": ("2020-06-01", "2021-04-01", "2022-09-01", "2023-07-01", "2024-03-01", "2025-04-01"),
    "microsoft.storage": ("2021-09-01", "2022-09-01", "2023-01-01", "2023-05-01", "2024-01-01", "2025-01-01"),
    "microsoft.keyvault": ("2019-09-01", "2021-10-01", "2022-07-01", "2023-02-01", "2023-07-01", "2024-11-01"),
    "microsoft.insights": ("2015-05-01", "2020-02-02"),
    "microsoft.operationalinsights": ("2020-08-01", "2021-06-01", "2022-10-01", "2023-09-01"),
    "microsoft.containerregistry": ("2019-05-01", "2021-09-01", "2022-12-01", "2023-07-01", "2025-04-01"),
    "microsoft.kubernetes": ("2021-10-01", "2022-10-01-preview", "2024-01-01", "2024-07-15-preview"),
    "microsoft.authorization": ("2015-07-01", "2020-04-01-preview", "2022-04-01"),
}
"""The api-versions that are known, by provider."""
_METHODS = ("GET", "HEAD", "PUT", "PATCH", "POST", "DELETE")
_REGISTRY_NAME = re.compile(r"[a-zA-Z0-9]{5,50}")
_OPERATION = re.compile(r"/locations/[^/]+/operations/(?P<name>[^/]+)$")


class PublicResources:
    """The resources of the public subscription that are no part of a workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self._estate, self._workspace, self._resources = workspace.estate, workspace, workspace.resources
        names = workspace.names
        place = f"/subscriptions/{names.subscription}/providers/Microsoft.Resources/locations/{names.location}"
        self._operations = Operations(workspace.estate, f"https://management.azure.com{place}/operations")
        furnish(workspace.estate, self._resources)

    def routes(self) -> list[Route]:
        """Return the route of everything that no other route is for."""
        return [route("/subscriptions/{path:path}", *_METHODS, work=self.serve)]

    def serve(self, call: Call) -> Response:
        """Answer whatever is asked of a resource, or of a collection."""
        path = call.request.url.path.rstrip("/")
        who = self._estate.directory.check(call.request.headers, MANAGEMENT, self._workspace.names.tenant)
        namespace = type_of(path).partition("/")[0].lower()
        if namespace not in _VERSIONS:
            raise arm_error(409, "MissingSubscriptionRegistration", f"The twin plays no {namespace}.")
        require_version(call.request, _VERSIONS[namespace])
        if match := _OPERATION.search(path):
            return self._operations.status(match["name"])
        verb = "read" if call.request.method in ("GET", "HEAD") else "write"
        readers = ("Reader", "AcrPush", "AcrPull", "AzureML Data Scientist") if verb == "read" else ()
        self._estate.directory.require(who, path, f"{type_of(path)}/{verb}", *readers)
        if path.count("/") > 4 and not self._resources.has(group_of(path)):
            raise not_found(group_of(path))
        return self._answer(call, path)

    def _answer(self, call: Call, path: str) -> Response:
        method = call.request.method
        if method == "PUT":
            return self._put(path, call.json)
        if method == "DELETE":
            return Response(status_code=200 if self._resources.remove(path) else 204)
        if method == "POST":
            raise arm_error(404, "InvalidResourceType", f"The twin plays no action {path.rpartition('/')[2]}.")
        if method == "PATCH":
            before = self._resources.get(path)
            return self._put(path, {**before, **call.json})
        if method == "HEAD":
            return Response(status_code=204 if self._resources.has(path) else 404)
        if len(path.lower().partition("/providers/")[2].split("/")) % 2 == 0 or path.endswith("/resourceGroups"):
            return answer({"value": self._resources.below(path)})
        return answer(self._resources.get(path))

    def _put(self, path: str, body: Document) -> Response:
        kind = type_of(path).lower()
        if not body.get("location") and kind != "microsoft.authorization/roleassignments":
            raise arm_error(400, "LocationRequired", "The location property is required for this definition.")
        asked: dict[str, Any] = body.get("properties") or {}
        if kind == f"{PROVIDER}/workspaces".lower():
            self._check_workspace(asked)
        elif kind == "microsoft.containerregistry/registries":
            if not _REGISTRY_NAME.fullmatch(path.rpartition("/")[2]):
                raise arm_error(400, "InvalidResourceName", "A registry's name is made of 5 to 50 letters and digits.")
            asked = {"adminUserEnabled": False, "loginServer": f"{path.rpartition('/')[2]}.azurecr.io".lower(), **asked}
        made, is_new = self._resources.put(path, {**body, "properties": {**asked, "provisioningState": "Succeeded"}})
        headers = self._operations.begin() if is_new and kind != "microsoft.resources/resourcegroups" else {}
        return answer(made, 201 if is_new else 200, headers)

    def _check_workspace(self, asked: Mapping[str, Any]) -> None:
        for key in ("storageAccount", "keyVault"):
            if not self._resources.has(str(asked.get(key) or "")):
                raise arm_error(400, "ValidationError", f"Missing dependent resources in workspace json: {key}.")


def furnish(estate: Estate, resources: Resources) -> None:
    """Put in place what is there before anybody does anything: a resource group, and by default a workspace."""
    names = estate.names
    if resources.has(names.group_id):
        return
    kinds: Mapping[str, Document] = {names.group_id: {}}
    if estate.provisioned:
        storage = f"{names.group_id}/providers/Microsoft.Storage/storageAccounts/{names.workspace_account}"
        vault = f"{names.group_id}/providers/Microsoft.KeyVault/vaults/{names.workspace}"
        registry = {"adminUserEnabled": False, "loginServer": names.registry_host}
        parts = {"storageAccount": storage, "keyVault": vault, "containerRegistry": registry_id(estate)}
        kinds = {**kinds, storage: {}, vault: {}, registry_id(estate): registry, names.workspace_id: parts}
    for resource_id, properties in kinds.items():
        told = {**properties, "provisioningState": "Succeeded"}
        resources.put(resource_id, {"location": names.location, "tags": {}, "properties": told})


def registry_id(estate: Estate) -> str:
    """Return the resource id of the container registry."""
    return f"{estate.names.group_id}/providers/Microsoft.ContainerRegistry/registries/{estate.names.registry}"
