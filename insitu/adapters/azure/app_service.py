"""The web app of a hub's App Service that is the relay: deployed through its Kudu, asked as its callers do.

Nothing but a status, a word of Kudu and the relay's own names goes into an error: answers may hold anything.
"""

from __future__ import annotations

import hmac
import time
from base64 import b64encode
from collections.abc import Iterable, Mapping
from typing import Any

from azure.core import PipelineClient
from azure.core.exceptions import HttpResponseError
from azure.core.pipeline.policies import BearerTokenCredentialPolicy, ProxyPolicy, RetryPolicy
from azure.core.rest import HttpRequest, HttpResponse

from insitu.adapters.azure.answers import OPTIONS, translated
from insitu.adapters.azure.identity import hub_identity
from insitu.adapters.secrets import read_secret
from insitu.errors import BackendUnavailable, DeployFailed, InsituError
from insitu.settings import HubSettings, RelaySettings

_TIMES = {name: OPTIONS[name] for name in ("connection_timeout", "read_timeout")}
_FAILED, _SUCCEEDED = 3, 4
_PAUSE_S = 1
_UNDER_WAY = 409
_TELLING = (200, 503)
"""With these the relay tells about itself: it is well, or it lacks something."""
_REFUSALS = {
    401: "see to the token, or to user and password, of [relay]: App Service may have basic authentication off",
    403: "the app may be stopped, its network restricted, or the principal without the right to deploy",
    404: "see app_host and scm_host of [relay], and that the app is there",
}


class AppService:
    """A `WebApp` of Azure App Service; nothing is asked before the first call.

    Args:
        relay: Where the app is, and who deploys it.
        hub: The hub whose identity signs in when *relay* names no credential.
    """

    def __init__(self, relay: RelaySettings, hub: HubSettings | None) -> None:
        self._relay, self._hub = relay, hub
        self.name = f"https://{relay.app_host}"
        self._kudu = f"https://{relay.kudu}"

    def health(self) -> Mapping[str, Any] | None:
        """Return what the relay says of itself; None when the app is not the relay, or nobody answers."""
        try:
            response = _ask([], HttpRequest("GET", f"{self.name}/health"), self.name, _TELLING, retry_status=0)
        except BackendUnavailable:
            return None
        return _object(response) if response.status_code in _TELLING else None

    def readiness(self) -> Mapping[str, Any]:
        """Return what the relay says to a caller who has the key.

        Raises:
            DeployFailed: It does not take the key, or is not the relay.
            BackendUnavailable: No answer.
        """
        request = HttpRequest("GET", f"{self.name}/ready", headers=self._signed("GET", "/ready"))
        response = _ask([], request, self.name, _TELLING, retry_status=0)
        if response.status_code == 401:
            raise DeployFailed(
                f"the relay at {self.name} does not take the key that [relay] names",
                found="401",
                wanted="the same key here and in the app's setting RELAY_KEY, and clocks that agree",
            )
        found = _object(response)
        if found is None or response.status_code not in _TELLING:
            raise DeployFailed(f"{self.name} does not answer as the relay does", found=str(response.status_code))
        return found

    def publish(self, content: bytes) -> None:
        """Have Kudu unpack *content*, a zip, over what is there; return when it has done so.

        Raises:
            DeployFailed: Kudu refuses, or fails.
            BackendUnavailable: No answer, or another deployment is under way: it may have been done.
        """
        headers = {"Content-Type": "application/zip", **self._login()}
        request = HttpRequest("POST", f"{self._kudu}/api/zipdeploy?isAsync=true", headers=headers, content=content)
        response = _ask(self._sign_in(), request, self._kudu, retry_total=0)
        if response.status_code == 202:
            self._wait()
        elif response.status_code != 200:
            raise _refused(self._kudu, response.status_code)

    def _wait(self) -> None:
        """Return when the newest deployment has ended."""
        deadline = time.monotonic() + self._relay.timeout_s
        while time.monotonic() < deadline:
            request = HttpRequest("GET", f"{self._kudu}/api/deployments/latest", headers=self._login())
            response = _ask(self._sign_in(), request, self._kudu)
            status = (_object(response) or {}).get("status")
            if status == _SUCCEEDED or response.status_code == 404:  # then /health has the last word
                return
            if status == _FAILED:
                raise DeployFailed(
                    f"{self._kudu} could not deploy the relay", next_action=f"see {self._kudu}/api/deployments/latest"
                )
            if response.status_code >= 400:
                raise _refused(self._kudu, response.status_code)
            time.sleep(_PAUSE_S)
        raise BackendUnavailable(f"{self._kudu} has not deployed the relay after {self._relay.timeout_s} s")

    def _sign_in(self) -> list[Any]:
        if not self._relay.signs_in:
            return []
        assert self._hub
        identity = hub_identity(self._hub)
        return [BearerTokenCredentialPolicy(identity, identity.endpoints.scope)]

    def _login(self) -> dict[str, str]:
        relay = self._relay
        if relay.token:
            return {"Authorization": f"Bearer {read_secret(relay.token)}"}
        if relay.user and relay.password:
            pair = f"{relay.user}:{read_secret(relay.password)}".encode()
            return {"Authorization": f"Basic {b64encode(pair).decode()}"}
        return {}

    def _signed(self, method: str, path: str) -> dict[str, str]:
        """Return the headers of a request without a body, as deployments/relay/calls.js wants them."""
        moment = str(int(time.time()))
        key = read_secret(self._relay.key).split()[0]
        text = "\n".join([method, path, moment, "", ""])
        digest = hmac.digest(key.encode(), text.encode(), "sha256").hex()
        return {"X-Relay-Timestamp": moment, "X-Relay-Signature": f"sha256={digest}"}


def _ask(
    sign_in: Iterable[Any], request: HttpRequest, who: str, known: tuple[int, ...] = (), **options: Any
) -> HttpResponse:
    """Return the answer, whatever its status but those of a service in trouble; of these only the *known* ones."""
    policies = [ProxyPolicy(), RetryPolicy(**OPTIONS), *sign_in]
    with translated(who, DeployFailed), PipelineClient(who, policies=policies, **_TIMES) as client:
        response: HttpResponse = client.send_request(request, **options)
        status = response.status_code
        if (status in (408, 429) or status >= 500) and status not in known:
            raise HttpResponseError(response=response)
        return response


def _object(response: HttpResponse) -> Mapping[str, Any] | None:
    try:
        value = response.json()
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _refused(who: str, status: int) -> InsituError:
    if status == _UNDER_WAY:
        return BackendUnavailable(f"{who} is busy with another deployment", found="409")
    return DeployFailed(f"{who} refuses the deployment", found=str(status), next_action=_REFUSALS.get(status))
