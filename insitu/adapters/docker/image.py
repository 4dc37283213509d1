"""The image that edge jobs run in: the one that the site names, or one made here and loaded into the host."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from insitu.adapters.docker.host import DockerHost
from insitu.errors import InsituError, NotReady
from insitu.images.archive import docker_archive
from insitu.images.training import REPOSITORY, assemble_training_image, training_tag
from insitu.ports import Check
from insitu.provisioning import Finding
from insitu.settings import DockerTraining, SiteSettings

log = logging.getLogger(__name__)


def ensure_image(host: DockerHost, settings: SiteSettings, requirements: Sequence[str]) -> str:
    """Return the image's name on the Docker host; one of our own is made and loaded when it is not there.

    Raises:
        NotReady: The image that the site names is not there.
        ImageFailed: A requirement is not installed here.
    """
    assert isinstance(settings.training, DockerTraining)
    named = settings.training.image
    if named:
        if not host.has_image(named):
            raise NotReady(
                f"the Docker host {host.address} has no image {named}",
                next_action="load or pull it there, or leave image of [training] out: then one is made here",
            )
        return named
    reference = own_image(settings, requirements)
    if not host.has_image(reference):
        log.info("the Docker host lacks the training image: it is made here and loaded, once for these packages")
        layout, work = settings.images.root / REPOSITORY, settings.images.root / ".cache"
        host.load(docker_archive(assemble_training_image(requirements, layout, work), layout, reference))
    return reference


def image_parts(settings: SiteSettings, requirements: Sequence[Sequence[str]]) -> Iterator[ImagePart]:
    """Yield the images of the jobs: one for all models that need the same packages."""
    assert isinstance(settings.training, DockerTraining)
    host = DockerHost(settings.training.host)
    for wanted in [()] if settings.training.image else sorted({tuple(one) for one in requirements} or {()}):
        yield ImagePart(host, settings, settings.training, wanted)


@dataclass(frozen=True)
class ImagePart:
    """The image of the jobs on the Docker host: what `insitu provision` sees to at a site that trains there."""

    host: DockerHost
    settings: SiteSettings
    training: DockerTraining
    requirements: tuple[str, ...]

    @property
    def name(self) -> str:
        """`image NAME`."""
        return f"image {self.training.image or own_image(self.settings, self.requirements)}"

    @property
    def place(self) -> str:
        """The Docker host."""
        return self.training.host

    def look(self) -> Finding:
        """Return whether it is there; raise `NotReady` when the site names one that is not."""
        if self.training.image:
            ensure_image(self.host, self.settings, ())
            return Finding("there")
        there = self.host.has_image(own_image(self.settings, self.requirements))
        return Finding("there") if there else Finding("not there", "make it from what is installed here, and load it")

    def make(self) -> None:
        """Make and load it."""
        ensure_image(self.host, self.settings, self.requirements)


def own_image(settings: SiteSettings, requirements: Sequence[str]) -> str:
    """Return the name of the image that is made here, for jobs that need *requirements*."""
    return f"{REPOSITORY}:{training_tag(requirements, settings.images.root / '.cache')}"


def image_check(host: DockerHost, training: DockerTraining) -> Check:
    """Tell whether the image that the site names is on the host; never raises."""
    if not training.image:
        return Check("docker image", True, "made here and loaded when a job needs it", "an image")
    try:
        there = host.has_image(training.image)
    except InsituError as error:
        return Check("docker image", False, error.what, training.image, error.next_action or "")
    found = "there" if there else "not there"
    return Check("docker image", there, found, training.image, "load or pull it on the Docker host")
