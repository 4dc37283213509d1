from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import pytest

from insitu.adapters.local.images import LayoutImages
from insitu.errors import ImageFailed, PublishFailed
from insitu.images.assemble import Image
from insitu.images.unpack import extract, unpack_image


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def layer(path: Path, *members: tarfile.TarInfo) -> Path:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for one in members:
            tar.addfile(one)
    path.write_bytes(gzip.compress(packed.getvalue()))
    return path


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ([member("../out")], "outside"),
        ([member("a/../../out")], "outside"),
        ([member("/etc/passwd")], "outside"),
        ([member("a", tarfile.SYMTYPE, "/etc")], "outside"),
        ([member("a", tarfile.SYMTYPE, "../etc")], "outside"),
        ([member("b/a", tarfile.SYMTYPE, "../../etc")], "outside"),
        ([member("b", tarfile.DIRTYPE), member("a", tarfile.SYMTYPE, "b"), member("a/c")], "symbolic link"),
        ([member("a"), member("a")], "twice"),
        ([member("a"), member("b", tarfile.LNKTYPE, "a")], "neither"),
        ([member("a", tarfile.CHRTYPE)], "neither"),
        ([member("a", tarfile.BLKTYPE)], "neither"),
        ([member("a", tarfile.FIFOTYPE)], "neither"),
        ([member(".wh.a")], "removes"),
    ],
)
def test_what_is_unsafe_is_refused(tmp_path: Path, members: list[tarfile.TarInfo], why: str) -> None:
    blob = layer(tmp_path / "blob", *members)
    (tmp_path / "root").mkdir()
    with pytest.raises(ImageFailed, match=why):
        extract(blob, tmp_path / "root")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("cut_bytes", [0, 5, 40])
def test_what_is_not_a_layer_is_refused(tmp_path: Path, cut_bytes: int) -> None:
    whole = layer(tmp_path / "blob", member("a")).read_bytes()
    (tmp_path / "blob").write_bytes(whole[:cut_bytes] if cut_bytes else b"no gzip at all")
    (tmp_path / "root").mkdir()
    with pytest.raises(ImageFailed, match="not a gzipped tar"):
        extract(tmp_path / "blob", tmp_path / "root")


def test_an_image_is_unpacked_once_and_shares_its_layers(image: Image, layout: LayoutImages, work: Path) -> None:
    root = unpack_image(layout, image.digest, work / "run")
    before = root.stat().st_mtime_ns
    assert unpack_image(layout, image.digest, work / "run") == root
    assert root.stat().st_mtime_ns == before
    assert (root / "opt/insitu/model/model.onnx").stat().st_nlink == 2
    assert not list((work / "run").rglob(".staged-*"))


def test_a_changed_layer_is_noticed_and_leaves_nothing(image: Image, layout: LayoutImages, tmp_path: Path) -> None:
    copy = LayoutImages(tmp_path / "layout")
    found = layout.resolve(image.digest)
    assert found is not None
    copy.tag("v1", *found)
    for part in image.layers:
        content = layout.root.joinpath("blobs", "sha256", part.descriptor.digest[7:]).read_bytes()
        flipped = content[:-1] + bytes([content[-1] ^ 1])
        copy.root.joinpath("blobs", "sha256", part.descriptor.digest[7:]).write_bytes(flipped)
    with pytest.raises(PublishFailed, match="is not what was read"):
        unpack_image(copy, image.digest, tmp_path / "run")
    assert not (tmp_path / "run" / "images").exists()
