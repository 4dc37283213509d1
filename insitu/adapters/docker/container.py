"""What the container of an edge job is: what it sees of its machine, who it runs as, and what it may not do."""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass
from pathlib import Path

import docker
from docker.errors import APIError
from docker.types import DeviceRequest, LogConfig, Mount

from insitu.adapters.docker.host import DockerHost
from insitu.adapters.remote import Launch
from insitu.images.base import USER
from insitu.settings import DockerTraining, FolderStore, SiteSettings

CODE = "/opt/insitu/job"
"""Where a container has the job's code."""

_SCRATCH = "/tmp"  # noqa: S108 - a volume of the container's own: on disk, where a tmpfs would be memory
_MAX_PIDS = 4096


@dataclass(frozen=True)
class Container:
    """How the jobs of a site are contained on a Docker host."""

    host: DockerHost
    settings: SiteSettings
    training: DockerTraining

    def create(self, client: docker.APIClient, image: str, launch: Launch) -> None:
        """Create the job's container; one of its name that is there stays as it is."""
        limit = self.training.memory_mb and self.training.memory_mb * 1_000_000
        gpus = [DeviceRequest(count=-1, capabilities=[["gpu"]])] if self.training.gpu else None
        host_config = client.create_host_config(
            mounts=self.mounts(),
            read_only=True,
            network_mode=self.training.network,
            mem_limit=limit,
            memswap_limit=limit,  # no swap on top
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            pids_limit=_MAX_PIDS,
            init=True,
            device_requests=gpus,
            log_config=LogConfig(type="json-file", config={"max-size": "1m", "max-file": "2"}),
        )
        labels = {"io.insitu.job": launch.job_id, "io.insitu.run_key": launch.run_key, "io.insitu.model": launch.model}
        try:
            client.create_container(
                image,
                ["python", *launch.arguments],
                name=container_name(launch.job_id),
                entrypoint=[],
                working_dir=CODE,
                user=self.user(),
                environment={**launch.environ, **self._surroundings()},
                labels=labels,
                volumes=[CODE, _SCRATCH],
                host_config=host_config,
            )
        except APIError as exc:
            if exc.status_code != 409:  # an answer was lost, and the container is there
                raise

    def mounts(self) -> list[Mount]:
        """Return what a job sees of the host: secrets or, of stores that are folders, those."""
        data, state, secrets = self.settings.data, self.settings.state, self.training.secrets
        found = [
            _bind(data.root) if isinstance(data, FolderStore) else _bind(secrets.data),
            _bind(state.root, read_only=False) if isinstance(state, FolderStore) else _bind(secrets.state),
        ]
        return found + ([_bind(secrets.ca_bundle)] if secrets.ca_bundle else [])

    def user(self) -> str:
        """Return whom a job runs as: the owner of its state or of the secret, where that is here and not root's.

        A folder that is the state has no other who may write it, so its owner may be root.
        """
        state, secret = self.settings.state, Path(self.training.secrets.state)
        if isinstance(state, FolderStore):
            owner = state.root.stat()
        elif self.host.address.startswith("unix:") and secret.exists() and secret.stat().st_uid:
            owner = secret.stat()
        else:
            return USER
        return f"{owner.st_uid}:{owner.st_gid}"

    def _surroundings(self) -> dict[str, str]:
        """Return the standard variables for the way out, as the site's [network] says."""
        network, bundle = self.settings.network, self.training.secrets.ca_bundle
        proxy = dict.fromkeys(("HTTPS_PROXY", "https_proxy"), network.proxy) if network.proxy else {}
        direct = dict.fromkeys(("NO_PROXY", "no_proxy"), ",".join(network.no_proxy)) if network.no_proxy else {}
        trust = dict.fromkeys(("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"), bundle) if bundle else {}
        return {**proxy, **direct, **trust, "HOME": _SCRATCH, "PYTHONDONTWRITEBYTECODE": "1"}


def container_name(job_id: str) -> str:
    """Return what a job's container is called."""
    return f"insitu-{job_id}"


def archive_of(folder: Path) -> bytes:
    """Return the files of *folder* as a tar archive: readable by everybody, writable by nobody."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path in sorted(folder.rglob("*")):
            info = tar.gettarinfo(path, path.relative_to(folder).as_posix())
            info.uid = info.gid = 0
            info.uname = info.gname = ""
            info.mode = 0o755 if path.is_dir() or info.mode & 0o100 else 0o644
            with path.open("rb") if path.is_file() else io.BytesIO() as content:
                tar.addfile(info, content)
    return buffer.getvalue()


def _bind(path: str | Path, *, read_only: bool = True) -> Mount:
    return Mount(str(path), str(path), type="bind", read_only=read_only)
