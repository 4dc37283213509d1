"""What the container of an edge job is: what it sees of its machine, who it runs as, and what it may not do."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError
from docker.types import DeviceRequest, LogConfig, Mount

from insitu.adapters.docker.host import DockerHost
from insitu.adapters.remote import Launch
from insitu.enclosure import PROXY, endpoint
from insitu.images.base import USER
from insitu.settings import DockerTraining, FolderStore, SiteSettings

CODE = "/opt/insitu/job"
"""Where a container has the job's code."""

_SCRATCH = "/tmp"  # noqa: S108 - a volume of the container's own: on disk, where a tmpfs would be memory
_DOOR = "/opt/insitu/door"
_SOCKET = f"{_DOOR}/at/proxy"
"""Where a job without a network hands its proxy a way in; all that the two share, for the proxy has a network."""

_PROXY_BYTES = 512_000_000

_PLAIN = {"HOME": _SCRATCH, "PYTHONDONTWRITEBYTECODE": "1"}
_BOUNDS: dict[str, Any] = {
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
    "pids_limit": 4096,
    "init": True,
    "log_config": LogConfig(type="json-file", config={"max-size": "1m", "max-file": "2"}),
}


@dataclass(frozen=True)
class Container:
    """How the jobs of a site are contained on a Docker host."""

    host: DockerHost
    settings: SiteSettings
    training: DockerTraining

    def create(self, client: docker.APIClient, image: str, launch: Launch) -> None:
        """Create the job's container; one of its name that is there stays as it is."""
        limit = self.training.memory_mb and self.training.memory_mb * 1_000_000
        proxied = {PROXY: _SOCKET} if self.listed else {}
        gpus = [DeviceRequest(count=-1, capabilities=[["gpu"]])] if self.training.gpu else None
        host_config = client.create_host_config(
            mounts=self.mounts(),
            read_only=True,
            network_mode="none" if self.training.isolated else self.training.network,
            mem_limit=limit,
            memswap_limit=limit,  # no swap on top
            device_requests=gpus,
            **_BOUNDS,
        )
        labels = {"io.insitu.job": launch.job_id, "io.insitu.run_key": launch.run_key, "io.insitu.model": launch.model}
        _unless_there(
            client.create_container,
            image,
            ["python", *launch.arguments],
            name=container_name(launch.job_id),
            entrypoint=[],
            working_dir=CODE,
            user=self.user(),
            environment={**launch.environ, **self._surroundings(), **proxied},
            labels=labels,
            volumes=[CODE, _SCRATCH, *([_DOOR] if self.listed else [])],
            host_config=host_config,
        )

    @property
    def listed(self) -> tuple[str, ...]:
        """The endpoints that the job's proxy lets it reach; none: it has no proxy."""
        stores = (self.settings.data, self.settings.state) if self.training.isolated else ()
        return tuple(sorted({endpoint(one.account_url) for one in stores if not isinstance(one, FolderStore)}))

    def ensure_proxy(self, job_id: str, archive: bytes) -> None:
        """Let the proxy of a job that is created run beside it, unless it needs none; see `DockerHost`.

        It has the code of *archive*, too, but not that of the job's container: a job may write what it owns. Once it
        has ended it is of no use, for the job's ear is lost; so nothing starts it again.
        """
        name, job = proxy_name(job_id), self.host.container(container_name(job_id))
        if not self.listed or job is None:
            return

        (door,) = (one["Name"] for one in job["Mounts"] if one["Destination"] == _DOOR)

        def create(client: docker.APIClient) -> None:
            host_config = client.create_host_config(
                mounts=[Mount(_DOOR, door, type="volume")],
                read_only=True,
                network_mode=self.training.network,
                mem_limit=_PROXY_BYTES,
                memswap_limit=_PROXY_BYTES,
                **_BOUNDS,
            )
            _unless_there(
                client.create_container,
                job["Image"],
                ["python", "-s", "-P", "-m", "insitu.edge.proxy", "at", _SOCKET, ",".join(self.listed)],
                name=name,
                entrypoint=[],
                working_dir=CODE,
                user=self.user(),
                environment=self._way_out() | _PLAIN | {"PYTHONPATH": CODE},
                labels={"io.insitu.proxy_of": job_id},
                volumes=[CODE],
                host_config=host_config,
            )

        self.host.ask(create, "create the proxy of a job")
        self.host.ask(lambda client: client.put_archive(name, CODE, archive), "take the code of a proxy")
        self.host.ask(lambda client: client.put_archive(name, _DOOR, _open_folder("at")), "take the door of a job")
        self.host.ask(lambda client: client.start(name), "start the proxy of a job")

    def mounts(self) -> list[Mount]:
        """Return what a job sees of the host: secrets or, of stores that are folders, those."""
        data, state, secrets = self.settings.data, self.settings.state, self.training.secrets
        seen = dict.fromkeys([data.root if isinstance(data, FolderStore) else secrets.data, secrets.ca_bundle], True)
        # One file may be the secret of both stores, and a daemon takes no place twice.
        seen |= {state.root: False} if isinstance(state, FolderStore) else {secrets.state: True}
        return [_bind(path, read_only=read_only) for path, read_only in seen.items() if path]

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
        """Return the standard variables of a job: whom it trusts and, where it has a network, the way out."""
        bundle = self.training.secrets.ca_bundle
        trust = dict.fromkeys(("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"), bundle) if bundle else {}
        return ({} if self.training.isolated else self._way_out()) | trust | _PLAIN

    def _way_out(self) -> dict[str, str]:
        """Return the standard variables for the way out, as the site's [network] says."""
        network = self.settings.network
        proxy = dict.fromkeys(("HTTPS_PROXY", "https_proxy"), network.proxy) if network.proxy else {}
        direct = dict.fromkeys(("NO_PROXY", "no_proxy"), ",".join(network.no_proxy)) if network.no_proxy else {}
        return {**proxy, **direct}


def container_name(job_id: str) -> str:
    """Return what a job's container is called."""
    return f"insitu-{job_id}"


def proxy_name(job_id: str) -> str:
    """Return what the container of a job's proxy is called."""
    return f"{container_name(job_id)}-proxy"


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


def _open_folder(name: str) -> bytes:
    """Return a tar archive with a folder in which everybody may make files: a new volume is root's."""
    buffer, info = io.BytesIO(), tarfile.TarInfo(name)
    info.type, info.mode = tarfile.DIRTYPE, 0o1777
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.addfile(info)
    return buffer.getvalue()


def _unless_there(create: Callable[..., Any], *arguments: Any, **options: Any) -> None:
    """Create a container; one of its name that is there stays as it is."""
    try:
        create(*arguments, **options)
    except APIError as exc:
        if exc.status_code != 409:  # an answer was lost, and the container is there
            raise


def _bind(path: str | Path, *, read_only: bool = True) -> Mount:
    return Mount(str(path), str(path), type="bind", read_only=read_only)
