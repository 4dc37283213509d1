"""Run an image in a container of a Docker daemon: read-only, as nobody, without a network, within its memory."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from uuid import uuid4

import docker
from docker.errors import APIError

from insitu.adapters.docker.asking import ContainerScorer
from insitu.adapters.docker.host import DockerHost
from insitu.adapters.docker.server import locked_in, reason_of, state_soon
from insitu.adapters.local.images import LayoutImages
from insitu.adapters.local.scoring import ProcessScoringHost, out_of_memory
from insitu.errors import BackendUnavailable, ImageFailed, InsituError, NotReady
from insitu.images.archive import archive_of_parts
from insitu.images.described import describe
from insitu.images.manifest import PORT, python_of
from insitu.ports import SCORING_MEMORY_BYTES, Check, ImageRegistry, Isolation, Scorer

_LABEL = "io.insitu.smoke"
_FORGOTTEN_S = 3600
_PEAK = re.compile(rb"^insitu_peak_memory_bytes (\d+)$", re.MULTILINE)


@dataclass(frozen=True)
class DockerScoringHost:
    """`ScoringHost`: a container that is gone when it has been asked.

    Args:
        host: The daemon.
        ready_timeout_s: How long a server may take to load its model.
    """

    host: DockerHost
    ready_timeout_s: float = 120.0

    @property
    def isolation(self) -> Isolation:
        """A container without a network, whose memory Docker limits."""
        return Isolation("docker", "none", "docker")

    def checks(self) -> Sequence[Check]:
        """Tell whether the daemon answers; never raises."""
        wanted = 'a Docker daemon, as smoke = "docker" of [images] says'
        try:
            version = self.host.ask(lambda client: client.version())
        except InsituError as error:
            return [Check("docker smoke test", False, error.what, wanted, error.next_action or "")]
        return [Check("docker smoke test", True, f"Docker {version.get('Version')} answers", wanted)]

    @contextmanager
    def run(self, images: ImageRegistry, digest: str, memory_bytes: int = SCORING_MEMORY_BYTES) -> Iterator[Scorer]:
        """Start the image and wait until it is ready; see `ScoringHost`.

        Raises:
            NotReady, AccessRefused, BackendUnavailable: The daemon refuses the image, or does not answer.
        """
        image, name = self._image(images, digest), f"insitu-smoke-{uuid4().hex[:12]}"
        self._forget_old()
        self.host.ask(lambda client: _create(client, name, image, memory_bytes), "create a container")
        try:
            self.host.ask(lambda client: client.start(name), "start a container")
            found = self.host.ask(lambda client: client.inspect_image(image))
            scorer = _MeasuredScorer(self.host, name, python_of(found["Config"].get("Entrypoint") or []), PORT)
            scorer.wait(self.ready_timeout_s)
            yield scorer
        except (ImageFailed, NotReady, BackendUnavailable):  # asked in the moment when it ends, Docker answers 500
            self._tell_how_it_ended(name, memory_bytes)
            raise
        finally:
            self._remove(name)

    def _image(self, images: ImageRegistry, digest: str) -> str:
        """Return the name of the image in the daemon, which is sent there if it is not; one per model is kept."""
        if not isinstance(images, LayoutImages):
            raise ImageFailed(f"{images.name} is no folder, and the Docker daemon takes images from one")
        image = describe(images, digest)
        for name in (image.config.digest, digest):  # the latter where the daemon keeps manifests
            if self.host.has_image(name):
                return name
        name = f"insitu/{images.root.name.lower()}:smoke"
        before = self.host.ask(lambda client: [one["Id"] for one in client.images(name)], "show an image")
        self.host.load(archive_of_parts(image.config, image.layers, images.root, name))
        for old in before:
            with suppress(NotReady):  # something else of the daemon uses it
                self.host.ask(lambda client, old=old: client.remove_image(old), "remove an image")  # type: ignore[misc]
        return name

    def _forget_old(self) -> None:
        """Remove containers of processes that were killed: no test takes so long."""

        def remove(client: docker.APIClient) -> None:
            for one in client.containers(all=True, filters={"label": _LABEL}):
                if one["Created"] < time.time() - _FORGOTTEN_S:
                    with suppress(APIError):
                        client.remove_container(one["Id"], v=True, force=True)

        self.host.ask(remove, "list its containers")

    def _tell_how_it_ended(self, name: str, memory_bytes: int) -> None:
        """Raise what says so when the server has ended."""
        state = state_soon(self.host, name)
        if state.get("OOMKilled"):
            raise out_of_memory(memory_bytes) from None
        if state and not state["Running"]:
            reason = reason_of(self.host, name, state)
            raise ImageFailed("the image's server ended before it was ready", found=reason) from None

    def _remove(self, name: str) -> None:
        def remove(client: docker.APIClient) -> None:
            with suppress(APIError):
                client.remove_container(name, v=True, force=True)

        with suppress(InsituError):  # it is removed with the next test
            self.host.ask(remove, "remove a container")


@dataclass(frozen=True)
class DockerOrProcess:
    """`ScoringHost`: a container where the daemon answers, else a process."""

    container: DockerScoringHost
    process: ProcessScoringHost

    @cached_property
    def _chosen(self) -> DockerScoringHost | ProcessScoringHost:
        return self.container if all(one.ok for one in self.container.checks()) else self.process

    @property
    def isolation(self) -> Isolation:
        """How the one that is there keeps servers in."""
        return self._chosen.isolation

    @contextmanager
    def run(self, images: ImageRegistry, digest: str, memory_bytes: int = SCORING_MEMORY_BYTES) -> Iterator[Scorer]:
        """Start the image there; see `ScoringHost`."""
        with self._chosen.run(images, digest, memory_bytes) as scorer:
            yield scorer


class _MeasuredScorer(ContainerScorer):
    def peak_memory_bytes(self) -> int | None:
        """Return what the server says of itself: Docker tells it on some machines only."""
        found = _PEAK.search(self.request("GET", "/metrics")[1])
        return int(found[1]) if found else None


def _create(client: docker.APIClient, name: str, image: str, memory_bytes: int) -> None:
    config = locked_in(client, "none", memory_bytes)
    client.create_container(image, name=name, labels={_LABEL: ""}, host_config=config)
