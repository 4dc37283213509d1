"""Managed online endpoints of the workspace, and their deployments: real servers of the images that they name.

As strict as the service where code is tempted: traffic is 0 or 100 % over deployments that have come up, a
deployment with traffic is not deleted, an environment of one's own needs all three routes, the image must be in
the registry, and what is under way is not changed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from secrets import token_urlsafe
from typing import Any
from uuid import uuid4

import urllib3
from starlette.responses import Response
from starlette.routing import Route

from insitu.twin.assets import Assets, page
from insitu.twin.estate import MANAGEMENT
from insitu.twin.machine_learning import (
    PROVIDER,
    SCOPE,
    Call,
    Document,
    Workspace,
    answer,
    not_found,
    now,
    route,
    user_error,
)
from insitu.twin.model_servers import DEPLOYMENTS, ModelServers

OPERATIONS = f"/subscriptions/{{sub}}/providers/{PROVIDER}/locations/{{location}}/mfeOperationsStatus/{{operation}}"
ENDPOINTS = "onlineEndpoints"
_NAME = re.compile(r"[a-zA-Z](?:[a-zA-Z0-9-]{1,30}[a-zA-Z0-9])")
_ENVIRONMENT = re.compile(r".*/environments/(?P<name>[^/]+)/versions/(?P<version>[^/]+)$")
_IMAGE = re.compile(r"(?P<host>[^/]+)/(?P<name>[^@]+)@(?P<digest>sha256:[0-9a-f]{64})")
_ROUTES = ("livenessRoute", "readinessRoute", "scoringRoute")
_MODES = ("Key", "AMLToken", "AADToken")
_PROBE = {"initialDelay": "PT10S", "period": "PT10S", "timeout": "PT2S", "successThreshold": 1, "failureThreshold": 30}
_DEFAULTS: Document = {
    "scaleSettings": {"scaleType": "Default"},
    "requestSettings": {"maxConcurrentRequestsPerInstance": 1, "requestTimeout": "PT5S", "maxQueueWait": "PT0.5S"},
    "livenessProbe": _PROBE,
    "readinessProbe": _PROBE,
    "egressPublicNetworkAccess": "Enabled",
}
_UNDER_WAY = ("Creating", "Updating", "Deleting")


class Endpoints:
    """The endpoints of a workspace, as the resource manager shows them."""

    def __init__(self, workspace: Workspace, assets: Assets) -> None:
        self._workspace, self._assets = workspace, assets
        self._endpoints, self._deployments = workspace.shelf(ENDPOINTS), workspace.shelf(DEPLOYMENTS)
        self._servers = ModelServers(workspace)

    def routes(self) -> list[Route]:
        """Return the routes."""
        every = f"{SCOPE}/{ENDPOINTS}"
        one, beside = every + "/{name}", every + "/{name}/deployments"
        return [
            route(every, "GET", work=self.all),
            route(one, "GET", work=self.get),
            route(one, "PUT", work=self.put),
            route(one, "DELETE", work=self.delete),
            route(one + "/listKeys", "POST", work=self.keys),
            route(beside, "GET", work=self.deployments),
            route(beside + "/{deployment}", "GET", work=self.deployment),
            route(beside + "/{deployment}", "PUT", work=self.deploy),
            route(beside + "/{deployment}", "DELETE", work=self.undeploy),
            route(OPERATIONS, "GET", work=self.operation),
        ]

    def all(self, call: Call) -> Response:
        """Return every endpoint."""
        self._workspace.allow(call, "workspaces/onlineEndpoints/read")
        return answer(page(call, [_shown(self._endpoints.get(name)) for name in self._endpoints.names()]))

    def get(self, call: Call) -> Response:
        """Return one endpoint."""
        self._workspace.allow(call, "workspaces/onlineEndpoints/read")
        return answer(_shown(self._endpoint(call)))

    def put(self, call: Call) -> Response:
        """Make an endpoint, or move its traffic."""
        self._workspace.allow(call, "workspaces/onlineEndpoints/write")
        name, body = call["name"], call.json
        asked: Document = body.get("properties") or {}
        if not _NAME.fullmatch(name):
            raise user_error("An endpoint's name has 3 to 32 letters, digits and -, and begins with a letter.")
        if not body.get("location") or not body.get("identity"):
            raise user_error("The location and the identity of an endpoint are required.")
        if asked.get("authMode") not in _MODES:
            raise user_error(f"The AuthMode is one of {', '.join(_MODES)}.")
        earlier: Document | None = self._endpoints.get(name)
        traffic = asked.get("traffic") or {}
        self._check_traffic(name, traffic)
        kept = earlier["_keys"] if earlier else [token_urlsafe(24), token_urlsafe(24)]
        region = self._workspace.names.location
        address = f"https://{name}.{region}.inference.ml.azure.com"
        properties = {
            **{key: value for key, value in asked.items() if value is not None},
            "traffic": traffic,
            "mirrorTraffic": asked.get("mirrorTraffic") or {},
            "scoringUri": f"{address}/score",
            "swaggerUri": f"{address}/swagger.json",
            "provisioningState": "Succeeded",
            "publicNetworkAccess": asked.get("publicNetworkAccess") or "Enabled",
        }
        document = {
            **self._resource(f"{ENDPOINTS}/{name}", f"{ENDPOINTS}", body, properties, earlier),
            "kind": "Managed",
            "identity": {
                "type": "SystemAssigned",
                "principalId": str(uuid4()),
                "tenantId": self._workspace.names.tenant,
            },
            "_keys": kept,
        }
        self._endpoints.put(name, document)
        return answer(_shown(document), 200 if earlier else 201, self._begun(f"oe.{name}"))

    def delete(self, call: Call) -> Response:
        """Delete an endpoint with its deployments."""
        self._workspace.allow(call, "workspaces/onlineEndpoints/delete")
        name = call["name"]
        if not self._endpoints.remove(name):
            return Response(status_code=204)
        for key in self._deployments.names(f"{name}/"):
            self._forget(key)
        return Response(status_code=202, headers=self._begun(f"oe.{name}"))

    def keys(self, call: Call) -> Response:
        """Return what callers of an endpoint prove themselves with."""
        self._workspace.allow(call, "workspaces/onlineEndpoints/listKeys/action")
        first, second = self._endpoint(call)["_keys"]
        return answer({"primaryKey": first, "secondaryKey": second})

    def deployments(self, call: Call) -> Response:
        """Return the deployments of an endpoint."""
        self._workspace.allow(call, "workspaces/onlineEndpoints/deployments/read")
        self._endpoint(call)
        names = self._deployments.names(f"{call['name']}/")
        return answer(page(call, [_shown(self._deployments.get(name)) for name in names]))

    def deployment(self, call: Call) -> Response:
        """Return one deployment."""
        self._workspace.allow(call, "workspaces/onlineEndpoints/deployments/read")
        return answer(_shown(self._deployment(call)))

    def deploy(self, call: Call) -> Response:
        """Make a deployment, whose server starts now; one that is there starts anew."""
        self._workspace.allow(call, "workspaces/onlineEndpoints/deployments/write")
        self._endpoint(call)
        name, key, body = call["deployment"], f"{call['name']}/{call['deployment']}", call.json
        earlier: Document | None = self._deployments.get(key)
        if earlier and earlier["properties"]["provisioningState"] in _UNDER_WAY:
            raise user_error(f"Deployment {name} is being changed already.", 409, code="Conflict")
        image = self._checked(name, body)
        state = "Updating" if earlier else "Creating"
        asked = {item: value for item, value in (body.get("properties") or {}).items() if value is not None}
        place = f"{ENDPOINTS}/{call['name']}/deployments/{name}"
        properties = {**_DEFAULTS, **asked, "provisioningState": state}
        document = {
            **self._resource(place, f"{ENDPOINTS}/deployments", body, properties, earlier),
            "kind": "Managed",
            "sku": body["sku"],
            "_port": 0,
        }
        self._deployments.put(key, document)
        self._servers.start(key, image["name"], image["digest"])
        return answer(_shown(document), 200 if earlier else 201, self._begun(f"od.{call['name']}.{name}"))

    def undeploy(self, call: Call) -> Response:
        """Delete a deployment that has no traffic."""
        self._workspace.allow(call, "workspaces/onlineEndpoints/deployments/delete")
        traffic = (self._endpoint(call)["properties"].get("traffic") or {}).get(call["deployment"], 0)
        if traffic:
            raise user_error(f"Deployment {call['deployment']} has {traffic}% of the traffic: move that first.")
        if not self._forget(f"{call['name']}/{call['deployment']}"):
            return Response(status_code=204)
        return Response(status_code=202, headers=self._begun(f"od.{call['name']}.{call['deployment']}"))

    def operation(self, call: Call) -> Response:
        """Tell how a change goes."""
        self._workspace.estate.directory.check(call.request.headers, MANAGEMENT, self._workspace.names.tenant)
        kind, name, *more = call["operation"].split(".")
        shelf = self._endpoints if kind == "oe" else self._deployments
        found: Document | None = shelf.get(name if kind == "oe" else f"{name}/{more[0]}")
        state = found["properties"]["provisioningState"] if found else "Succeeded"
        told: Document = {"name": call["operation"], "status": "InProgress" if state in _UNDER_WAY else state}
        if state == "Failed":
            message = "User container has crashed or terminated. Please see troubleshooting guide."
            told["error"] = {"code": "ResourceNotReady", "message": message}
        return answer(told, 200, {"Retry-After": "1"})

    def _forget(self, key: str) -> bool:
        self._servers.stop(key)
        return self._deployments.remove(key)

    def _checked(self, name: str, body: Document) -> Mapping[str, str]:
        """Return the image of a deployment that could run; raise `Refused`."""
        asked: Document = body.get("properties") or {}
        if not _NAME.fullmatch(name):
            raise user_error("A deployment's name has 3 to 32 letters, digits and -, and begins with a letter.")
        if not body.get("location") or int((body.get("sku") or {}).get("capacity") or 0) < 1:
            raise user_error("The location and the capacity of a deployment are required.")
        if asked.get("endpointComputeType") != "Managed":
            raise user_error(f"The twin has managed deployments only, not {asked.get('endpointComputeType')}.")
        if not str(asked.get("instanceType") or "").startswith("Standard_"):
            raise user_error(f"The instance type {asked.get('instanceType')} is not available.")
        match = _ENVIRONMENT.fullmatch(str(asked.get("environmentId") or ""))
        known = match and self._assets.known("environments", match["name"], match["version"])
        if not known:
            raise user_error(f"The environment {asked.get('environmentId')} of the deployment does not exist.")
        held: Document = known["properties"]
        routes = held.get("inferenceConfig") or {}
        if missing := [one for one in _ROUTES if not (routes.get(one) or {}).get("path")]:
            raise user_error(f"A deployment without model and code needs an inference config with {missing[0]}.")
        return self._checked_image(str(held.get("image") or ""))

    def _checked_image(self, image: str) -> Mapping[str, str]:
        match = _IMAGE.fullmatch(image)
        if not match or match["host"] != self._workspace.names.registry_host:
            raise user_error(f"The image {image} cannot be pulled: it is not in the workspace's registry.")
        address = f"http://127.0.0.1:{self._workspace.estate.registry_port()}/v2/{match['name']}/manifests"
        kinds = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
        if urllib3.request("HEAD", f"{address}/{match['digest']}", headers=kinds).status != 200:
            raise user_error(f"The image {image} cannot be pulled: the registry does not have it.")
        return match.groupdict()

    def _check_traffic(self, name: str, traffic: Mapping[str, int]) -> None:
        if sum(traffic.values()) not in (0, 100):
            raise user_error("Traffic must sum to 0 or to 100.")
        for one in traffic:
            found: Document | None = self._deployments.get(f"{name}/{one}")
            if found is None or found["properties"]["provisioningState"] != "Succeeded":
                raise user_error(f"Traffic goes to the deployment {one}, which is not there or has not come up.")

    def _endpoint(self, call: Call) -> Document:
        found: Document | None = self._endpoints.get(call["name"])
        if found is None:
            raise not_found(f"Endpoint {call['name']}")
        return found

    def _deployment(self, call: Call) -> Document:
        self._endpoint(call)
        found: Document | None = self._deployments.get(f"{call['name']}/{call['deployment']}")
        if found is None:
            raise not_found(f"Deployment {call['deployment']} of endpoint {call['name']}")
        return found

    def _resource(self, place: str, kind: str, body: Document, properties: Document, earlier: Document | None) -> Any:
        return {
            "id": f"{self._workspace.id}/{place}",
            "name": place.rpartition("/")[2],
            "type": f"{PROVIDER}/workspaces/{kind}",
            "location": body["location"],
            "tags": body.get("tags") or {},
            "properties": properties,
            "systemData": {**self._workspace.system_data(earlier and earlier["systemData"]), "lastModifiedAt": now()},
        }

    def _begun(self, operation: str) -> dict[str, str]:
        names = self._workspace.names
        path = OPERATIONS.format(sub=names.subscription, location=names.location, operation=f"{operation}.{uuid4()}")
        where = f"https://management.azure.com{path}?api-version=2022-02-01-preview"
        return {"Azure-AsyncOperation": where, "Location": where, "Retry-After": "1"}


def _shown(document: Document) -> Document:
    """Return a resource as its readers see it."""
    return {key: value for key, value in document.items() if not key.startswith("_")}
