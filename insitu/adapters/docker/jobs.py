"""Edge jobs as containers of a Docker host at the site.

A container is named for its job, so that it is found again by whoever asks; it sees the code of the job, a
scratch folder, the secrets of the stores (files of the host, read-only), and nothing else of its machine. It
runs as nobody, on a root that cannot be written, without a right that it does not need, and without a network: to
stores that are services it is led by a proxy in a container beside it, through a socket in the scratch folder.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docker.errors import APIError

from insitu.adapters.docker.container import CODE, Container, archive_of, container_name, proxy_name
from insitu.adapters.docker.host import DockerHost
from insitu.adapters.docker.image import ensure_image, image_check
from insitu.adapters.remote import Launch, RemoteJobs
from insitu.adapters.staging import on_the_machine, state_spec
from insitu.crashpoints import crashpoint
from insitu.errors import InsituError, NotReady, TrainingFailed
from insitu.ports import BlobStore, Check, JobStatus
from insitu.settings import DockerTraining, SiteSettings

_GRACE_S, _GONE_S, _LOOK_S = 10, 60.0, 0.2
_KILLED = 137


@dataclass(frozen=True)
class DockerLauncher:
    """Starts jobs as containers.

    Args:
        host: Where.
        settings: Of the site; its training is of the kind `docker`.
        training: That, `settings.training`.
    """

    host: DockerHost
    settings: SiteSettings
    training: DockerTraining

    def start(self, launch: Launch) -> None:
        """Create the container unless it is there, give it its code, start it; see `Launcher`."""
        name = container_name(launch.job_id)
        found = self.host.container(name)
        try:
            if found is None:
                image = ensure_image(self.host, self.settings, launch.requirements)
                container = Container(self.host, self.settings, self.training)
                self.host.ask(lambda client: container.create(client, image, launch), "create a container")
                crashpoint("docker:created")
            if found is None or _state(found) == "created":
                archive = archive_of(launch.code)
                self.host.ask(lambda client: client.put_archive(name, CODE, archive), "take the code of a job")
                Container(self.host, self.settings, self.training).ensure_proxy(launch.job_id, archive)
                self.host.ask(lambda client: client.start(name), "start a container")
        except NotReady as error:
            self.remove(launch.job_id)
            raise TrainingFailed(
                error.what, found=error.found, wanted=error.wanted, next_action=error.next_action
            ) from None

    def look(self, job_id: str) -> JobStatus | None:
        """Return how the container is; one that never started is none, for `start` goes on with it."""
        found = self.host.container(container_name(job_id))
        if found is None or _state(found) == "created":
            return None
        if _state(found) not in ("exited", "dead"):  # running, paused, restarting, or a word that is new
            death = self._without_proxy(job_id)
            return JobStatus("failed", death) if death else JobStatus("running")
        if found["State"]["ExitCode"] == 0:
            return JobStatus("completed")
        return JobStatus("failed", self.death(job_id) or self._last_words(job_id))

    def stop(self, job_id: str) -> None:
        """End and remove the container: politely, then surely; return when it is gone."""
        self.remove(job_id, _GRACE_S)

    def remove(self, job_id: str, grace_s: int = 0) -> None:
        """Remove the container with its scratch folder, and its proxy; what is not there is gone already."""
        name = container_name(job_id)
        if grace_s and (found := self.host.container(name)) and _state(found) == "running":
            self.host.ask(lambda client: _unless_gone(client.stop, name, timeout=grace_s), "stop a container")
        for one in (proxy_name(job_id), name):
            self._remove(one)

    def _remove(self, name: str) -> None:
        deadline = time.monotonic() + _GONE_S
        while self.host.container(name) is not None:
            self.host.ask(
                lambda client: _unless_gone(client.remove_container, name, v=True, force=True), "remove a container"
            )
            if time.monotonic() > deadline:
                raise NotReady(f"the Docker host does not remove container {name}", next_action="see to its daemon")
            time.sleep(_LOOK_S)

    def death(self, job_id: str) -> InsituError | None:
        """Return why the container, or something in it, or its proxy was killed; None when none was."""
        alone = self._without_proxy(job_id)
        found = self._ended(container_name(job_id), _GRACE_S if alone is None else 0)
        state = found.get("State", {})
        if state.get("OOMKilled"):
            limit = self.training.memory_mb
            return TrainingFailed(
                f"the edge job {job_id} used more memory than it may",
                found="killed for want of memory (exit code 137)",
                wanted=f"at most {limit} MB" if limit else "no more than the Docker host has free",
                next_action="raise memory_mb of [training], or let the script need less",
            )
        if state.get("ExitCode") == _KILLED and _state(found) in ("exited", "dead"):
            return TrainingFailed(
                f"the edge job {job_id} was killed on the Docker host",
                found="exit code 137",
                next_action="see whether the host ran out of memory, or was started anew; then start again",
            )
        return alone

    def _without_proxy(self, job_id: str) -> InsituError | None:
        """Return that the job has a proxy which ended; None when it has none, or one that runs."""
        proxy = self.host.container(proxy_name(job_id))
        if proxy and _state(proxy) in ("exited", "dead"):
            return TrainingFailed(
                f"the proxy of the edge job {job_id} ended before the job: that reached its stores no more",
                found=f"exit code {proxy['State']['ExitCode']} of container {proxy_name(job_id)}",
                next_action="see whether the Docker host ran out of memory, or somebody ended it; then start again",
            )
        return None

    def _last_words(self, job_id: str) -> InsituError:
        """Return what the container printed last: phases are all that it prints."""
        name, secret = container_name(job_id), self.training.secrets.state
        user = Container(self.host, self.settings, self.training).user()
        printed = self.host.ask(lambda client: client.logs(name, tail=1), "show a log")
        return TrainingFailed(
            f"the edge job {job_id} ended before it could leave a reason",
            found=printed.decode(errors="replace").strip()[:200] or "it printed nothing",
            next_action=f"see whether user {user} may read {secret} there, and reaches the site's state",
        )

    def _ended(self, name: str, grace_s: int) -> Mapping[str, Any]:
        """Return the container, once it has ended: only then Docker tells whether memory was short."""
        deadline = time.monotonic() + grace_s
        while True:
            found = self.host.container(name) or {}
            if _state(found) != "running" or time.monotonic() > deadline:
                return found
            time.sleep(_LOOK_S)


class DockerJobs(RemoteJobs):
    """`TrainingJobs` on a Docker host; see `RemoteJobs`.

    Args:
        settings: Of the site; its training is of the kind `docker`.
        state: The site's state.
        work: Folder of this machine for code to send and for what jobs left.
    """

    def __init__(self, settings: SiteSettings, state: BlobStore, work: Path) -> None:
        training = settings.training
        assert isinstance(training, DockerTraining)
        secrets = training.secrets
        self.docker = DockerLauncher(DockerHost(training.host), settings, training)
        super().__init__(
            launcher=self.docker,
            state=state,
            state_spec=on_the_machine(state_spec(settings.state), secrets.state, secrets.ca_bundle),
            secrets=secrets,
            work=work,
            backend=training.kind,
            network="none" if training.isolated else "shared",
            poll_s=(1.0, 10.0),
        )

    def status(self, job_id: str) -> JobStatus:
        """Return where the job stands; see `RemoteJobs`. That memory was short, Docker knows better than the job."""
        found = super().status(job_id)
        if found.state == "failed" and (death := self.docker.death(job_id)):
            return JobStatus("failed", death)
        return found

    def cancel(self, job_id: str) -> None:
        """Call the job off and end it, and remove the container of whatever job."""
        super().cancel(job_id)
        self.docker.remove(job_id, _GRACE_S)

    def checks(self) -> Sequence[Check]:
        """Return whether the Docker host answers, has the memory, the image and the files; see `Diagnosable`."""
        host, training = self.docker.host, self.docker.training
        try:
            about: Mapping[str, Any] = host.ask(lambda client: client.info())
        except InsituError as error:
            found = f"{error.what}: {error.found}" if error.found else error.what
            return [Check("docker host", False, found, training.host, error.next_action or "")]
        return [
            Check("docker host", True, f"Docker {about.get('ServerVersion', '')}", training.host),
            _memory_check(about, training),
            image_check(host, training),
        ]


def _state(found: Mapping[str, Any]) -> str:
    return str(found.get("State", {}).get("Status", ""))


def _unless_gone(do: Any, name: str, **options: Any) -> None:
    """Do it to a container that may be gone, or on its way (404, 409)."""
    try:
        do(name, **options)
    except APIError as exc:
        if exc.status_code not in (404, 409):
            raise


def _memory_check(about: Mapping[str, Any], training: DockerTraining) -> Check:
    has_mb = int(about.get("MemTotal", 0)) // 1_000_000
    wanted = f"{training.memory_mb} MB" if training.memory_mb else "any"
    limits = not training.memory_mb or bool(about.get("MemoryLimit"))
    found = f"{has_mb} MB" if limits else f"{has_mb} MB, and no limits: its kernel has no memory cgroup"
    next_action = "mend memory_mb of [training], or give the host more"
    return Check("docker memory", limits and has_mb >= (training.memory_mb or 0), found, wanted, next_action)
