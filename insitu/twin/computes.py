"""Compute targets of the workspace: machines and clusters elsewhere that were attached to it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from uuid import uuid4

from starlette.responses import Response
from starlette.routing import Route

from insitu.twin.assets import page
from insitu.twin.estate import MANAGEMENT
from insitu.twin.machine_learning import PROVIDER, SCOPE, Call, Document, Workspace, answer, now, route, user_error
from insitu.twin.web import arm_error

OPERATIONS = f"/subscriptions/{{sub}}/providers/{PROVIDER}/locations/{{location}}/computeOperationsStatus/{{operation}}"
_RESOURCES: Mapping[str, str] = {
    "VirtualMachine": r"/providers/Microsoft\.Compute/virtualMachines/[^/]+$",
    "Kubernetes": r"/providers/Microsoft\.(Kubernetes/connectedClusters|ContainerService/managedClusters)/[^/]+$",
}
"""The kinds that can be attached here, and what their resource ids end in."""
_SECRETS = ("password", "privateKeyData")
_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9-]{0,22}[a-zA-Z0-9]")


class Computes:
    """The compute targets of a workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace, self._shelf = workspace, workspace.shelf("computes")

    def routes(self) -> list[Route]:
        """Return the routes."""
        one = SCOPE + "/computes/{name}"
        return [
            route(SCOPE + "/computes", "GET", work=self.all),
            route(one, "GET", work=self.get),
            route(one, "PUT", work=self.attach),
            route(one, "DELETE", work=self.detach),
            route(OPERATIONS, "GET", work=self.operation),
        ]

    def all(self, call: Call) -> Response:
        """Return every compute target."""
        self._workspace.allow(call, "workspaces/computes/read")
        return answer(page(call, [self._shelf.get(name) for name in self._shelf.names()]))

    def get(self, call: Call) -> Response:
        """Return one."""
        self._workspace.allow(call, "workspaces/computes/read")
        return answer(self._one(call))

    def attach(self, call: Call) -> Response:
        """Attach a machine or a cluster, or change one that is attached; what it is never changes."""
        self._workspace.allow(call, "workspaces/computes/write", "AzureML Compute Operator")
        if not _NAME.fullmatch(call["name"]):
            raise user_error("The compute name must be 2 to 24 letters, digits and -, and begin with a letter.")
        asked = call.json.get("properties") or {}
        self._check(asked)
        with self._shelf.changing() as computes:
            earlier = computes.get(call["name"].lower())
            if earlier and earlier["properties"]["resourceId"] != asked["resourceId"]:
                raise user_error(
                    f"Compute {call['name']} already exists with another resource id.", 409, code="Conflict"
                )
            made = compute_document(self._workspace, call["name"], asked, earlier)
            made["tags"] = call.json.get("tags") or {}
            computes[call["name"].lower()] = made
        under_way = {**made, "properties": {**made["properties"], "provisioningState": "Creating"}}
        return answer(under_way, 200 if earlier else 201, self._operation())

    def detach(self, call: Call) -> Response:
        """Forget one; the machine stays as it is."""
        self._workspace.allow(call, "workspaces/computes/delete", "AzureML Compute Operator")
        if call.query("underlyingResourceAction") != "Detach":
            raise user_error("Only Detach is supported for an attached compute.")
        if not self._shelf.remove(call["name"].lower()):
            return Response(status_code=204)
        return Response(status_code=202, headers=self._operation())

    def operation(self, call: Call) -> Response:
        """Tell how an operation goes: each is done at once."""
        self._workspace.estate.directory.check(call.request.headers, MANAGEMENT, self._workspace.names.tenant)
        return answer({"name": call["operation"], "status": "Succeeded", "startTime": now(), "endTime": now()})

    def _one(self, call: Call) -> Document:
        document: Document | None = self._shelf.get(call["name"].lower())
        if document is None:
            message = f"The specified resource was not found: compute {call['name']}."
            raise arm_error(404, "ResourceNotFound", message)
        return document

    def _check(self, asked: Document) -> None:
        kind = str(asked.get("computeType"))
        if kind not in _RESOURCES:
            raise user_error(f"The twin attaches {' and '.join(_RESOURCES)} only, not {kind}.")
        if not re.search(_RESOURCES[kind], str(asked.get("resourceId") or ""), re.IGNORECASE):
            raise user_error(f"Resource Id is invalid for a compute of type {kind}.")
        account = (asked.get("properties") or {}).get("administratorAccount") or {}
        if kind == "VirtualMachine" and not (account.get("username") and any(account.get(key) for key in _SECRETS)):
            raise user_error("An administrator's user name, with a password or a private key, is required.")

    def _operation(self) -> dict[str, str]:
        names = self._workspace.names
        path = OPERATIONS.format(sub=names.subscription, location=names.location, operation=uuid4())
        return {
            "Azure-AsyncOperation": f"https://management.azure.com{path}?api-version=2023-08-01-preview",
            "Retry-After": "1",
        }


def compute_document(workspace: Workspace, name: str, asked: Document, earlier: Document | None = None) -> Document:
    """Return a compute target as it is kept: without the secrets that were sent to attach it."""
    held = dict(asked.get("properties") or {})
    if account := held.get("administratorAccount"):
        held["administratorAccount"] = {key: value for key, value in account.items() if key not in _SECRETS}
    properties = {
        **asked,
        "properties": held,
        "computeLocation": workspace.names.location,
        "createdOn": earlier["properties"]["createdOn"] if earlier else now(),
        "modifiedOn": now(),
        "isAttachedCompute": True,
        "disableLocalAuth": False,
        "provisioningErrors": None,
        "provisioningState": "Succeeded",
    }
    return {
        "id": f"{workspace.id}/computes/{name}",
        "name": name,
        "type": f"{PROVIDER}/workspaces/computes",
        "location": workspace.names.location,
        "tags": {},
        "properties": properties,
    }
