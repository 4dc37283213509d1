from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import pytest

from insitu.adapters.local.images import LayoutImages
from insitu.errors import BackendUnavailable, PublishFailed
from insitu.images.assemble import Image
from insitu.images.client import RegistryImages
from insitu.images.publish import publish_image
from insitu.images.transfer import Sent
from insitu.ports import Descriptor


@dataclass(frozen=True)
class Failing(LayoutImages):
    """A layout whose *at*-th write fails, once."""

    at: int = 0
    writes: list[str] = field(default_factory=list)

    def _write(self, what: str) -> None:
        self.writes.append(what)
        if len(self.writes) == self.at:
            raise BackendUnavailable("the connection broke")

    def put_blob(self, descriptor: Descriptor, path: Path, on_bytes: Callable[[int], None] = lambda _: None) -> None:
        self._write("blob")
        super().put_blob(descriptor, path, on_bytes)

    def put_manifest(self, descriptor: Descriptor, content: bytes) -> None:
        self._write("manifest")
        super().put_manifest(descriptor, content)

    def tag(self, tag: str, descriptor: Descriptor, content: bytes) -> None:
        self._write("tag")
        LayoutImages(self.root).tag(tag, descriptor, content)


@pytest.mark.registry
def test_publishing_again_sends_nothing(image: Image, layout: LayoutImages, registry_host: str) -> None:
    target = RegistryImages(registry_host, "again")
    seen: list[Sent] = []
    first = publish_image(image.digest, layout, target, ["7", "latest"], seen.append)
    assert first.reference == f"{registry_host}/again:7"
    assert sum(one.size_bytes for one in first.sent) == image.size_bytes
    assert list(first.sent) == seen
    for tag in ("7", "latest", image.digest):
        found = target.resolve(tag)
        assert found is not None
        assert found[0] == image.descriptor
    assert publish_image(image.digest, layout, target, ["7", "latest"]).sent == ()


@pytest.mark.registry
def test_an_image_goes_from_registry_to_registry(
    image: Image, layout: LayoutImages, registry_host: str, tmp_path: Path
) -> None:
    middle, target = RegistryImages(registry_host, "between"), LayoutImages(tmp_path / "layout")
    publish_image(image.digest, layout, middle, ["1"])
    assert len(publish_image(image.digest, middle, target, ["1"]).sent) == 6
    assert target.resolve("1") == layout.resolve(image.digest)


@pytest.mark.parametrize("at", range(1, 8))
def test_wherever_it_breaks_off_a_repetition_sends_the_rest(
    image: Image, layout: LayoutImages, tmp_path: Path, at: int
) -> None:
    target = Failing(tmp_path / "layout", at)
    with pytest.raises(BackendUnavailable):
        publish_image(image.digest, layout, target, ["7"], at_once=1)
    assert target.resolve("7") is None
    again = publish_image(image.digest, layout, target, ["7"])
    assert len(again.sent) == max(0, 7 - at)
    assert target.resolve("7") == layout.resolve(image.digest)
    assert target.writes[-1] == "tag"


def test_in_the_same_layout_only_the_tag_is_written(image: Image, layout: LayoutImages) -> None:
    found = publish_image(image.digest, layout, layout, ["8"])
    assert (found.reference, found.sent) == (layout.reference("8"), ())
    assert layout.resolve("8") == layout.resolve(image.digest)


def test_an_image_that_changed_on_disk_is_not_published(image: Image, layout: LayoutImages, tmp_path: Path) -> None:
    copy, target = LayoutImages(tmp_path / "copy"), LayoutImages(tmp_path / "target")
    publish_image(image.digest, layout, copy, ["7"])
    path = copy.local_blob(image.layers[3].descriptor.digest)
    assert path is not None
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(PublishFailed, match="is not what was read"):
        publish_image(image.digest, copy, target, ["7"])
    assert target.resolve("7") is None


def test_an_image_that_is_not_there_is_named(layout: LayoutImages, tmp_path: Path) -> None:
    with pytest.raises(PublishFailed, match="does not have the image"):
        publish_image(f"sha256:{'0' * 64}", layout, LayoutImages(tmp_path), ["7"])


def test_a_version_tag_of_another_image_is_not_taken_and_latest_is(
    image: Image, layout: LayoutImages, tmp_path: Path
) -> None:
    target = LayoutImages(tmp_path / "target")
    publish_image(image.digest, layout, target, ["7"])
    found = layout.resolve(image.digest)
    assert found is not None
    content = found[1] + b"\n"
    digest = f"sha256:{sha256(content).hexdigest()}"
    other = Descriptor(found[0].media_type, digest, len(content))
    target.put_manifest(other, content)
    for tag in ("8", "latest"):
        target.tag(tag, other, content)
    with pytest.raises(PublishFailed, match="names another image already") as caught:
        publish_image(image.digest, layout, target, ["8", "latest"])
    assert (caught.value.found, caught.value.wanted) == (digest, image.digest)
    assert target.resolve("8") == target.resolve("latest") == (other, content)
    publish_image(image.digest, layout, target, ["7", "latest"])
    assert target.resolve("7") == target.resolve("latest") == found


def test_every_object_is_told_before_it_goes(image: Image, layout: LayoutImages, tmp_path: Path) -> None:
    target, told = Failing(tmp_path / "layout", 1), list[Sent]()
    with pytest.raises(BackendUnavailable):
        publish_image(image.digest, layout, target, ["7"], told.append, at_once=1)
    assert [one.what for one in told] == ["image layer"]
