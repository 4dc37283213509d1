"""Runs in the experiments of a workspace: MLflow's REST interface, which the workspace speaks for every client.

Tags and metrics are all that goes there. Nothing is created before it was looked for, and a request that
creates is sent once: when its answer is lost, looking tells what became of it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from azure.core import PipelineClient
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError
from azure.core.pipeline.policies import BearerTokenCredentialPolicy, ProxyPolicy, RetryPolicy
from azure.core.rest import HttpRequest

from insitu.adapters.azure.answers import OPTIONS, translated
from insitu.adapters.azure.workspace import Workspace
from insitu.errors import BackendUnavailable, InsituError, RegistryFailed
from insitu.ports import RUN_KEY, Check
from insitu.readiness import failed_check

log = logging.getLogger(__name__)

_METRIC = "metric."


class Experiments:
    """The experiments of a workspace.

    Args:
        jobs_are_runs: Whether the workspace runs the jobs itself: a job's run has the job's name.
    """

    def __init__(self, workspace: Workspace, jobs_are_runs: bool) -> None:
        self.workspace, self.jobs_are_runs = workspace, jobs_are_runs

    def record(self, model: str, run_key: str, job_id: str, tags: Mapping[str, str]) -> None:
        """Give the run its tags and metrics, once.

        Raises:
            RegistryFailed: The workspace records nothing. Where it runs the jobs that is only told: the job itself
                bears the run key, and the version of its model all that would stand here.
            AccessRefused: A right is missing.
            BackendUnavailable: No answer.
        """
        try:
            self._record(model, run_key, job_id, tags)
        except RegistryFailed as error:
            if not self.jobs_are_runs:
                raise
            log.warning("job %s is there without tags and metrics: %s: %s", job_id, error.what, error.found)
        except (LookupError, TypeError, AttributeError) as exc:
            what = f"the experiments of {self.workspace.name} do not answer as they should"
            raise BackendUnavailable(what, found=type(exc).__name__) from None

    def check(self) -> Check | None:
        """Tell whether runs can be recorded, by looking for one; None where nothing will be. Never raises."""
        wanted = f"{self.workspace.name} tells where runs are recorded, and answers there"
        try:
            if self.jobs_are_runs and not self._address:
                return None
            self._ask("GET", "experiments/get-by-name", {"experiment_name": "insitu"})
        except RegistryFailed as error:
            if not self.jobs_are_runs:
                return failed_check("experiments", error, wanted)
        except InsituError as error:
            return failed_check("experiments", error, wanted)
        return Check("experiments", True, f"answer at {urlsplit(self._address).netloc}", wanted)

    def _record(self, model: str, run_key: str, job_id: str, tags: Mapping[str, str]) -> None:
        if self.jobs_are_runs and not self._address:
            return  # the job itself, which bears the run key, is all that such a workspace shows of a run
        run = (self._get(job_id) if self.jobs_are_runs else None) or self._own(model, run_key)
        held = {metric["key"] for metric in run.get("data", {}).get("metrics", [])}
        metrics = {key.removeprefix(_METRIC): float(value) for key, value in tags.items() if key.startswith(_METRIC)}
        words = {key: value for key, value in tags.items() if not key.startswith(_METRIC)} | {RUN_KEY: run_key}
        run_id, now_ms = run["info"]["run_id"], _now_ms()
        batch = {
            "run_id": run_id,
            "metrics": [
                {"key": key, "value": value, "timestamp": now_ms, "step": 0}
                for key, value in metrics.items()
                if key not in held
            ],
            "params": [],
            "tags": _pairs(words),
        }
        self._require("POST", "runs/log-batch", batch)
        if run_id != job_id:
            self._require("POST", "runs/update", {"run_id": run_id, "status": "FINISHED", "end_time": now_ms})

    def _own(self, model: str, run_key: str) -> dict[str, Any]:
        """Return the run of this run key, made at need."""
        experiment = self._experiment(model)
        if found := self._find(experiment, run_key):
            return found
        asked = {
            "experiment_id": experiment,
            "run_name": run_key[:12],
            "start_time": _now_ms(),
            "tags": _pairs({RUN_KEY: run_key}),
        }
        try:
            made: dict[str, Any] = self._require("POST", "runs/create", asked)["run"]
        except InsituError:
            if found := self._find(experiment, run_key):
                return found
            raise
        return made

    def _experiment(self, model: str) -> str:
        for last in (False, True):
            if found := self._ask("GET", "experiments/get-by-name", {"experiment_name": model}):
                return str(found["experiment"]["experiment_id"])
            if last:
                break
            try:
                self._require("POST", "experiments/create", {"name": model})
            except InsituError:
                continue  # it was made, by us or by another, or the next look fails as well
        raise BackendUnavailable(f"{self.workspace.name} has not made the experiment {model} yet")

    def _find(self, experiment: str, run_key: str) -> dict[str, Any] | None:
        asked = {
            "experiment_ids": [experiment],
            "filter": f"tags.`{RUN_KEY}` = '{run_key}'",
            "max_results": 1,
        }
        runs = self._require("POST", "runs/search", asked).get("runs") or [None]
        found: dict[str, Any] | None = runs[0]
        return found

    def _get(self, run_id: str) -> dict[str, Any] | None:
        found = self._ask("GET", "runs/get", {"run_id": run_id})
        return found["run"] if found else None

    def _require(self, method: str, path: str, values: Mapping[str, Any]) -> Any:
        found = self._ask(method, path, values)
        if found is None:
            raise RegistryFailed(f"{self.workspace.name} does not know what a run is recorded in", found=f"404 {path}")
        return found

    def _ask(self, method: str, path: str, values: Mapping[str, Any]) -> Any:
        """Return the JSON answer, None when there is no such thing; a stale token is asked for anew, once."""
        what = f"the experiments of {self.workspace.name}"
        if not self._address:
            raise RegistryFailed(
                f"{self.workspace.name} has no experiments: it names no address of MLflow",
                next_action="see whether the workspace is whole; its page in the portal shows an MLflow tracking URI",
            )
        with translated(what, RegistryFailed):
            try:
                return self._send(what, method, path, values)
            except ClientAuthenticationError as exc:
                if exc.status_code != 401:
                    raise
            self.workspace.forget()
            self.__dict__.pop("_client", None)
            return self._send(what, method, path, values)

    def _send(self, what: str, method: str, path: str, values: Mapping[str, Any]) -> Any:
        body: dict[str, Any] = {"params": values} if method == "GET" else {"json": values}
        request = HttpRequest(method, f"{self._address}/api/2.0/mlflow/{path}", **body)
        once: dict[str, Any] = {} if method == "GET" else {"retry_total": 0}
        response = self._client.send_request(request, **once)
        if response.status_code == 404:
            return None
        if response.status_code == 401:
            raise ClientAuthenticationError(response=response)
        if response.status_code >= 300:
            raise HttpResponseError(response=response)
        try:
            return response.json()
        except ValueError:
            raise BackendUnavailable(f"{what} do not answer as they should", found="no JSON") from None

    @cached_property
    def _address(self) -> str:
        """Where the workspace speaks MLflow; it says so itself, for plugins that know its scheme. Empty: nowhere."""
        found = self.workspace.ask(lambda client: client.workspaces.get(self.workspace.settings.workspace))
        return str(found.mlflow_tracking_uri or "").replace("azureml://", "https://", 1).rstrip("?/")

    @cached_property
    def _client(self) -> PipelineClient[Any, Any]:
        identity = self.workspace.identity
        times = {name: OPTIONS[name] for name in ("connection_timeout", "read_timeout")}
        policies = [
            ProxyPolicy(),
            RetryPolicy(**OPTIONS),
            BearerTokenCredentialPolicy(identity, identity.endpoints.scope),
        ]
        return PipelineClient(self._address, policies=policies, **times)


def _pairs(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in values.items()]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
