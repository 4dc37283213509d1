"""Images on the base of somebody else, and through the Docker daemon of a site: unchanged, and they answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from dockerd import Docker
from image_helpers import Trained, spec_of
from made_bases import base_image, config_of, distribution, file, tar_of, without_glibc

from insitu.adapters.docker.asking import ContainerScorer
from insitu.adapters.docker.builder import DockerBuilder
from insitu.adapters.docker.host import DockerHost
from insitu.adapters.local.images import LayoutImages
from insitu.errors import NotReady
from insitu.images.assemble import assemble_image
from insitu.images.bases import BaseReference, fetch_base
from insitu.images.manifest import PORT, python_of
from insitu.ports import Descriptor
from insitu.settings import ImagesSettings

pytestmark = pytest.mark.docker
Make = Callable[[LayoutImages], Descriptor]
NAME = "insitu/layout:built"


@pytest.fixture
def builder(docker: Docker, layout: LayoutImages) -> DockerBuilder:
    return DockerBuilder(ImagesSettings(root=layout.root.parent, builder="docker", docker_host=docker.address))


@pytest.mark.parametrize("make", [distribution, without_glibc])
def test_it_serves_on_any_base_whose_own_programs_still_run(
    docker: Docker,
    builder: DockerBuilder,
    layout: LayoutImages,
    model: Trained,
    work: Path,
    make: Callable[[LayoutImages], Descriptor],
) -> None:
    source = LayoutImages(work / "sources")
    reference = BaseReference.of(f"{source.name}@{make(source).digest}")
    spec = replace(spec_of(model), base=fetch_base(reference, source, work / ".bases"))
    image = assemble_image(spec, layout.root, work)
    builder.take("layout", image.digest)
    assert docker("inspect", NAME, "--format", "{{.Id}}") == image.config.digest
    container = docker("run", "-d", "--read-only", "--network", "none", NAME)
    try:
        python = python_of(config_of(layout, image.digest)["config"]["Entrypoint"])
        scorer = ContainerScorer(DockerHost(docker.address), container, python, PORT)
        scorer.wait(60)
        body = {"input_data": {"columns": model.columns, "data": model.rows}}
        status, answer = scorer.request("POST", "/score", json.dumps(body).encode())
        assert status == 200
        for got, wanted in zip(json.loads(answer)["predictions"], model.expected, strict=True):
            assert got == pytest.approx(wanted, abs=1e-5)
        if make is distribution:
            said = docker("exec", container, "sh", "-c", "read os < /etc/os-release; echo $os /opt/python/* /gone*")
            assert said == "ID=madeup /opt/python/bin /opt/python/lib /gone*"
    finally:
        docker("rm", "--force", container)


def test_a_daemon_that_has_the_image_is_not_sent_it_again(
    docker: Docker, builder: DockerBuilder, layout: LayoutImages
) -> None:
    small = base_image(layout, [tar_of([file("once")])])
    builder.take("layout", small.digest)
    before = docker("inspect", NAME, "--format", "{{.RootFS.Layers}} {{.Metadata.LastTagTime}}")
    builder.take("layout", small.digest)
    assert docker("inspect", NAME, "--format", "{{.RootFS.Layers}} {{.Metadata.LastTagTime}}") == before


def test_what_the_daemon_refuses_in_its_stream_is_raised(builder: DockerBuilder, layout: LayoutImages) -> None:
    wrong = {"type": "layers", "diff_ids": [f"sha256:{'1' * 64}"]}
    damaged = base_image(layout, [tar_of([file("other")])], rootfs=wrong)
    with pytest.raises(NotReady, match="did not load the image"):
        builder.take("layout", damaged.digest)


def test_a_daemon_that_is_not_there_is_a_finding(tmp_path: Path, builder: DockerBuilder) -> None:
    assert builder.check().ok
    found = DockerBuilder(ImagesSettings(root=tmp_path, docker_host=f"unix://{tmp_path}/none")).check()
    assert not found.ok
    assert "does not answer" in found.found
    assert "docker_host of [images]" in found.next_action
