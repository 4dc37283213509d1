"""A Docker host of the site: over its socket on this machine, or over SSH. Nothing connects to it from outside.

Over SSH the user's own ~/.ssh/config and known_hosts hold: a host whose key is not known there is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import docker
import paramiko
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from requests.exceptions import RequestException

from insitu.errors import AccessRefused, BackendUnavailable, InsituError, NotReady

T = TypeVar("T")

_READ_S, _LOAD_S = 60, 1800
_REASONS = (
    (r"bind source path does not exist: (\S+)", "there is no file {0} on the Docker host", "put it there"),
    (
        r"network (\S+) not found",
        "there is no network {0}",
        "make it with `docker network create`, or mend the settings",
    ),
    (r"could not select device driver", "there is no driver for GPUs", "install the NVIDIA container toolkit there"),
    (r"No such image: (\S+)", "there is no image {0}", "load or pull it there, or leave image of [training] out"),
    (r"[Mm]inimum memory limit|range of CPUs", "the limits do not fit the host", "mend memory_mb in the settings"),
    (r"port is already allocated|address already in use", "the port is taken", "free it, or name another port"),
    (r"cannot assign requested address", "the host has no such address", "mend address in the settings"),
    (r"manifest unknown|not found: manifest", "the registry does not have the image", "publish it again"),
)
"""What Docker says of a request that cannot be met, and what that means. Its other words stay there."""


@dataclass
class DockerHost:
    """One Docker host. Raises `AccessRefused`, `BackendUnavailable`, `NotReady`.

    Args:
        address: `unix:///PATH` or `ssh://USER@HOST`.
        named: Which setting holds it.
    """

    address: str
    named: str = "host of [training]"
    _client: Any = field(default=None, init=False, repr=False)

    def ask(self, question: Callable[[docker.APIClient], T], what: str = "answer") -> T:
        """Return what *question* finds; *what* says what the host is asked to do."""
        try:
            if self._client is None:
                self._client = docker.APIClient(self.address, version="auto", timeout=_READ_S)
            return question(self._client)
        except APIError as exc:
            raise self._refusal(exc, what) from None
        except (DockerException, RequestException, paramiko.SSHException, OSError, EOFError) as exc:
            self._client = None  # an SSH connection that broke is not opened again by the SDK
            raise self._silence(exc) from None

    def container(self, name: str) -> Mapping[str, Any] | None:
        """Return what Docker says of a container; None when there is none of this name."""

        def look(client: docker.APIClient) -> Mapping[str, Any] | None:
            try:
                found: Mapping[str, Any] = client.inspect_container(name)
            except NotFound:
                return None
            return found

        return self.ask(look)

    def has_image(self, reference: str) -> bool:
        """Tell whether the image is there."""

        def look(client: docker.APIClient) -> bool:
            try:
                client.inspect_image(reference)
            except ImageNotFound:
                return False
            return True

        return self.ask(look)

    def load(self, archive: Iterable[bytes]) -> None:
        """Load an image from what `docker_archive` yields."""

        def send(client: docker.APIClient) -> None:
            client.timeout = _LOAD_S
            try:
                for line in client.load_image(archive):
                    if "error" in line:
                        raise NotReady(
                            f"the Docker host {self.address} did not load the image",
                            next_action="see whether its disk is full, and what its log says",
                        )
            finally:
                client.timeout = _READ_S

        self.ask(send, "load an image")

    def pull(self, repository: str, digest: str) -> None:
        """Let the host fetch an image by digest from a registry."""

        def fetch(client: docker.APIClient) -> None:
            client.timeout = _LOAD_S
            try:
                for line in client.pull(repository, tag=digest, stream=True, decode=True):
                    if "error" in line:
                        raise NotReady(
                            f"the Docker host {self.address} does not get an image from {repository}",
                            found="an error of its daemon, or of the registry",
                            wanted=digest,
                            next_action="see that the host reaches and trusts the registry; its daemon's log says more",
                        )
            finally:
                client.timeout = _READ_S

        self.ask(fetch, "pull an image")

    def _refusal(self, exc: APIError, what: str) -> InsituError:
        status, text = exc.status_code or 0, str(exc.explanation or "")
        for pattern, found, next_action in _REASONS:
            if match := re.search(pattern, text):
                words = [word.strip("\"'") for word in match.groups()]
                problem = found.format(*words)
                return NotReady(f"the Docker host cannot {what}", found=problem, next_action=next_action)
        if status >= 500 and "no space left" not in text:
            return BackendUnavailable(
                f"the Docker host {self.address} is in trouble", found=f"{status}, asked to {what}"
            )
        return NotReady(
            f"the Docker host {self.address} refuses to {what}",
            found="no space left there" if "no space left" in text else str(status),
            next_action="the log of its daemon says why",
        )

    def _silence(self, exc: Exception) -> InsituError:
        if isinstance(exc, PermissionError) or "PermissionError" in str(exc):
            return AccessRefused(
                f"{self.address} may not be used by this user",
                next_action="let the user into the group of the socket, usually docker",
            )
        if isinstance(exc, paramiko.BadHostKeyException | paramiko.AuthenticationException) or "known_hosts" in str(
            exc
        ):
            return AccessRefused(
                f"{self.address} cannot be signed in to",
                found=type(exc).__name__,
                next_action="see that ~/.ssh/known_hosts has its key, and ~/.ssh/config or the agent has yours",
            )
        return BackendUnavailable(
            f"the Docker host {self.address} does not answer",
            found=type(exc).__name__,
            next_action=f"see whether its daemon runs, and whether {self.named} is right",
        )
