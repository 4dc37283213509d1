"""Jobs of the workspace: command jobs on attached compute, made once under a name, watched and canceled."""

from __future__ import annotations

import re
from collections.abc import Mapping
from uuid import uuid4

from starlette.responses import Response
from starlette.routing import Route

from insitu.twin.assets import Assets, page
from insitu.twin.estate import MANAGEMENT
from insitu.twin.job_runner import ENDED, JobRunner
from insitu.twin.machine_learning import (
    PROVIDER,
    SCOPE,
    Call,
    Document,
    Workspace,
    answer,
    not_found,
    route,
    user_error,
)

OPERATIONS = f"/subscriptions/{{sub}}/providers/{PROVIDER}/locations/{{location}}/mfeOperationResults/{{operation}}"
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,254}")
_CHANGEABLE = {"description", "tags", "displayName", "properties", "isArchived"}
_VERSION = re.compile(r".*/(?P<kind>codes|environments)/(?P<name>[^/]+)/(versions|labels)/(?P<version>[^/]+)$")
_EXISTS = (
    "A job with this name already exists. If you are trying to create a new job, use a different name. If you are "
    "trying to update an existing job, the existing job's {} cannot be changed. Only description, tags, displayName, "
    "properties, and isArchived can be updated."
)


class Jobs:
    """The jobs of a workspace, as the resource manager shows them."""

    def __init__(self, workspace: Workspace, assets: Assets, runner: JobRunner) -> None:
        self._workspace, self._assets, self._runner = workspace, assets, runner
        self._shelf = workspace.shelf("jobs")

    def routes(self) -> list[Route]:
        """Return the routes."""
        one = SCOPE + "/jobs/{name}"
        return [
            route(SCOPE + "/jobs", "GET", work=self.all),
            route(one, "GET", work=self.get),
            route(one, "PUT", work=self.put),
            route(one + "/cancel", "POST", work=self.cancel),
            route(OPERATIONS, "GET", work=self.operation),
        ]

    def all(self, call: Call) -> Response:
        """Return every job, newest first."""
        self._workspace.allow(call, "workspaces/jobs/read")
        jobs = sorted(
            (self._shelf.get(name) for name in self._shelf.names()),
            key=lambda job: str(job["systemData"]["createdAt"]),
            reverse=True,
        )
        view, tag = call.query("listViewType", "ActiveOnly"), call.query("tag")
        return answer(page(call, [self._shown(job) for job in jobs if _is_asked_for(job["properties"], view, tag)]))

    def get(self, call: Call) -> Response:
        """Return one job."""
        self._workspace.allow(call, "workspaces/jobs/read")
        return answer(self._shown(self._one(call)))

    def put(self, call: Call) -> Response:
        """Start a job, or change the words about one that there is."""
        self._workspace.allow(call, "workspaces/jobs/write")
        name, asked = call["name"], call.json.get("properties") or {}
        with self._shelf.changing() as jobs:
            earlier = jobs.get(name)
            if earlier:
                jobs[name] = _changed(earlier, asked)
            else:
                self._check(name, asked)
                jobs[name] = self._document(name, asked)
            made: Document = jobs[name]
        if not earlier:
            self._runner.start(name)
        return answer(self._shown(made), 200 if earlier else 201)

    def cancel(self, call: Call) -> Response:
        """Ask a job to end; one that has ended stays as it is."""
        self._workspace.allow(call, "workspaces/jobs/cancel/action")
        job = self._one(call)
        if job["properties"]["status"] in ENDED:
            return Response(status_code=200)
        self._runner.cancel(call["name"])
        names = self._workspace.names
        operation = f"jc:{uuid4()}:{call['name']}"
        path = OPERATIONS.format(sub=names.subscription, location=names.location, operation=operation)
        where = f"https://management.azure.com{path}?api-version={call.query('api-version')}"
        return Response(status_code=202, headers={"Location": where, "Retry-After": "1"})

    def operation(self, call: Call) -> Response:
        """Tell whether a cancel is done."""
        self._workspace.estate.directory.check(call.request.headers, MANAGEMENT, self._workspace.names.tenant)
        job = self._shelf.get(call["operation"].rpartition(":")[2])
        if job and job["properties"]["status"] not in ENDED:
            return Response(status_code=202, headers={"Location": str(call.request.url), "Retry-After": "1"})
        return Response(status_code=200)

    def _one(self, call: Call) -> Document:
        job: Document | None = self._shelf.get(call["name"])
        if job is None:
            raise not_found(f"Job {call['name']}")
        return job

    def _shown(self, job: Document) -> Document:
        """Return a job as its readers see it."""
        shown = {key: value for key, value in job.items() if not key.startswith("_")}
        word = self._workspace.estate.faults.word("job-state")
        return {**shown, "properties": {**job["properties"], "status": word}} if word else shown

    def _check(self, name: str, asked: Document) -> None:
        """Refuse a job that could never run."""
        if not _NAME.fullmatch(name):
            raise user_error("A job's name is made of letters, digits, - and _, 255 of them at most.")
        if asked.get("jobType") != "Command":
            raise user_error(f"The twin runs jobs of type Command only, not {asked.get('jobType')}.")
        if not str(asked.get("command") or "").strip():
            raise user_error("The Command field is required.")
        self._check_compute(str(asked.get("computeId") or ""))
        if asked.get("codeId"):
            self._check_asset(str(asked["codeId"]))
        self._check_asset(str(asked.get("environmentId") or ""))

    def _check_compute(self, compute_id: str) -> None:
        name = compute_id.rpartition("/computes/")[2]
        if not compute_id.lower().startswith(self._workspace.id.lower()) or not self._compute(name):
            raise user_error(f"Cannot find compute {name or compute_id} in the workspace.")

    def _compute(self, name: str) -> Document | None:
        compute: Document | None = self._workspace.shelf("computes").get(name.lower())
        return compute

    def _check_asset(self, asset_id: str) -> None:
        if asset_id.startswith("azureml://registries/azureml/environments/"):
            return
        match = _VERSION.fullmatch(asset_id)
        version = f"@{match['version']}" if match and "/labels/" in asset_id else match and match["version"]
        if not match or not self._assets.known(match["kind"], match["name"], str(version)):
            raise user_error(f"Asset {asset_id.rpartition('/workspaces/')[2]} of the job does not exist.")

    def _document(self, name: str, asked: Document) -> Document:
        compute = self._compute(str(asked["computeId"]).rpartition("/")[2]) or {"properties": {}}
        experiment = asked.get("experimentName") or "Default"
        held = {"_azureml.ComputeTargetType": compute["properties"].get("computeType")}
        properties = {
            "description": None,
            "displayName": name,
            "tags": {},
            "isArchived": False,
            "inputs": {},
            **{key: value for key, value in asked.items() if value is not None},
            "experimentName": experiment,
            "properties": {**(asked.get("properties") or {}), **held},
            "outputs": _outputs(name, asked.get("outputs") or {}),
            "status": "NotStarted",
            "services": self._services(name),
        }
        return {
            "id": f"{self._workspace.id}/jobs/{name}",
            "name": name,
            "type": f"{PROVIDER}/workspaces/jobs",
            "properties": properties,
            "systemData": self._workspace.system_data(),
            "_asked": asked,
        }

    def _services(self, name: str) -> Document:
        here, names = self._workspace, self._workspace.names
        place = f"/subscriptions/{names.subscription}/resourcegroups/{names.group}/workspaces/{names.workspace}"
        tracking = f"azureml://{here.api_host}/mlflow/v1.0{here.id}?"
        studio = f"https://ml.azure.com/runs/{name}?wsid={place}"
        return {
            "Tracking": {"jobServiceType": "Tracking", "endpoint": tracking, "port": None, "status": None},
            "Studio": {"jobServiceType": "Studio", "endpoint": studio, "port": None, "status": None},
        }


def _outputs(name: str, asked: Mapping[str, Document | None]) -> Document:
    """Return the outputs of a job, and where each of them goes."""
    outputs: Document = {
        "default": {
            "jobOutputType": "uri_folder",
            "mode": "ReadWriteMount",
            "uri": f"azureml://datastores/workspaceartifactstore/ExperimentRun/dcid.{name}",
        }
    }
    for key, value in asked.items():
        told = {item: word for item, word in (value or {}).items() if word is not None}
        place = f"azureml://datastores/workspaceblobstore/paths/azureml/{name}/{key}/"
        outputs[key] = {"jobOutputType": "uri_folder", "mode": "ReadWriteMount", "uri": place, **told}
    return outputs


def _changed(job: Document, asked: Document) -> Document:
    """Return *job* with other words about it; raise `Refused` when more would change."""
    known: Document = job["_asked"]
    keys = {*known, *asked} - _CHANGEABLE
    changed = sorted(key[0].upper() + key[1:] for key in keys if known.get(key) != asked.get(key))
    if changed:
        raise user_error(_EXISTS.format(",  ".join(changed)))
    told = {key: asked[key] for key in _CHANGEABLE & set(asked) if asked[key] is not None}
    for key in ("tags", "properties"):
        told[key] = {**job["properties"][key], **told.get(key, {})}
    return {**job, "properties": {**job["properties"], **told}}


def _is_asked_for(properties: Document, view: str, tag: str) -> bool:
    if view != "All" and bool(properties["isArchived"]) is not (view == "ArchivedOnly"):
        return False
    return not tag or tag in properties["tags"] or tag in (f"{k}={v}" for k, v in properties["tags"].items())
