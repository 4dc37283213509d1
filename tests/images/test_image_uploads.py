"""Large blobs on their way: registries that are killed meanwhile, and what a push costs in requests."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from image_helpers import blob_of, layout_with
from loopback import free_port
from mortal_registry import Count, Mortal, keeping
from registry_front import Front, registry_front

from insitu.images.client import RegistryImages
from insitu.images.publish import publish_image
from insitu.images.transfer import Progress, Sent

MB = 1 << 20
_KILLS = 20
_IN_FLIGHT_BYTES = 10 * MB
"""What a kill may cost, as it is in the buffers of the connection; of 1 GB, twenty times that is a fifth."""


@pytest.fixture
def docker_registry(tmp_path: Path) -> Iterator[Mortal]:
    """A real registry that knows its uploads again after a restart: its secret is set."""
    program, port = shutil.which("docker-registry"), free_port()
    if not program:
        pytest.skip("the Debian package docker-registry is not installed")
    (tmp_path / "config.yml").write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {tmp_path / 'data'}}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}', secret: known}}\n"
    )
    with Mortal([program, "serve", str(tmp_path / "config.yml")], port).running() as registry:
        yield registry


@pytest.fixture
def keeping_registry(tmp_path: Path) -> Iterator[Mortal]:
    (tmp_path / "kept").mkdir()
    with keeping(tmp_path / "kept").running() as registry:
        yield registry


def test_a_registry_that_is_killed_in_mid_chunk_and_keeps_what_it_got_is_sent_the_rest(
    keeping_registry: Mortal, tmp_path: Path
) -> None:
    size_bytes = 64 * MB
    blob = blob_of(tmp_path / "blob", random.Random(1).randbytes(size_bytes))
    points = random.Random(2).sample(range(size_bytes), _KILLS)
    count = Count(sorted(points), keeping_registry)
    RegistryImages(keeping_registry.host, "kept", 16 * MB).put_blob(blob, tmp_path / "blob", count)
    assert keeping_registry.kills == _KILLS
    assert (tmp_path / "kept" / blob.digest.removeprefix("sha256:")).stat().st_size == size_bytes
    assert count.sent_bytes - size_bytes <= _KILLS * _IN_FLIGHT_BYTES


@pytest.mark.registry
def test_a_docker_registry_that_is_killed_between_chunks_is_sent_the_rest(
    docker_registry: Mortal, tmp_path: Path
) -> None:
    chunk_bytes, chunks = 2 * MB, 40
    blob = blob_of(tmp_path / "blob", random.Random(3).randbytes(chunks * chunk_bytes))
    between = sorted(random.Random(4).sample(range(1, chunks), _KILLS))
    count = Count([chunk * chunk_bytes + 1 for chunk in between], docker_registry)
    images = RegistryImages(docker_registry.host, "killed", chunk_bytes)
    images.put_blob(blob, tmp_path / "blob", count)
    assert docker_registry.kills == _KILLS
    assert count.sent_bytes <= 1.2 * blob.size_bytes
    images.fetch_blob(blob, tmp_path / "back")


@pytest.mark.registry
def test_a_docker_registry_that_is_killed_in_mid_chunk_is_sent_the_blob_anew(
    docker_registry: Mortal, tmp_path: Path
) -> None:
    blob = blob_of(tmp_path / "blob", random.Random(5).randbytes(10 * MB))
    images = RegistryImages(docker_registry.host, "killed", 2 * MB)
    images.put_blob(blob, tmp_path / "blob", Count([5 * MB], docker_registry))
    assert docker_registry.kills == 1
    images.fetch_blob(blob, tmp_path / "back")


@pytest.fixture
def front(registry_host: str) -> Iterator[Front]:
    with registry_front(registry_host) as server:
        yield server


@pytest.mark.registry
def test_what_is_there_takes_two_requests_and_a_retrained_model_ten(front: Front, tmp_path: Path) -> None:
    first, one = layout_with(tmp_path, "one")
    target = RegistryImages(front.host, "counted")
    publish_image(one, first, target, ["1", "latest"])
    front.asked.clear()
    assert publish_image(one, first, target, ["1", "latest"]).sent == ()
    assert len(front.asked) == 2
    second, two = layout_with(tmp_path, "two")
    front.asked.clear()
    publish_image(two, second, target, ["2", "latest"])
    assert len(front.asked) == 10
    assert sum(line.startswith(("POST", "PUT", "PATCH")) for line in front.asked) == 7, "two of them for the tags"


@pytest.mark.registry
def test_of_what_a_tagged_image_has_nothing_is_asked(front: Front, tmp_path: Path) -> None:
    first, one = layout_with(tmp_path, "one", 1000)
    second, two = layout_with(tmp_path, "two", 1000, layer_of="one")
    target = RegistryImages(front.host, "shared")
    publish_image(one, first, target, ["latest"])
    front.asked.clear()
    sent = publish_image(two, second, target, ["latest"]).sent
    assert [one.what for one in sent] == ["image configuration", "image manifest"]
    assert not any("/blobs/sha256" in line for line in front.asked)


@pytest.mark.registry
@pytest.mark.parametrize("images", ["registry", "acr"], indirect=True)
def test_what_a_repository_beside_has_is_not_sent(images: RegistryImages, tmp_path: Path) -> None:
    layout, digest = layout_with(tmp_path, "shared by two models", 1000)
    publish_image(digest, layout, images, ["1"])
    beside = replace(
        images, repository=f"{images.repository}/beside", beside=lambda _: ["none/such", images.repository]
    )
    sent = publish_image(digest, layout, beside, ["1"]).sent
    assert [one.what for one in sent] == ["image configuration", "image manifest"]
    assert beside.resolve("1") == images.resolve("1")


@pytest.mark.registry
def test_progress_ends_with_all_bytes_and_what_goes_is_told_in_order(registry_host: str, tmp_path: Path) -> None:
    layout, digest = layout_with(tmp_path, "watched", 3 * MB)
    told, seen = list[Sent](), list[Progress]()
    target = RegistryImages(registry_host, "watched", MB)
    sent = publish_image(digest, layout, target, ["1"], told.append, on_progress=seen.append).sent
    assert told == list(sent)
    assert [one.what for one in sent] == ["image layer", "image configuration", "image manifest"]
    total_bytes = sum(one.size_bytes for one in sent[:2])
    assert seen[-1].sent_bytes == seen[-1].total_bytes == total_bytes
    assert str(seen[-1]).startswith("3.1 of 3.1 MB, ")
