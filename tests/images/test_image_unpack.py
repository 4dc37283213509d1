from __future__ import annotations

import gzip
import io
import stat
import tarfile
from pathlib import Path

import pytest

from insitu.adapters.local.images import LayoutImages
from insitu.errors import ImageFailed, PublishFailed
from insitu.images.assemble import Image
from insitu.images.blobs import BlobFolder
from insitu.images.layers import LAYER_TYPE
from insitu.images.manifest import CONFIG_TYPE, MANIFEST_TYPE, canonical, to_json
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


def made_of(layout: LayoutImages, *layers: Path) -> str:
    """Return the digest of an image of these layers."""
    blobs = BlobFolder(layout.root)
    parts = [blobs.add(path.read_bytes(), LAYER_TYPE) for path in layers]
    config = blobs.add(canonical({"config": {}}), CONFIG_TYPE)
    manifest = {"schemaVersion": 2, "config": to_json(config), "layers": [to_json(one) for one in parts]}
    return blobs.add(canonical(manifest), MANIFEST_TYPE).digest


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ([member("../out")], "outside"),
        ([member("a/../../out")], "outside"),
        ([member("a", tarfile.LNKTYPE, "../out")], "outside"),
        ([member("b", tarfile.DIRTYPE), member("a", tarfile.SYMTYPE, "b"), member("a/c")], "symbolic link"),
        ([member("a", tarfile.SYMTYPE, "/etc"), member("b", tarfile.LNKTYPE, "a/passwd")], "symbolic link"),
        ([member("a", tarfile.LNKTYPE, "elsewhere")], "hard link"),
        ([member("d", tarfile.DIRTYPE), member("a", tarfile.LNKTYPE, "d")], "hard link"),
        ([member("a"), member("a", tarfile.LNKTYPE, "a")], "hard link"),
        ([member("a/.wh...")], "no name"),
        ([member("a/.wh..")], "no name"),
        ([member(".wh.")], "no name"),
        ([member("a", tarfile.SYMTYPE, "")], "cannot hold"),
        ([member("a" * 300)], "cannot hold"),
    ],
)
def test_what_is_unsafe_is_refused(tmp_path: Path, members: list[tarfile.TarInfo], why: str) -> None:
    blob = layer(tmp_path / "blob", *members)
    (tmp_path / "root").mkdir()
    with pytest.raises(ImageFailed, match=why):
        extract(blob, tmp_path / "root")
    assert not (tmp_path / "out").exists()


def test_what_a_base_holds_and_a_folder_need_not_is_left_out(tmp_path: Path) -> None:
    program = member("bin/su")
    program.mode, program.uid = 0o4755, 0
    devices = [
        member("dev/null", tarfile.CHRTYPE),
        member("dev/sda", tarfile.BLKTYPE),
        member("pipe", tarfile.FIFOTYPE),
    ]
    root = tmp_path / "root"
    root.mkdir()
    extract(layer(tmp_path / "blob", member("./", tarfile.DIRTYPE), program, *devices, member("/etc/issue")), root)
    assert {path.relative_to(root).as_posix() for path in root.rglob("*")} == {"bin", "bin/su", "etc", "etc/issue"}
    assert stat.S_IMODE((root / "bin/su").stat().st_mode) == 0o755


def test_links_stay_links_and_are_never_written_through(tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.write_text("mine")
    root.mkdir()
    links = [member("a", tarfile.SYMTYPE, str(outside)), member("b", tarfile.SYMTYPE, "../outside")]
    extract(layer(tmp_path / "blob", *links, member("a"), member("c", tarfile.LNKTYPE, "b")), root)
    assert outside.read_text() == "mine"
    assert not (root / "a").is_symlink()
    assert (root / "b").readlink() == (root / "c").readlink() == Path("../outside")


def test_layers_remove_and_replace_what_lies_below(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("mine")
    below = [member(name) for name in ("a/one", "a/two", "b/one", "file", "folder/one", "twice")]
    link = member("link", tarfile.SYMTYPE, str(outside))
    above = [member("a/.wh.one"), member("b/.wh..wh..opq"), member("b/new"), member("file/now"), member("folder")]
    layout = LayoutImages(tmp_path / "layout")
    digest = made_of(
        layout,
        layer(tmp_path / "1", *below, link),
        layer(tmp_path / "2", *above, member("link/kept"), member("twice"), member(".wh.never")),
    )
    root = unpack_image(layout, digest, tmp_path / "run")
    files = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    assert files == {"a/two", "b/new", "file/now", "folder", "link/kept", "twice"}
    assert not (root / "link").is_symlink()
    assert (outside / "kept").read_text() == "mine"


def test_a_layer_without_compression_is_unpacked_too(tmp_path: Path) -> None:
    blob = layer(tmp_path / "blob", member("a"))
    blob.write_bytes(gzip.decompress(blob.read_bytes()))
    (tmp_path / "root").mkdir()
    extract(blob, tmp_path / "root")
    assert (tmp_path / "root/a").is_file()


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
