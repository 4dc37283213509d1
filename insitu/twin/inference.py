"""The hosts of managed online endpoints: whoever has a key is answered by the server of a deployment."""

from __future__ import annotations

import hmac
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from insitu.twin.endpoints import ENDPOINTS
from insitu.twin.estate import Estate
from insitu.twin.forwarding import forward
from insitu.twin.journal import Side
from insitu.twin.machine_learning import Workspace
from insitu.twin.model_servers import DEPLOYMENTS
from insitu.twin.web import App, Refused, service

_MOST_BYTES = 1_500_000


def hosts(estate: Estate) -> Mapping[str, Side]:
    """Return the hosts that are played here."""
    return {f"*.{estate.names.location}.inference.ml.azure.com": "public"}


def app(estate: Estate) -> App:
    """Return the service."""
    workspace = Workspace(estate)
    endpoints, deployments = workspace.shelf(ENDPOINTS), workspace.shelf(DEPLOYMENTS)

    async def score(request: Request) -> Response:
        """Hand a request on to the deployment that it names, or that has the traffic."""
        name = str(request.url.hostname).partition(".")[0]
        endpoint = endpoints.get(name)
        if endpoint is None:
            raise _no(404, "no such endpoint")
        key = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not any(hmac.compare_digest(key.encode(), known.encode()) for known in endpoint["_keys"]):
            raise _no(401, "the key is not this endpoint's")
        if len(await request.body()) > _MOST_BYTES:
            raise _no(413, "the request is too large")
        traffic = endpoint["properties"]["traffic"]
        with_traffic = next((one for one, share in traffic.items() if share), "")
        chosen = request.headers.get("azureml-model-deployment") or with_traffic
        found = deployments.get(f"{name}/{chosen}")
        if found is None or found["properties"]["provisioningState"] != "Succeeded":
            raise _no(404, f"no deployment {chosen} to route to")
        answer = await forward(request, found["_port"], headers={"authorization": ""})
        answer.headers["azureml-model-deployment"] = chosen
        return answer

    return service([Route("/score", score, methods=["POST"])])


def _no(status: int, message: str) -> Refused:
    return Refused(status, {"error": {"code": str(status), "message": message}})
