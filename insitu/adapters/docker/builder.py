"""Images through the Docker daemon of a site whose policy demands it: the daemon takes the parts apart and keeps them.

Two builds by a daemon give two digests, so the parts are insitu's own. The daemon unpacks every layer, compares it with
the digest that the configuration names, and calls the image by the digest of that configuration: what it has is what
was assembled, and what is published.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass

from docker import APIClient
from docker.errors import ImageNotFound

from insitu.adapters.docker.host import DockerHost
from insitu.adapters.local.images import LayoutImages
from insitu.errors import ImageFailed, InsituError, NotReady
from insitu.images.archive import archive_of_parts
from insitu.images.described import describe
from insitu.ports import Check
from insitu.settings import ImagesSettings

log = logging.getLogger(__name__)

_NAMED = "docker_host of [images]"


@dataclass(frozen=True)
class DockerBuilder:
    """The daemon that images of a site go through."""

    settings: ImagesSettings

    @property
    def host(self) -> DockerHost:
        """The Docker host."""
        return DockerHost(self.settings.docker_host, named=_NAMED)

    def take(self, model: str, digest: str) -> None:
        """Have the daemon take the image *digest* of the layout of *model*; one that it has is not sent again.

        Raises:
            ImageFailed: The daemon has made another image of it, or there is none.
            NotReady: It refuses the image.
            AccessRefused, BackendUnavailable: It cannot be asked.
        """
        layout, name = LayoutImages(self.settings.root / model), f"insitu/{model}:built"
        image, host = describe(layout, digest), self.host
        wanted = (image.config.digest, digest)  # the latter where the daemon keeps manifests
        if (found := _id_of(host, name)) not in wanted:
            log.info("the Docker daemon %s takes the image %s", host.address, digest[:19])
            before = found
            host.load(archive_of_parts(image.config, image.layers, layout.root, name))
            found = _id_of(host, name)
            if before and before != found:
                with suppress(NotReady):  # something there still uses it
                    host.ask(lambda client: client.remove_image(before), "remove an image")
        if found not in wanted:
            raise ImageFailed(
                f"the Docker daemon {host.address} has made another image of {name}",
                found=found,
                wanted=image.config.digest,
                next_action="see its log: something there changes images",
            )

    def check(self) -> Check:
        """Tell whether the daemon answers; never raises."""
        wanted = 'a Docker daemon, as builder = "docker" of [images] says'
        try:
            version = self.host.ask(lambda client: client.version())
        except InsituError as error:
            return Check("docker builder", False, error.what, wanted, error.next_action or "")
        return Check("docker builder", True, f"Docker {version.get('Version')} answers", wanted)


def _id_of(host: DockerHost, name: str) -> str | None:
    def look(client: APIClient) -> str | None:
        try:
            return str(client.inspect_image(name)["Id"])
        except ImageNotFound:
            return None

    return host.ask(look, "show an image")
