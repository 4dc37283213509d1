"""What a site can set about the images of its models."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from insitu.settings.forms import BaseImage, DockerAddress, ProjectPath
from insitu.settings.stores import FolderStore


class ImagesSettings(FolderStore):
    """Where images are made, what of, and by whom."""

    kind: Literal["folder"] = Field(default="folder", description="images are made in a folder")
    root: ProjectPath = Field(
        default="var/images", validate_default=True, description="folder of OCI image layouts and the build cache"
    )
    base: BaseImage | None = Field(
        default=None, description="what images stand on: HOST/NAME@sha256:… or oci:FOLDER@sha256:…; none: nothing"
    )
    builder: Literal["insitu", "docker"] = Field(
        default="insitu", description='"docker": images also go through the Docker daemon, which runs the smoke test'
    )
    smoke: Literal["auto", "process", "docker"] = Field(
        default="auto",
        description='where a finished image is tried: a container, or a process where there is no daemon ("auto")',
    )
    docker_host: DockerAddress = Field(
        default="unix:///var/run/docker.sock", description="the daemon that builds, and that tries images"
    )
