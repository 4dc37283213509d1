"""A resource manager, asked in plain REST: for the few kinds of resources that `insitu provision` makes.

Why no more of Microsoft's packages: docs/decisions/0012-provisioning.md.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from azure.core import PipelineClient
from azure.core.exceptions import HttpResponseError
from azure.core.pipeline.policies import ContentDecodePolicy, ProxyPolicy, RetryPolicy, UserAgentPolicy
from azure.core.rest import HttpRequest, HttpResponse
from azure.mgmt.core.policies import ARMChallengeAuthenticationPolicy

from insitu.adapters.azure.answers import OPTIONS, translated
from insitu.adapters.azure.identity import Identity
from insitu.errors import BackendUnavailable, NotReady

Resource = Mapping[str, Any]
"""A resource as JSON values."""

_POLL_S = (1.0, 15.0)
_APPEARS_S = 60.0
"""How long a resource that was made may stay unseen."""
_ENDED = {"succeeded": True, "failed": False, "canceled": False}


@dataclass(frozen=True)
class Arm:
    """One resource manager, and who asks it. Raises `AccessRefused`, `BackendUnavailable`, `NotReady`.

    Attributes:
        name: What people call it.
        url: Its address.
    """

    name: str
    url: str
    identity: Identity

    def get(self, path: str, api_version: str) -> Resource | None:
        """Return the resource; None when it, or what it would be in, is not there."""
        response = self._ask("GET", path, api_version)
        return None if response.status_code == 404 else _json(response)

    def put(self, path: str, api_version: str, resource: Resource, timeout_s: float = 600) -> Resource:
        """Make the resource, or make it as *resource* says, and return it when the resource manager has.

        Safe to repeat: the name is ours, so a repetition after a lost answer names the same resource.
        """
        self._ask("PUT", path, api_version, resource)
        return self.settled(path, api_version, timeout_s)

    def settled(self, path: str, api_version: str, timeout_s: float) -> Resource:
        """Wait until nothing is under way with the resource, and return it."""
        began, pause_s = time.monotonic(), _POLL_S[0]
        while True:
            found = self.get(path, api_version) or {}
            told = (found.get("properties") or {}).get("provisioningState")
            state = str(told or ("Succeeded" if found else "not there"))  # what is made at once need not say so
            if _ENDED.get(state.lower()):
                return found
            if state.lower() in _ENDED or time.monotonic() - began > (timeout_s if found else _APPEARS_S):
                raise NotReady(
                    f"{self.name} did not make {_short(path)}",
                    found=state,
                    wanted="Succeeded" if state.lower() in _ENDED else f"Succeeded within {timeout_s:g} s",
                    next_action="its activity log says why; then start again: what is done is not done twice",
                )
            time.sleep(pause_s)
            pause_s = min(1.5 * pause_s, _POLL_S[1])

    def _ask(self, method: str, path: str, api_version: str, body: Resource | None = None) -> HttpResponse:
        """Ask; a token that is refused is asked for anew once, since it may have been revoked."""
        response = self._send(method, path, api_version, body)
        if response.status_code == 401:
            self.identity.forget()
            response = self._send(method, path, api_version, body)
        missing = method == "GET" and response.status_code == 404
        if response.status_code >= 300 and not missing:
            what = f"{self.name}, asked to {'look at' if method == 'GET' else 'make'} {_short(path)},"
            with translated(what, NotReady, _NEXT_ACTION if response.status_code == 403 else None):
                raise HttpResponseError(response=response)
        return response

    def _send(self, method: str, path: str, api_version: str, body: Resource | None) -> HttpResponse:
        request = HttpRequest(method, f"{self.url}{path}", params={"api-version": api_version}, json=body)
        times = {name: OPTIONS[name] for name in ("connection_timeout", "read_timeout")}
        policies = [
            UserAgentPolicy(sdk_moniker="insitu"),
            ProxyPolicy(),
            RetryPolicy(**OPTIONS),
            ARMChallengeAuthenticationPolicy(self.identity, self.identity.endpoints.scope),
            ContentDecodePolicy(),
        ]
        with translated(self.name), PipelineClient(self.url, policies=policies, **times) as client:
            response: HttpResponse = client.send_request(request)
            response.read()
            return response


_NEXT_ACTION = "give the principal of the site's settings the role Contributor on that resource group"


def _json(response: HttpResponse) -> Resource:
    try:
        value = response.json()
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise BackendUnavailable(
            "the resource manager does not answer with a resource", found=f"{response.status_code}"
        )
    return value


def _short(path: str) -> str:
    """Return kind and name of a resource, the end of its id."""
    return "/".join(path.strip("/").split("/")[-2:])
