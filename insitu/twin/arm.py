"""What every resource manager does alike: resources by id, and work that takes a while."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from insitu.twin.estate import Estate
from insitu.twin.web import Refused, arm_error

_PROVIDER = re.compile(r"/providers/(?P<namespace>[^/]+)/(?P<rest>.+)$", re.IGNORECASE)
_GROUP = re.compile(r"^(?P<group>/subscriptions/[^/]+/resourcegroups/[^/]+)", re.IGNORECASE)
OPERATION_S = 0.3
"""Seconds that work takes which is not done at once."""


class Resources:
    """The resources of one resource manager, by id; ids are compared without regard to case."""

    def __init__(self, estate: Estate, name: str) -> None:
        self._shelf = estate.shelf(name)

    def get(self, resource_id: str) -> dict[str, Any]:
        """Return a resource; raise `Refused` when there is none."""
        found = self._shelf.get(resource_id.lower())
        if found is None:
            raise not_found(resource_id)
        return dict(found)

    def has(self, resource_id: str) -> bool:
        """Tell whether there is such a resource."""
        return self._shelf.get(resource_id.lower()) is not None

    def put(self, resource_id: str, body: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
        """Create or replace a resource; return it, and whether it is new."""
        new = not self.has(resource_id)
        made = {**body, "id": resource_id, "name": resource_id.rpartition("/")[2], "type": type_of(resource_id)}
        self._shelf.put(resource_id.lower(), made)
        return made, new

    def remove(self, resource_id: str) -> bool:
        """Remove a resource; return whether there was one."""
        return self._shelf.remove(resource_id.lower())

    def below(self, collection_id: str) -> list[dict[str, Any]]:
        """Return the resources of a collection, such as `…/providers/Microsoft.Compute/virtualMachines`."""
        prefix = collection_id.lower().rstrip("/") + "/"
        names = (name for name in self._shelf.names(prefix) if "/" not in name.removeprefix(prefix))
        return [self._shelf.get(name) for name in names]


class Operations:
    """Work that is under way; it is done `OPERATION_S` after it began.

    Args:
        place: Address below which operations are asked for, such as `https://HOST/subscriptions/…/operations`.
    """

    def __init__(self, estate: Estate, place: str) -> None:
        self._estate, self._place = estate, place
        self._done: dict[str, tuple[float, Callable[[], Mapping[str, Any] | None]]] = {}

    def begin(self, at_end: Callable[[], Mapping[str, Any] | None] = lambda: None) -> dict[str, str]:
        """Begin work whose end does *at_end*, which returns an error or None; return the headers of the answer."""
        name = str(uuid4())
        self._done[name] = (self._estate.now() + OPERATION_S, at_end)
        where = f"{self._place}/{name}?api-version=2020-06-01"
        return {"Azure-AsyncOperation": where, "Location": f"{where}&monitor=true", "Retry-After": "1"}

    def status(self, name: str) -> Response:
        """Answer where the work stands."""
        if name not in self._done:
            raise arm_error(404, "NotFound", f"The operation {name} was not found.")
        due, at_end = self._done[name]
        if self._estate.now() < due:
            return JSONResponse({"name": name, "status": "InProgress"}, 200, {"Retry-After": "1"})
        error = at_end()
        self._done[name] = (due, lambda: error)
        if error:
            return JSONResponse({"name": name, "status": "Failed", "error": dict(error)})
        return JSONResponse({"name": name, "status": "Succeeded"})


def type_of(resource_id: str) -> str:
    """Return the type of a resource, such as `Microsoft.Compute/virtualMachines`."""
    if not (found := _PROVIDER.search(resource_id)):
        return "Microsoft.Resources/resourceGroups"
    return "/".join([found["namespace"], *found["rest"].split("/")[::2]])


def group_of(resource_id: str) -> str:
    """Return the id of the resource group of a resource; empty when it is in none."""
    found = _GROUP.match(resource_id)
    return found["group"] if found else ""


def not_found(resource_id: str) -> Refused:
    """Return the refusal of a resource that is not there."""
    group = group_of(resource_id).rpartition("/")[2]
    name = "/".join([type_of(resource_id), resource_id.rpartition("/")[2]])
    if type_of(resource_id).endswith("resourceGroups"):
        return arm_error(404, "ResourceGroupNotFound", f"Resource group '{group}' could not be found.")
    text = f"The Resource '{name}' under resource group '{group}' was not found."
    return arm_error(404, "ResourceNotFound", text)


async def json_body(request: Request) -> dict[str, Any]:
    """Return the request's body; raise `Refused` unless it is a JSON object."""
    try:
        body = await request.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise arm_error(400, "InvalidRequestContent", "The request content was invalid and could not be deserialized.")
    return body
