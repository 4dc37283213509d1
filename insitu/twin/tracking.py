"""MLflow of the workspace: a real MLflow server, in which each job is the run of its name."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from threading import Lock
from typing import Any
from urllib.parse import parse_qsl, urlencode

import urllib3
from starlette.responses import Response

from insitu.twin.job_runner import ENDED
from insitu.twin.machine_learning import Call, Document, Workspace
from insitu.twin.mlflow_server import start_mlflow
from insitu.twin.web import Refused

_RUN_ID = re.compile(rb"\b[0-9a-f]{32}\b")
_RUN_KEYS = ("run_id", "run_uuid", "run_ids", "runId")
_ENDS: Mapping[str, str] = {"Completed": "FINISHED", "Failed": "FAILED", "Canceled": "KILLED"}
_PLAYED = re.compile(r"api/2\.0/mlflow/(experiments|runs|metrics|artifacts)/")
_API = "/api/2.0/mlflow"


class Tracking:
    """Answers MLflow's own requests; its server starts when it is first asked for."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace, self._shelf = workspace, workspace.shelf("runs")
        self._pool = urllib3.PoolManager(timeout=urllib3.Timeout(connect=10, read=120))
        self._port = 0
        self._lock = Lock()

    def answer(self, call: Call) -> Response:
        """Return what MLflow answers; the name of a job stands for its run."""
        path = call["rest"]
        if not _PLAYED.match(path):
            # The tracking API of version 2 is all that the workspace has; clients fall back, or fail as they would.
            raise Refused(404, {"error_code": "ENDPOINT_NOT_FOUND", "message": f"/{path} is not implemented."})
        self._sync()
        known = {name: self._shelf.get(name)["run"] for name in self._shelf.names()}
        query = urlencode([(k, known.get(v, v) if k in _RUN_KEYS else v) for k, v in parse_qsl(call.request.url.query)])
        told = _renamed(json.loads(call.body), known) if call.body else None
        status, content = self._exchange(call.request.method, f"/{path}?{query}", told)
        if status == 200 and told is not None:
            self._take_over_tags(path, told)
        names = {run.encode(): name.encode() for name, run in known.items()}
        content = _RUN_ID.sub(lambda match: names.get(match[0], match[0]), content)
        return Response(content, status, media_type="application/json")

    def _sync(self) -> None:
        """Let every job be a run, which has ended when the job has."""
        with self._lock:
            if not self._port:
                artifacts = f"azureml://{self._workspace.api_host}/mlflow/v2.0{self._workspace.id}/experiments"
                program, self._port = start_mlflow(self._workspace.estate.folder / "mlflow", artifacts)
                self._workspace.estate.at_end(program.stop)
            jobs = self._workspace.shelf("jobs")
            for name in jobs.names():
                self._sync_job(jobs.get(name))

    def _sync_job(self, job: Document) -> None:
        name, status = job["name"], job["properties"]["status"]
        run = self._shelf.get(name) or self._started(job)
        if status in ENDED and run["status"] == "RUNNING":
            run["status"] = _ENDS[status]
            told = {"run_id": run["run"], "status": run["status"], "end_time": _milliseconds(job["_ended"])}
            self._ask("runs/update", told)
        self._shelf.put(name, run)

    def _started(self, job: Document) -> Document:
        tags = {**job["properties"]["tags"], "mlflow.user": self._workspace.names.client}
        asked = {
            "experiment_id": self._experiment(job["properties"]["experimentName"]),
            "run_name": job["properties"]["displayName"],
            "start_time": _milliseconds(job["systemData"]["createdAt"]),
            "tags": [{"key": key, "value": str(value)} for key, value in tags.items()],
        }
        return {"run": self._ask("runs/create", asked)["run"]["info"]["run_id"], "status": "RUNNING"}

    def _experiment(self, name: str) -> str:
        query = urlencode({"experiment_name": name})
        status, content = self._exchange("GET", f"{_API}/experiments/get-by-name?{query}")
        if status == 200:
            return str(json.loads(content)["experiment"]["experiment_id"])
        return str(self._ask("experiments/create", {"name": name})["experiment_id"])

    def _take_over_tags(self, path: str, told: Document) -> None:
        """Let tags that a run of a job was given be the job's."""
        pairs = told.get("tags", []) if path.endswith("log-batch") else [told] if path.endswith("set-tag") else []
        tags = {pair["key"]: pair["value"] for pair in pairs if not pair["key"].startswith("mlflow.")}
        runs = {self._shelf.get(name)["run"]: name for name in self._shelf.names()}
        name = runs.get(told.get("run_id") or told.get("run_uuid"))
        if name and tags:
            with self._workspace.shelf("jobs").changing() as jobs:
                jobs[name]["properties"]["tags"].update(tags)

    def _ask(self, path: str, told: Document) -> Any:
        status, content = self._exchange("POST", f"{_API}/{path}", told)
        if status != 200:
            raise Refused(status, json.loads(content))
        return json.loads(content)

    def _exchange(self, method: str, target: str, told: Any = None) -> tuple[int, bytes]:
        body = None if told is None else json.dumps(told).encode()
        headers = {"Content-Type": "application/json"} if body else {}
        url = f"http://127.0.0.1:{self._port}{target}"
        answer = self._pool.request(method, url, body=body, headers=headers, retries=False)
        return answer.status, answer.data


def _milliseconds(time: str) -> int:
    return int(datetime.fromisoformat(time).timestamp() * 1000)


def _renamed(value: Any, known: Mapping[str, str]) -> Any:
    """Return a request in which runs have MLflow's own ids."""
    if not isinstance(value, dict):
        return value
    renamed = dict(value)
    for key in _RUN_KEYS:
        if isinstance(value.get(key), str):
            renamed[key] = known.get(value[key], value[key])
    return renamed
