"""A container of a Docker host that serves a model; the old one is kept until the new one answers.

The image is tried first in a container without a network, beside what runs. Only then the port changes hands: the old
container is stopped, the new one started and asked again; if that fails, the old one comes back. Between the two
nobody answers for as long as the old server ends and the new one loads its model.

    insitu-MODEL-NAME         what serves
    insitu-MODEL-NAME-trial   an image that is tried
    insitu-MODEL-NAME-before  what served, until its successor has answered
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError, NotFound
from docker.types import LogConfig

from insitu.adapters.docker.asking import ContainerScorer
from insitu.adapters.docker.host import DockerHost
from insitu.adapters.docker.server import locked_in, reason_of, state_soon
from insitu.crashpoints import crashpoint
from insitu.errors import BackendUnavailable, DeployFailed, ImageFailed, InsituError, NotReady
from insitu.images.archive import archive_of_parts
from insitu.images.manifest import PORT, parts_of, python_of
from insitu.images.publish import publish_image
from insitu.ports import ImageRegistry, Release
from insitu.settings import DockerTarget as Settings

_DIGEST, _MODEL, _TARGET = "io.insitu.digest", "io.insitu.model", "io.insitu.target"
_STOP_S = 15
_HEALTH = "import urllib.request as u; u.urlopen('http://127.0.0.1:%d/ready', timeout=5)"
_SECOND = 1_000_000_000


@dataclass(frozen=True)
class DockerTarget:
    """`Target`: a container of a Docker host.

    Args:
        model: Whose image it runs.
        settings: What model.toml says of it.
        pull_from: `HOST:PORT/NAME` that the host pulls from without signing in; None: the image is sent to it.
        layout: Where the image lies, or is fetched to, that is sent.
        root: The folder of the layout.
    """

    model: str
    settings: Settings
    pull_from: str | None
    layout: ImageRegistry
    root: Path

    @property
    def address(self) -> str:
        """Where the server answers: on the Docker host."""
        host = self.settings.host.partition("@")[2].partition(":")[0]
        return f"http://{host or self.settings.address}:{self.settings.port}"

    @property
    def container(self) -> str:
        """The name of the container."""
        return f"insitu-{self.model}-{self.settings.name}"

    @property
    def host(self) -> DockerHost:
        """The Docker host."""
        return DockerHost(self.settings.host, named="host of [[deploy]]")

    def serves(self) -> str | None:
        """Return the digest of the running container; None also while its predecessor is there: it is unproven."""
        place = self._place
        found, before = place.own(self.container), place.own(f"{self.container}-before")
        if found is None or before is not None or not found["State"]["Running"]:
            return None
        digest: str | None = found["Config"]["Labels"].get(_DIGEST)
        return digest

    def put(self, release: Release) -> None:
        """Try the image beside what runs, then let it take the port; see `Target`."""
        place = self._place
        for name in place.names:
            place.own(name)
        try:
            image = self._image(place.host, release)
            place.try_out(image, release)
            place.change_hands(image, release)
        except NotReady as error:
            raise DeployFailed(
                error.what, found=error.found, wanted=error.wanted, next_action=error.next_action
            ) from None
        except ImageFailed as error:
            raise DeployFailed(
                f"version {release.version} of {release.model} does not serve on {self.settings.host}: {error.what}",
                found=error.found,
                wanted=error.wanted,
                next_action="what ran before runs on; see whether memory_mb of [[deploy]] is enough",
            ) from None

    @property
    def _place(self) -> _Place:
        return _Place(self.host, self.settings, self.model, self.container)

    def _image(self, host: DockerHost, release: Release) -> str:
        """Return the name of the image on the host, which is pulled or sent there; by digest, and looked at."""
        manifest = self._manifest(release)
        config, layers = parts_of(manifest)
        if self.pull_from:
            reference = f"{self.pull_from}@{release.digest}"
            if not host.has_image(reference):
                host.pull(self.pull_from, release.digest)
        else:
            reference = f"insitu/{release.model}:{release.digest.removeprefix('sha256:')[:32]}"
            if not host.has_image(reference):
                host.load(archive_of_parts(config, layers, self.root, reference))
        found = host.ask(lambda client: client.inspect_image(reference), "show an image")["Id"]
        if found not in (config.digest, release.digest):
            raise DeployFailed(
                f"the Docker host {self.settings.host} has another image under {reference}",
                found=found,
                wanted=config.digest,
                next_action="remove that image there, then start again",
            )
        return reference

    def _manifest(self, release: Release) -> bytes:
        source = release.images if self.pull_from else self.layout
        if not self.pull_from and self.layout.resolve(release.digest) is None:
            publish_image(release.digest, release.images, self.layout, tags=())
        found = source.resolve(release.digest)
        if found is None:
            raise DeployFailed(f"{source.name} does not have the image", wanted=release.digest)
        return found[1]


@dataclass(frozen=True)
class _Place:
    """The containers of one target."""

    host: DockerHost
    settings: Settings
    model: str
    name: str

    @property
    def names(self) -> tuple[str, ...]:
        """What its containers are called."""
        return (self.name, f"{self.name}-trial", f"{self.name}-before")

    def own(self, name: str) -> Mapping[str, Any] | None:
        """Return what Docker says of a container of this target; raise `DeployFailed` for one of something else."""
        found = self.host.container(name)
        labels = (found["Config"]["Labels"] or {}) if found else {}
        unnamed = self.settings.name if _DIGEST in labels else None  # of an insitu that did not name the target yet
        whose = (labels.get(_MODEL), labels.get(_TARGET, unnamed))  # an image alone names its model, too
        if found and whose != (self.model, self.settings.name):
            raise DeployFailed(
                f"the container {name} on {self.settings.host} is not of {self.model}'s target {self.settings.name}",
                found=f"one of {whose[0]}'s target {whose[1]}" if whose[1] else "one that somebody else has made",
                next_action="give this target another name in model.toml, or remove that container",
            )
        return found

    def try_out(self, image: str, release: Release) -> None:
        """Run the image without a network, and ask it; raise `ImageFailed`."""
        trial = f"{self.name}-trial"
        self._remove(trial)
        try:
            self._create(trial, image, release, network="none")
            self._start(trial)
            self._ask(trial, release, PORT)
        finally:
            self._remove(trial)

    def change_hands(self, image: str, release: Release) -> None:
        """Let the image take the place of what is there; raise `ImageFailed` when that came back."""
        before = f"{self.name}-before"
        if self.host.container(before) is None and self.host.container(self.name) is not None:
            self.host.ask(lambda client: client.rename(self.name, before), "rename a container")
        self._remove(self.name)  # what an interrupted change left: nobody has asked it
        try:
            self._create(self.name, image, release, self.settings.network)
            crashpoint("deploy:created")
            self._stop(before)
            crashpoint("deploy:stopped")
            self._start(self.name)
            self._ask(self.name, release, self._port)
        except InsituError as error:
            self._bring_back(before, error)
            raise
        crashpoint("deploy:answered")
        self._remove(before)

    def _bring_back(self, before: str, why: InsituError) -> None:
        try:
            self._remove(self.name)
            if self.host.container(before) is not None:
                self.host.ask(lambda client: client.rename(before, self.name), "rename a container")
                self._start(self.name)
        except InsituError as error:
            raise BackendUnavailable(
                f"{why.what}; and what ran before does not come back: nobody may answer on {self.settings.host}",
                found=f"{why.found or 'no more is known'}; then: {error.what}",
                next_action="see to the Docker host, then start it again: it goes on",
            ) from None

    @property
    def _port(self) -> int:
        return self.settings.port if self.settings.network == "host" else PORT

    def _create(self, name: str, image: str, release: Release, network: str) -> None:
        serves, shared = network != "none", network == "host"
        opened = {PORT: (self.settings.address, self.settings.port)} if serves and not shared else None
        port = self.settings.port if shared else PORT

        def create(client: docker.APIClient) -> None:
            config = locked_in(
                client,
                network,
                self.settings.memory_mb * 1_000_000,
                port_bindings=opened,
                restart_policy={"Name": "unless-stopped"} if serves else None,
                log_config=LogConfig(type="json-file", config={"max-size": "1m", "max-file": "2"}),
            )
            command = ["--port", str(port), *(["--host", self.settings.address] if shared else [])]
            client.create_container(
                image,
                command,
                name=name,
                ports=[PORT] if opened else None,
                labels={
                    _DIGEST: release.digest,
                    _MODEL: release.model,
                    _TARGET: self.settings.name,
                    "io.insitu.version": release.version,
                },
                healthcheck={
                    "test": ["CMD", *_python(client.inspect_image(image)), "-P", "-c", _HEALTH % port],
                    "interval": 30 * _SECOND,
                    "timeout": 10 * _SECOND,
                    "start_period": self.settings.ready_timeout_s * _SECOND,
                },
                host_config=config,
            )

        self.host.ask(create, "create a container")

    def _start(self, name: str) -> None:
        self.host.ask(lambda client: client.start(name), "start a container")

    def _ask(self, name: str, release: Release, port: int) -> None:
        image = self.host.ask(lambda client: client.inspect_image(client.inspect_container(name)["Image"]))
        scorer = ContainerScorer(self.host, name, _python(image), port)
        with self._telling_how_it_ended(name):
            scorer.wait(self.settings.ready_timeout_s)
            release.answers(scorer)

    @contextmanager
    def _telling_how_it_ended(self, name: str) -> Iterator[None]:
        """Let an error say so when the server has ended meanwhile."""
        try:
            yield
        except (ImageFailed, NotReady, BackendUnavailable):  # asked in that moment, Docker answers 500
            state = state_soon(self.host, name)
            if not state or state["Running"]:
                raise
            reason = reason_of(self.host, name, state)
            reason = "killed for want of memory" if state.get("OOMKilled") else reason
            raise ImageFailed("the image's server ended", found=reason, wanted="a server that stays") from None

    def _stop(self, name: str) -> None:
        with suppress(_Gone):
            self._unless_gone(lambda client: client.stop(name, timeout=_STOP_S), "stop a container")

    def _remove(self, name: str) -> None:
        with suppress(_Gone):
            self._unless_gone(lambda client: client.remove_container(name, v=True, force=True), "remove a container")

    def _unless_gone(self, do: Any, what: str) -> None:
        def careful(client: docker.APIClient) -> None:
            try:
                do(client)
            except NotFound:
                raise _Gone from None
            except APIError as exc:
                if exc.status_code != 409:  # it is on its way out
                    raise

        self.host.ask(careful, what)


class _Gone(Exception):
    """There is no such container."""


def _python(image: Mapping[str, Any]) -> list[str]:
    return python_of(image["Config"].get("Entrypoint") or [])
