"""Runs the jobs of the workspace: each fetches its code from the workspace's blobs and runs as a process here.

What it sends and fetches goes through the estate's proxy, as from a machine of the site: the log of egress shows it.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Event, Lock, Semaphore, Thread

from insitu.errors import InsituError
from insitu.twin.assets import Assets
from insitu.twin.machine_learning import Document, Workspace, now
from insitu.twin.programs import Program, start
from insitu.twin.sas import SignedBlobs
from insitu.twin.workspace_blob import outside

ENDED = ("Completed", "Failed", "Canceled")
_LOOK_S, _UPLOAD_S, _END_S = 0.1, 1.0, 20.0
_CLUSTER_JOBS = 4
_DURATION = re.compile(r"PT(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)(?:\.\d+)?S)?")


class _Canceled(Exception):
    """Somebody wants the job to end."""


class _Failed(Exception):
    """The job ended badly; holds what is said of it."""


@dataclass
class _Run:
    """One job that is under way."""

    name: str
    canceled: Event = field(default_factory=Event)
    thread: Thread | None = None


class JobRunner:
    """Runs jobs: one at a time on a machine, a few on a cluster."""

    def __init__(self, workspace: Workspace, assets: Assets) -> None:
        self._workspace, self._assets, self._estate = workspace, assets, workspace.estate
        self._shelf = workspace.shelf("jobs")
        self._runs: dict[str, _Run] = {}
        self._turns: dict[str, Semaphore] = {}
        self._lock = Lock()
        self._ending = Event()
        for name in self._shelf.names():
            if self._shelf.get(name)["properties"]["status"] not in ENDED:
                self._set(name, "Failed", error="The twin was stopped while the job was under way.")
        self._estate.at_end(self.stop)

    def start(self, name: str) -> None:
        """Let the job *name* run."""
        run = _Run(name)
        run.thread = Thread(target=self._run, args=[run], name=f"job {name}", daemon=True)
        with self._lock:
            self._runs[name] = run
        run.thread.start()

    def cancel(self, name: str) -> None:
        """Ask the job to end."""
        with self._lock:
            run = self._runs.get(name)
        if run:
            run.canceled.set()
            with self._shelf.changing() as jobs:
                if jobs[name]["properties"]["status"] not in ENDED:
                    jobs[name]["properties"]["status"] = "CancelRequested"

    def stop(self) -> None:
        """End every job, whose log then stays as far as it was sent; return when they are gone."""
        self._ending.set()
        with self._lock:
            runs = list(self._runs.values())
        for run in runs:
            run.canceled.set()
        for run in runs:
            assert run.thread
            run.thread.join(_END_S)

    @cached_property
    def _blobs(self) -> SignedBlobs:
        return outside(self._estate)

    def _run(self, run: _Run) -> None:
        state, error = "Completed", ""
        try:
            self._work(run)
        except _Canceled:
            state = "Canceled"
        except (_Failed, InsituError) as exc:
            state, error = "Failed", str(exc)
        self._set(run.name, state, error=error)
        with self._lock:
            del self._runs[run.name]

    def _work(self, run: _Run) -> None:
        job = self._shelf.get(run.name)["properties"]
        with self._lock:
            turn = self._turns.setdefault(str(job["computeId"]).lower(), Semaphore(1 if _is_vm(job) else _CLUSTER_JOBS))
        self._set(run.name, "Queued")
        self._await_turn(run, turn, job)
        try:
            self._set(run.name, "Preparing")
            folder = self._prepare(job, run.name)
            self._execute(run, job, folder)
        finally:
            turn.release()

    def _await_turn(self, run: _Run, turn: Semaphore, job: Document) -> None:
        while self._estate.faults.holds("queue-stuck") or self._is_down(job) or not turn.acquire(timeout=_LOOK_S):
            if run.canceled.wait(_LOOK_S):
                raise _Canceled

    def _is_down(self, job: Document) -> bool:
        """Tell whether the machine that the job is for does not run; clusters always do."""
        return _is_vm(job) and self._estate.machine.power != "running"

    def _prepare(self, job: Document, name: str) -> Path:
        """Fetch the job's code, as it was uploaded; return the job's folder."""
        folder = self._estate.folder / "jobs" / name
        for part in ("code", "outputs", "logs"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        if job.get("codeId"):
            code, version = str(job["codeId"]).split("/")[-3], str(job["codeId"]).split("/")[-1]
            document = self._assets.known("codes", code, version)
            assert document is not None  # looked at when the job was made
            container, _, prefix = str(document["properties"]["codeUri"]).split("/", 3)[3].partition("/")
            for blob in self._blobs.names(container, prefix.rstrip("/") + "/"):
                self._fetch(container, blob, folder / "code" / blob.removeprefix(prefix.rstrip("/") + "/"))
        return folder

    def _fetch(self, container: str, blob: str, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(self._blobs.read(container, blob))

    def _execute(self, run: _Run, job: Document, folder: Path) -> None:
        outputs = {name: folder / "outputs" / name for name in job["outputs"] if name != "default"}
        for place in outputs.values():
            place.mkdir(exist_ok=True)
        environ = self._environment(run.name, job, outputs)
        words = ["env", "-i", f"--chdir={folder / 'code'}", *(f"{key}={value}" for key, value in environ.items())]
        command = [*words, "bash", "-c", _resolved(job, outputs)]
        self._set(run.name, "Running")
        log = _Log(self._blobs, self._workspace.artifacts, run.name, folder / "logs" / "std_log.txt")
        program = start(f"job {run.name}", command, log.file)
        try:
            code = self._await_end(run, job, program, log)
        finally:
            program.stop()
            if not self._ending.is_set():
                log.upload()
        self._set(run.name, "Finalizing")
        self._collect(run.name, job, outputs)
        if code:
            raise _Failed(
                f"Execution failed. User process '{job['command'].split()[0]}' exited with status code {code}."
            )

    def _await_end(self, run: _Run, job: Document, program: Program, log: _Log) -> int:
        """Return the exit code of the job's process."""
        started, uploaded = time.monotonic(), 0.0
        limit_s = _seconds((job.get("limits") or {}).get("timeout"))
        while (code := program.process.poll()) is None:
            elapsed = time.monotonic() - started
            if run.canceled.wait(_LOOK_S) or (limit_s and elapsed > limit_s):
                raise _Canceled
            if self._is_down(job):
                program.stop()
                self._await_machine(run, job)
            if elapsed - uploaded > _UPLOAD_S:
                log.upload()
                uploaded = elapsed
        return code

    def _await_machine(self, run: _Run, job: Document) -> None:
        """Wait with a job whose machine went away: nobody hears of it until the machine is back."""
        self._set(run.name, "NotResponding")
        while self._is_down(job):
            if run.canceled.wait(_LOOK_S):
                raise _Canceled
        raise _Failed("The machine went away while the job ran.")

    def _collect(self, name: str, job: Document, outputs: Mapping[str, Path]) -> None:
        """Upload what the job left in its named outputs, and enter each as data of the workspace."""
        for output, place in outputs.items():
            uri = str(job["outputs"][output]["uri"])
            datastore, path = self._workspace.path_of(uri)
            for file in _files(place):
                blob = f"{path}/{file.relative_to(place).as_posix()}"
                self._blobs.put(self._workspace.datastores()[datastore], blob, file.read_bytes())
            held = {"dataType": "uri_folder", "dataUri": self._workspace.long_uri(datastore, path + "/")}
            self._assets.add("data", data_name(name, output), "1", held)

    def _environment(self, name: str, job: Document, outputs: Mapping[str, Path]) -> dict[str, str]:
        """Return the variables of the job's process: those of a login on the VM, the service's and the job's own."""
        names, here = self._workspace.names, self._workspace
        return {
            **self._estate.machine.environ,
            "LANG": "C.UTF-8",
            "AZUREML_RUN_ID": name,
            "AZUREML_ARM_SUBSCRIPTION": names.subscription,
            "AZUREML_ARM_RESOURCEGROUP": names.group,
            "AZUREML_ARM_WORKSPACE_NAME": names.workspace,
            "AZUREML_ARM_PROJECT_NAME": job["experimentName"],
            "MLFLOW_TRACKING_URI": f"azureml://{here.api_host}/mlflow/v1.0{here.id}",
            "MLFLOW_EXPERIMENT_NAME": job["experimentName"],
            "MLFLOW_RUN_ID": name,
            **{f"AZURE_ML_OUTPUT_{output}": str(place) for output, place in outputs.items()},
            **(job.get("environmentVariables") or {}),
        }

    def _set(self, name: str, state: str, *, error: str = "") -> None:
        """Write down how far a job is, unless it is to end."""
        with self._shelf.changing() as jobs:
            job = jobs[name]
            if state in ENDED or job["properties"]["status"] != "CancelRequested":
                job["properties"]["status"] = state
            if state == "Running":
                job["_started"] = now()
            if state in ENDED:
                job["_ended"], job["_error"] = now(), error


class _Log:
    """What a job prints, which grows in the workspace's blobs while it runs."""

    def __init__(self, blobs: SignedBlobs, container: str, job: str, file: Path) -> None:
        self.file, self._blobs, self._container = file, blobs, container
        self._blob = f"ExperimentRun/dcid.{job}/user_logs/std_log.txt"
        self._sent_bytes = 0
        blobs.start_log(container, self._blob)

    def upload(self) -> None:
        """Send what is new, in pieces that the service takes."""
        with open(self.file, "rb") as log:
            log.seek(self._sent_bytes)
            while piece := log.read(4 << 20):
                self._blobs.append(self._container, self._blob, piece, self._sent_bytes)
                self._sent_bytes += len(piece)


def data_name(job: str, output: str) -> str:
    """Return the name of the data asset that an output becomes."""
    return f"azureml_{job}_output_data_{output}"


def _is_vm(job: Document) -> bool:
    return bool(job["properties"]["_azureml.ComputeTargetType"] == "VirtualMachine")


def _files(folder: Path) -> Iterator[Path]:
    yield from (path for path in sorted(folder.rglob("*")) if path.is_file())


def _resolved(job: Document, outputs: Mapping[str, Path]) -> str:
    """Return the command with its `${{…}}` replaced."""

    def word(match: re.Match[str]) -> str:
        side, name = match[1], match[2]
        if side == "outputs":
            return str(outputs[name])
        given = job["inputs"][name]
        return str(given.get("value", given.get("uri")))

    try:
        return re.sub(r"\$\{\{\s*(inputs|outputs)\.(\w+)\s*\}\}", word, str(job["command"]))
    except KeyError as exc:
        raise _Failed(f"The command names {json.dumps(exc.args[0])}, which is none of the job's.") from None


def _seconds(duration: str | None) -> float:
    """Return the seconds of a duration such as PT1H30M; 0 is without end."""
    match = _DURATION.fullmatch(duration or "")
    hours, minutes, seconds = (int(part or 0) for part in match.groups()) if match else (0, 0, 0)
    return hours * 3600 + minutes * 60 + seconds
