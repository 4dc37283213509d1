"""The resource manager of the hub: endpoints, VMs, and the network and storage around them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from insitu.twin.arm import Operations, Resources, group_of, json_body, not_found, type_of
from insitu.twin.directory import Principal
from insitu.twin.estate import Estate
from insitu.twin.hub_compute import ACTIONS, Machines, sizes
from insitu.twin.hub_start import furnish
from insitu.twin.journal import Side
from insitu.twin.web import App, arm_error, require_version, service

_VERSIONS = {
    # The versions that a hub of 2102 and later knows, by provider.
    "microsoft.compute": (
        "2020-06-01", "2019-12-01", "2019-07-01", "2019-03-01", "2018-10-01", "2018-06-01", "2018-04-01", "2017-12-01",
        "2017-03-30", "2016-03-30", "2015-06-15",
    ),
    "microsoft.network": (
        "2018-11-01", "2018-10-01", "2018-08-01", "2018-07-01", "2018-06-01", "2018-04-01", "2018-02-01", "2017-10-01",
        "2017-09-01", "2016-09-01", "2015-06-15",
    ),
    "microsoft.storage": ("2019-06-01", "2019-04-01", "2018-11-01", "2018-07-01", "2018-02-01", "2017-10-01"),
    "microsoft.resources": (
        "2020-06-01", "2019-10-01", "2019-08-01", "2019-05-10", "2018-05-01", "2018-02-01", "2017-05-10", "2016-09-01",
        "2016-06-01", "2015-11-01",
    ),
    "microsoft.web": ("2018-02-01", "2016-08-01"),
}  # fmt: skip
_TYPES = {
    "microsoft.compute/virtualmachines",
    "microsoft.compute/virtualmachines/extensions",
    "microsoft.compute/disks",
    "microsoft.compute/availabilitysets",
    "microsoft.network/networkinterfaces",
    "microsoft.network/publicipaddresses",
    "microsoft.network/networksecuritygroups",
    "microsoft.network/virtualnetworks",
    "microsoft.network/virtualnetworks/subnets",
    "microsoft.storage/storageaccounts",
}
_VM = "microsoft.compute/virtualmachines"
_SUBSCRIPTION = re.compile(r"^/subscriptions/(?P<id>[^/]+)(?P<rest>/.*)?$", re.IGNORECASE)
_IMAGES = re.compile(r"/publishers/[^/]+/artifacttypes/vmimage/offers/[^/]+/skus/[^/]+/versions$", re.IGNORECASE)


def hosts(estate: Estate) -> Mapping[str, Side]:
    """Return the hosts that are played here."""
    return {estate.names.hub_arm: "hub"}


def app(estate: Estate) -> App:
    """Return the service."""
    manager = _Manager(estate)
    methods = ["GET", "HEAD", "PUT", "PATCH", "POST", "DELETE"]
    return service(
        [Route("/metadata/endpoints", manager.endpoints), Route("/{path:path}", manager.serve, methods=methods)]
    )


class _Manager:
    def __init__(self, estate: Estate) -> None:
        self.estate, self.resources = estate, Resources(estate, "hub")
        self.machines = Machines(estate, self.resources)
        names = estate.names
        provider = f"/subscriptions/{names.hub_subscription}/providers/Microsoft.Compute/locations/{names.region}"
        self.operations = Operations(estate, f"https://{names.hub_arm}{provider}/operations")
        furnish(estate, self.resources)

    async def endpoints(self, request: Request) -> Response:
        """Answer where one signs in, and for what; nobody has to have signed in yet."""
        if not request.query_params.get("api-version"):
            raise arm_error(400, "MissingApiVersionParameter", "The api-version query parameter is required.")
        names, adfs = self.estate.names, self.estate.hub_identity == "adfs"
        return JSONResponse(
            {
                "galleryEndpoint": f"https://providers.{names.hub_domain}:30016/",
                "graphEndpoint": f"https://graph.{names.hub_domain}/" if adfs else "https://graph.windows.net/",
                "portalEndpoint": f"https://portal.{names.hub_domain}/",
                "authentication": {
                    "loginEndpoint": f"https://{names.adfs}/adfs" if adfs else "https://login.microsoftonline.com/",
                    "audiences": [self.estate.hub_audience],
                },
            }
        )

    async def serve(self, request: Request) -> Response:
        """Answer everything that needs a token."""
        who = self.estate.directory.check(request.headers, self.estate.hub_audience, self.estate.hub_tenant)
        path = request.url.path.rstrip("/")
        if path.lower() == "/subscriptions":
            require_version(request, _VERSIONS["microsoft.resources"])
            return JSONResponse({"value": [self._subscription()]})
        found = _SUBSCRIPTION.match(path)
        if not found or found["id"].lower() != self.estate.names.hub_subscription:
            raise arm_error(404, "SubscriptionNotFound", f"The subscription '{found and found['id']}' was not found.")
        rest = (found["rest"] or "").lower()
        if "/providers/" not in rest:
            require_version(request, _VERSIONS["microsoft.resources"])
            return await self._group(request, who, path) if rest else JSONResponse(self._subscription())
        namespace = rest.partition("/providers/")[2].partition("/")[0]
        if namespace not in _VERSIONS:
            raise arm_error(409, "MissingSubscriptionRegistration", f"{namespace} is not registered here.")
        require_version(request, _VERSIONS[namespace])
        if rest.startswith("/providers/"):
            return self._of_location(path)
        return await self._resource(request, who, path)

    def _subscription(self) -> dict[str, Any]:
        sub = self.estate.names.hub_subscription
        return {"id": f"/subscriptions/{sub}", "subscriptionId": sub, "displayName": "insitu", "state": "Enabled"}

    def _of_location(self, path: str) -> Response:
        """Answer what is asked of a location: sizes, images, work under way."""
        if path.lower().endswith("/vmsizes"):
            return JSONResponse(sizes())
        if _IMAGES.search(path):
            return JSONResponse([{"name": "22.04.202401010", "location": self.estate.names.region, "id": path}])
        above, _, name = path.rpartition("/")
        if above.lower().endswith("/operations"):
            return self.operations.status(name)
        raise not_found(path)

    async def _group(self, request: Request, who: Principal, path: str) -> Response:
        if request.method == "PUT":
            self.estate.directory.require(who, path, "Microsoft.Resources/subscriptions/resourceGroups/write")
            body = await json_body(request)
            made, new = self.resources.put(path, {**body, "properties": {"provisioningState": "Succeeded"}})
            return JSONResponse(made, 201 if new else 200)
        self._require_reader(who, path)
        if path.lower().endswith("/resourcegroups"):
            return JSONResponse({"value": self.resources.below(path)})
        if request.method == "HEAD":
            return Response(status_code=204 if self.resources.has(path) else 404)
        return JSONResponse(self.resources.get(path))

    async def _resource(self, request: Request, who: Principal, path: str) -> Response:
        kind, group = type_of(path).lower(), group_of(path)
        if not self.resources.has(group):
            raise not_found(group)
        above, _, action = path.rpartition("/")
        if request.method == "POST":
            return self._act(who, above, action)
        if path.lower().endswith("/instanceview"):
            self._require_reader(who, path)
            return JSONResponse(self.machines.view(self.resources.get(above)))
        if _is_collection(path):
            self._require_reader(who, path)
            return JSONResponse({"value": self.resources.below(path)})
        if kind not in _TYPES:
            raise arm_error(404, "InvalidResourceType", f"The resource type '{kind}' could not be found here.")
        if request.method in ("PUT", "PATCH"):
            return await self._put(request, who, path)
        if request.method == "DELETE":
            return self._delete(who, path)
        self._require_reader(who, path)
        return JSONResponse(self._shown(path, "instanceview" in request.query_params.get("$expand", "").lower()))

    async def _put(self, request: Request, who: Principal, path: str) -> Response:
        kind = type_of(path)
        self.estate.directory.require(who, path, f"{kind}/write", "Virtual Machine Contributor")
        body = await json_body(request)
        if request.method == "PATCH":
            before = self.resources.get(path)
            properties = {**before["properties"], **(body.get("properties") or {})}
            body = {**before, **body, "properties": properties}
        elif not body.get("location") and not kind.lower().endswith("/subnets"):
            raise arm_error(400, "LocationRequired", "The location property is required for this definition.")
        if kind.lower() == _VM:
            self.machines.check(body)
        is_new = not self.resources.has(path)
        properties = {**(body.get("properties") or {}), "provisioningState": "Succeeded"}
        self.resources.put(path, {**body, "properties": properties})
        headers = {}
        if kind.lower() == _VM and is_new:
            self.machines.created(path, body)
            headers = self.operations.begin()
        return JSONResponse(self._shown(path, False), 201 if is_new else 200, headers)

    def _delete(self, who: Principal, path: str) -> Response:
        self.estate.directory.require(who, path, f"{type_of(path)}/delete", "Virtual Machine Contributor")
        return Response(status_code=200 if self.resources.remove(path) else 204)

    def _act(self, who: Principal, resource_id: str, action: str) -> Response:
        kind = type_of(resource_id).lower()
        needed = f"{type_of(resource_id)}/{action}/action"
        self.estate.directory.require(who, resource_id, needed, "Virtual Machine Contributor")
        self.resources.get(resource_id)
        if kind == _VM and action.lower() in ACTIONS:
            error = self.machines.act(resource_id, action.lower())
            return Response(status_code=202, headers=self.operations.begin(lambda: error))
        if kind == "microsoft.storage/storageaccounts" and action.lower() == "listkeys":
            key = self.estate.account_key(resource_id.rpartition("/")[2].lower()).read_text()
            return JSONResponse({"keys": [{"keyName": "key1", "value": key, "permissions": "FULL"}]})
        raise arm_error(404, "InvalidResourceType", f"There is no action {action} of {kind}.")

    def _shown(self, path: str, with_view: bool) -> dict[str, Any]:
        found = self.resources.get(path)
        return self.machines.shown(found, with_view=with_view) if type_of(path).lower() == _VM else found

    def _require_reader(self, who: Principal, scope: str) -> None:
        self.estate.directory.require(who, scope, f"{type_of(scope)}/read", "Reader", "Virtual Machine Contributor")


def _is_collection(path: str) -> bool:
    """Tell whether a path ends in a type, and not in a name."""
    return len(path.lower().partition("/providers/")[2].split("/")) % 2 == 0
