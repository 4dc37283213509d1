"""The regional host of Azure Machine Learning: run history, data of outputs, MLflow: REGION.api.azureml.ms."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from insitu.twin.estate import MANAGEMENT, Estate
from insitu.twin.job_runner import data_name
from insitu.twin.journal import Side
from insitu.twin.machine_learning import (
    DATA_SCIENTIST,
    SCOPE,
    Call,
    Document,
    Workspace,
    answer,
    not_found,
    route,
)
from insitu.twin.tracking import Tracking
from insitu.twin.web import App, Refused, service

DISCOVERY_HOST = "eastus.api.azureml.ms"
"""The host that knows where registries are, whatever the workspace's region."""


def hosts(estate: Estate) -> Mapping[str, Side]:
    """Return the hosts that are played here."""
    return {f"{estate.names.location}.api.azureml.ms": "public", DISCOVERY_HOST: "public"}


def app(estate: Estate) -> App:
    """Return the service."""
    return service(_Runs(Workspace(estate)).routes())


class _Runs:
    def __init__(self, workspace: Workspace) -> None:
        self._workspace, self._jobs = workspace, workspace.shelf("jobs")
        self._tracking = Tracking(workspace)

    def routes(self) -> list[Route]:
        history, data = f"/history/v1.0{SCOPE}", f"/data/v1.0{SCOPE}"
        return [
            Route("/discovery", self.discovery),
            route("/registrymanagement/v1.0/registries/{name}/discovery", "GET", work=self.registry),
            route(history + "/rundata", "POST", work=self.run_data),
            route(history + "/runs/{name}", "GET", work=self.run),
            route(history + "/runs/{name}/details", "GET", work=self.details),
            route(history + "/experiments/{experiment}/runs/{name}", "PATCH", work=self.change),
            route(data + "/dataversion/batchGetResolvedUris", "POST", work=self.uris),
            *(
                route(f"/mlflow/{version}{SCOPE}/{{rest:path}}", "GET", "POST", "PATCH", "DELETE", work=self.mlflow)
                for version in ("v1.0", "v2.0")
            ),
        ]

    async def discovery(self, _: Request) -> Response:
        """Answer where the services of the workspace are; anybody may ask."""
        base = f"https://{self._workspace.api_host}"
        services = ("api", "history", "experimentation", "modelmanagement", "catalog", "pipelines", "notebooks")
        return JSONResponse(dict.fromkeys(services, base) | {"studio": "https://ml.azure.com"})

    def registry(self, call: Call) -> Response:
        """Answer where a registry is: the estate has none."""
        self._workspace.estate.directory.check(call.request.headers, MANAGEMENT, self._workspace.names.tenant)
        raise not_found(f"Registry with name {call['name']}")

    def run_data(self, call: Call) -> Response:
        """Return what is known of a run."""
        self._allow(call, "read")
        return answer({"runMetadata": self._run(str(call.json.get("runId"))), "runDefinition": None})

    def run(self, call: Call) -> Response:
        """Return a run."""
        self._allow(call, "read")
        return answer(self._run(call["name"]))

    def details(self, call: Call) -> Response:
        """Return a run with the addresses of what it prints, each with a signature that may read it."""
        self._allow(call, "read")
        run, here = self._run(call["name"]), self._workspace
        blob = f"ExperimentRun/dcid.{call['name']}/user_logs/std_log.txt"
        logs = {}
        if run["startTimeUtc"]:
            signature = here.key.container_sas(here.artifacts, permissions="r")
            logs["user_logs/std_log.txt"] = f"https://{here.names.workspace_blob}/{here.artifacts}/{blob}?{signature}"
        return answer({**run, "logFiles": logs})

    def change(self, call: Call) -> Response:
        """Change the words about a run."""
        self._allow(call, "write")
        told = call.json
        self._run(call["name"])
        with self._jobs.changing() as jobs:
            properties = jobs[call["name"]]["properties"]
            for key in ("displayName", "description"):
                properties[key] = told.get(key) or properties.get(key)
            for key in ("tags", "properties"):
                properties[key].update(told.get(key) or {})
            if told.get("hidden") is not None:
                properties["isArchived"] = told["hidden"]
        return answer(self._run(call["name"]))

    def uris(self, call: Call) -> Response:
        """Return where data of the workspace lies."""
        self._allow(call, "read")
        found: Document = {}
        for asset_id in call.json.get("values") or []:
            name, _, version = str(asset_id).partition("/data/")[2].partition("/versions/")
            if document := self._workspace.shelf("data").get(f"{name}/{version}".lower()):
                found[asset_id] = {"uri": document["properties"]["dataUri"], "type": "uri_folder"}
        return answer({"values": found})

    def mlflow(self, call: Call) -> Response:
        """Answer a request of MLflow."""
        try:
            self._allow(call, "read" if call.request.method == "GET" or call["rest"].endswith("search") else "write")
        except Refused as refusal:
            code = {401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED"}.get(refusal.status, "RESOURCE_DOES_NOT_EXIST")
            message = refusal.body["error"]["message"]
            raise Refused(refusal.status, {"error_code": code, "message": message}, refusal.headers) from None
        return self._tracking.answer(call)

    def _allow(self, call: Call, verb: str) -> None:
        self._workspace.allow_here(call, f"workspaces/experiments/runs/{verb}", DATA_SCIENTIST)

    def _run(self, name: str) -> Document:
        job: Document | None = self._jobs.get(name)
        if job is None:
            raise not_found(f"Run {name}")
        properties = job["properties"]
        ended = properties["status"] == "Completed"
        outputs = [key for key in properties["outputs"] if key != "default" and ended]
        prefix = f"azureml://locations/{self._workspace.names.location}/workspaces/{self._workspace.guid}/data"
        error = {"error": {"code": "UserError", "message": job["_error"]}} if job.get("_error") else None
        return {
            "runId": name,
            "rootRunId": name,
            "experimentId": properties["experimentName"],
            "status": self._workspace.estate.faults.word("job-state") or properties["status"],
            "displayName": properties["displayName"],
            "tags": properties["tags"],
            "properties": properties["properties"],
            "hidden": properties["isArchived"],
            "runType": "azureml.scriptrun",
            "createdUtc": job["systemData"]["createdAt"],
            "startTimeUtc": job.get("_started"),
            "endTimeUtc": job.get("_ended"),
            "error": error,
            "inputs": {},
            "outputs": {
                key: {"assetId": f"{prefix}/{data_name(name, key)}/versions/1", "type": "uri_folder"} for key in outputs
            },
        }
