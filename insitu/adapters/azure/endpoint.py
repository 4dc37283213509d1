"""A managed online endpoint of the workspace, changed from one deployment to the next without a gap.

A new deployment is made beside the one that answers, without traffic; it is asked by its name, then all traffic
moves. The deployment before stays, so that a rollback only moves traffic; older ones are deleted. It is asked for a row
that holds nothing of the data: what the site's rows are is no business of the endpoint's.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import HttpResponseError

from insitu.adapters.azure.workspace import Workspace
from insitu.crashpoints import crashpoint
from insitu.errors import BackendUnavailable, DeployFailed
from insitu.images.manifest import PORT
from insitu.ports import Release
from insitu.settings import EndpointTarget as Settings

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

_DIGEST, _MODEL, _VERSION = "insitu.digest", "insitu.model", "insitu.version"
_ROUTES = {"liveness_route": "/health", "readiness_route": "/ready", "scoring_route": "/score"}
_CHANGE_S, _LOOK_S = 600, 2.0
_AT_ONCE, _REQUEST_MS = 16, 60_000
_FAILED = ("Failed", "Canceled")


@dataclass(frozen=True)
class EndpointTarget:
    """`Target`: a managed online endpoint.

    Args:
        model: Whose image it runs.
        settings: What model.toml says of it.
        repository: Where the workspace pulls from: `HOST/NAME` of its registry.
        workspace: Where the endpoint is.
    """

    model: str
    settings: Settings
    repository: str
    workspace: Workspace

    @property
    def address(self) -> str:
        """Where it is asked."""
        region = self.workspace.settings.location
        return f"https://{self.settings.endpoint}.{region}.inference.ml.azure.com/score"

    def serves(self) -> str | None:
        """Return the digest of the deployment that has all traffic."""
        endpoint = self._endpoint()
        name = _with_traffic(endpoint)
        found = self._deployment(name) if name else None
        return str((found.tags or {}).get(_DIGEST)) if found and _state(found) == "Succeeded" else None

    def put(self, release: Release) -> None:
        """Make a deployment beside the one that answers, ask it, and move traffic; see `Target`."""
        before = _with_traffic(self._ensure())
        name = f"v{release.version}-{release.digest.removeprefix('sha256:')[:12]}"
        try:
            self._deploy(name, release)
            crashpoint("deploy:beside")
            self._ask(name, release)
        except DeployFailed:
            if name != before:
                with suppress(DeployFailed, BackendUnavailable):
                    self._delete(name)
            raise
        self._move_traffic(name)
        crashpoint("deploy:moved")
        for old in self._names() - {name, before}:
            self._delete(old)

    def _endpoint(self) -> Any:
        found: Any = self._find(lambda client: client.online_endpoints.get(self.settings.endpoint))
        if found is not None and (found.tags or {}).get(_MODEL) != self.model:
            raise DeployFailed(
                f"the endpoint {self.settings.endpoint} in {self.workspace.name} is not {self.model}'s",
                found=f"tag {_MODEL} = {(found.tags or {}).get(_MODEL, 'none')}",
                wanted=f"an endpoint that insitu has made for {self.model}",
                next_action="name another endpoint in model.toml",
            )
        return found

    def _ensure(self) -> Any:
        """Make the endpoint when there is none, or again when that has failed; return what was there."""
        from azure.ai.ml.entities import ManagedOnlineEndpoint

        found = self._endpoint()
        if found is None or _state(found) in _FAILED:
            about = {_MODEL: self.model}
            wanted = ManagedOnlineEndpoint(name=self.settings.endpoint, auth_mode="key", tags=about)
            if found is not None:  # a change of it has failed, and deployments answer all the while
                wanted.traffic = {name: share for name, share in (found.traffic or {}).items() if share}
            self._change(lambda client: client.online_endpoints.begin_create_or_update(wanted), _CHANGE_S)
        return found

    def _deploy(self, name: str, release: Release) -> None:
        from azure.ai.ml.entities import ManagedOnlineDeployment, OnlineRequestSettings

        found = self._settled(name)
        if found is not None and _state(found) == "Succeeded":
            return
        wanted = ManagedOnlineDeployment(
            name=name,
            endpoint_name=self.settings.endpoint,
            environment=self._environment(release),
            instance_type=self.settings.instance_type,
            instance_count=self.settings.instances,
            request_settings=OnlineRequestSettings(  # the service's own are one at a time, and 5 seconds
                max_concurrent_requests_per_instance=_AT_ONCE, request_timeout_ms=_REQUEST_MS
            ),
            tags={_DIGEST: release.digest, _MODEL: release.model, _VERSION: release.version},
        )
        patience_s = self.settings.ready_timeout_s
        self._change(lambda client: client.online_deployments.begin_create_or_update(wanted), patience_s)
        found = self._deployment(name)
        if found is None or _state(found) != "Succeeded":
            raise DeployFailed(
                f"deployment {name} of the endpoint {self.settings.endpoint} does not come up",
                found=_state(found) if found else "nothing",
                next_action="its log is in the studio; the deployment before goes on answering",
            )

    def _settled(self, name: str) -> Any:
        """Return the deployment when nothing changes it any more: a start that was killed has left it under way."""
        deadline = time.monotonic() + self.settings.ready_timeout_s
        while (found := self._deployment(name)) is not None and _state(found) not in (*_FAILED, "Succeeded"):
            if time.monotonic() > deadline:
                break
            time.sleep(_LOOK_S)
        return found

    def _environment(self, release: Release) -> str:
        """Return the environment that is the image, made when there is none: it never changes."""
        from azure.ai.ml.entities import Environment

        name, version = f"insitu-{self.model}", release.digest.removeprefix("sha256:")[:32]
        if self._find(lambda client: client.environments.get(name, version=version)) is None:
            wanted = Environment(
                name=name,
                version=version,
                image=f"{self.repository}@{release.digest}",
                inference_config={key: {"port": PORT, "path": path} for key, path in _ROUTES.items()},
                description=f"The image of {release.model} version {release.version}.",
            )
            self.workspace.ask(lambda client: client.environments.create_or_update(wanted), refused=DeployFailed)
        return f"azureml:{name}:{version}"

    def _ask(self, name: str, release: Release) -> None:
        """Ask the deployment by its name; raise `DeployFailed` unless a server of the image answers."""
        with TemporaryDirectory(prefix="insitu-") as folder:
            file = Path(folder) / "request.json"
            file.write_text(json.dumps(release.sample))

            def invoke(client: MLClient) -> str:
                try:
                    said: str = client.online_endpoints.invoke(
                        self.settings.endpoint, deployment_name=name, request_file=str(file)
                    )
                except HttpResponseError as exc:
                    if exc.status_code != 400:
                        raise
                    return '{"predictions": "refused"}'  # the server has looked at the row, and its model dislikes it
                return said

            said = self.workspace.ask(invoke, refused=DeployFailed)
        try:
            answered = "predictions" in json.loads(said)
        except (ValueError, TypeError):
            answered = False
        if not answered:
            raise DeployFailed(
                f"deployment {name} of the endpoint {self.settings.endpoint} does not answer as a scoring server",
                wanted='{"predictions": …}',
                next_action="the deployment before goes on answering; see the log of this one in the studio",
            )

    def _move_traffic(self, name: str) -> None:
        endpoint = self._endpoint()
        if endpoint.traffic.get(name) != 100:
            endpoint.traffic = {name: 100}
            self._change(lambda client: client.online_endpoints.begin_create_or_update(endpoint), _CHANGE_S)

    def _names(self) -> set[str]:
        """Return the deployments of the endpoint that insitu has made."""
        listed = self._find(lambda client: list(client.online_deployments.list(self.settings.endpoint))) or []
        return {str(one.name) for one in listed if (one.tags or {}).get(_DIGEST)}

    def _delete(self, name: str) -> None:
        if self._deployment(name) is not None:
            self._change(lambda client: client.online_deployments.begin_delete(name, self.settings.endpoint), _CHANGE_S)

    def _deployment(self, name: str) -> Any:
        return self._find(lambda client: client.online_deployments.get(name, self.settings.endpoint))

    def _find(self, call: Callable[[MLClient], Any]) -> Any:
        return self.workspace.find(call, refused=DeployFailed)

    def _change(self, begin: Callable[[MLClient], Any], patience_s: float) -> None:
        """Let the workspace change something, and wait until it has."""

        def change(client: MLClient) -> bool:
            with redirect_stdout(StringIO()):  # the library prints a dot for each look
                poller = begin(client)
                poller.wait(patience_s)
            return bool(poller.done())

        if not self.workspace.ask(change, refused=DeployFailed):
            raise BackendUnavailable(
                f"the endpoint {self.settings.endpoint} is not done with a change",
                wanted=f"an end within {patience_s:.0f} s",
                next_action="start again: it goes on, or see the endpoint in the studio",
            )


def _with_traffic(endpoint: Any) -> str | None:
    """Return the deployment that has all traffic."""
    traffic: Mapping[str, int] = (endpoint.traffic or {}) if endpoint is not None else {}
    return next((name for name, share in traffic.items() if share == 100), None)


def _state(found: Any) -> str:
    state = found.provisioning_state
    return str(getattr(state, "value", state))
