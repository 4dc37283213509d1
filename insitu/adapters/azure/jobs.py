"""Edge jobs as command jobs of Azure Machine Learning, on compute at the site: an attached VM or an Arc cluster.

The service learns a name, code, the address of the site's state and where on the job's machine the secret
is. The job's data, parameters, log and model go through the state alone (`insitu.adapters.remote`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import ResourceNotFoundError

from insitu.adapters.azure.workspace import Workspace, open_workspace, without_git
from insitu.adapters.remote import Launch, RemoteJobs
from insitu.adapters.staging import on_the_machine, state_spec
from insitu.crashpoints import crashpoint
from insitu.egress import Door
from insitu.errors import InsituError, TrainingFailed
from insitu.journal import Journal
from insitu.ports import RUN_KEY, BlobStore, Check, JobPhase, JobState, JobStatus
from insitu.settings import AzureMlTraining, SiteSettings

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

_ENDED: dict[str, JobState] = {"Completed": "completed", "Failed": "failed", "Canceled": "canceled"}
_PHASES: dict[str, JobPhase] = {
    "NotStarted": "queued",
    "Queued": "queued",
    "Starting": "preparing",
    "Provisioning": "preparing",
    "Preparing": "preparing",
}
"""What is neither here nor an end, such as NotResponding, Paused or a word of tomorrow, counts as running."""

_CANCEL_S, _LOOK_S = 180.0, 2.0


class AzureMlJobs(RemoteJobs):
    """`TrainingJobs` of a site whose training is of kind `attached-vm` or `kubernetes`."""

    def __init__(self, settings: SiteSettings, state: BlobStore, work: Path) -> None:
        training = settings.training
        assert isinstance(training, AzureMlTraining)
        assert settings.azure
        secrets = training.secrets
        self.workspace = open_workspace(settings.azure)
        super().__init__(
            launcher=CommandJobs(self.workspace, training, state),
            state=state,
            state_spec=on_the_machine(state_spec(settings.state), secrets.state, secrets.ca_bundle),
            secrets=secrets,
            work=work,
            backend=training.kind,
            network=training.network,
            limits_s={"queued": training.queue_timeout_s, "preparing": training.prepare_timeout_s},
        )

    def checks(self) -> Sequence[Check]:
        """Return whether workspace, compute target and environment are there; never raises."""
        training = self.launcher.training if isinstance(self.launcher, CommandJobs) else None
        return self.workspace.checks(training)


@dataclass(frozen=True)
class CommandJobs:
    """A `Launcher` of command jobs: the job's name is ours, so there is at most one."""

    workspace: Workspace
    training: AzureMlTraining
    state: BlobStore

    def start(self, launch: Launch) -> None:
        """Create the job; when the answer is lost, look whether it is there."""
        ignore = "".join(f"!{path}\n" for path in _files(launch.code))
        (launch.code / ".amlignore").write_text(f"*\n{ignore}")
        told = {"arguments": launch.arguments, "environ": dict(launch.environ), "requirements": launch.requirements}
        door = Door(Journal(self.state, launch.model, launch.run_key))
        door.job(self.workspace.name, {"name": launch.job_id, **told}, launch.code)
        try:
            self.workspace.create(
                lambda client: self._create(client, launch),
                refused=TrainingFailed,
                next_action="see `insitu doctor`: are compute target and environment there?",
            )
        except InsituError:
            if self.look(launch.job_id) is None:
                raise

    def look(self, job_id: str) -> JobStatus | None:
        """Return where the workspace sees the job, in one request."""
        job = self.workspace.find(lambda client: client.jobs.get(job_id), refused=TrainingFailed)
        return job and _status(str(getattr(job.status, "value", job.status)))

    def stop(self, job_id: str) -> None:
        """Cancel the job; raise `TrainingFailed` when the workspace does not say in time that it is over."""
        deadline = time.monotonic() + _CANCEL_S
        self.workspace.ask(lambda client: _cancel(client, job_id), refused=TrainingFailed)
        while (found := self.look(job_id)) and found.state == "running":
            if time.monotonic() > deadline:
                raise TrainingFailed(
                    f"the edge job {job_id} does not end, though it was canceled",
                    found=f"not over after {_CANCEL_S:.0f} s",
                    next_action=f"see to it in {self.workspace.name}, and to the compute target's machine",
                )
            time.sleep(_LOOK_S)

    def _create(self, client: MLClient, launch: Launch) -> Any:
        from azure.ai.ml import Output, command

        training, words = self.training, ("python", *launch.arguments, "--summary", "${{outputs.summary}}")
        job = command(
            name=launch.job_id,
            display_name=f"{launch.model} {launch.run_key[:12]}",
            experiment_name=launch.model,
            compute=training.target,
            environment=_reference(training.environment),
            code=str(launch.code),
            command=" ".join(words),
            environment_variables=dict(launch.environ),
            outputs={"summary": Output(type="uri_folder")},
            tags={RUN_KEY: launch.run_key},
            instance_type=training.instance_type,
        )
        with without_git():
            made = client.jobs.create_or_update(job)
        crashpoint("submit:created")
        return made


def _status(word: str) -> JobStatus:
    if state := _ENDED.get(word):
        return JobStatus(state)
    return JobStatus("running", phase=_PHASES.get(word, "running"))


def _cancel(client: MLClient, job_id: str) -> None:
    try:
        client.jobs.begin_cancel(job_id, polling=False)
    except ResourceNotFoundError:
        return


def _reference(environment: str) -> str:
    """Return how a job names an environment: of one without a version the newest."""
    return f"azureml:{environment}" if ":" in environment else f"{environment}@latest"


def _files(code: Path) -> list[str]:
    return sorted(path.relative_to(code).as_posix() for path in code.rglob("*") if path.is_file())
