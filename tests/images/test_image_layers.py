from __future__ import annotations

import gzip
import io
import os
import random
import tarfile
from hashlib import sha256
from pathlib import Path

import pytest

from insitu.errors import ImageFailed
from insitu.images.blobs import BlobFolder
from insitu.images.bytecode import Sources, bytecode
from insitu.images.layers import Entry, Recipe, build_layer, folder_entries, write_layer


def fill(folder: Path, names: list[str]) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"content of {name}\n" * 50)
    return folder


def members(blobs: BlobFolder, digest: str) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(blobs.path(digest), "r:gz") as tar:
        return {member.name: member for member in tar}


def test_folder_umask_times_and_order_do_not_change_a_layer(tmp_path: Path) -> None:
    names = ["b/c.txt", "a.txt", "b/a space.txt"]
    first = fill(tmp_path / "one", names)
    before = os.umask(0o077)
    try:
        second = fill(tmp_path / "an other", names[::-1])
    finally:
        os.umask(before)
    os.utime(second / "a.txt", (1, 1))
    blobs = BlobFolder(tmp_path / "layout")
    layers = [write_layer("x", folder_entries(folder, "opt/x"), blobs) for folder in (first, second)]
    assert layers[0] == layers[1]


def test_a_layer_names_no_one_and_has_the_folders_above_its_files(tmp_path: Path) -> None:
    blobs = BlobFolder(tmp_path)
    entries = [Entry("opt/x/file", b"1", 0o755), Entry("opt/link", link="x/file"), Entry("tmp", mode=0o1777)]
    found = members(blobs, write_layer("x", entries, blobs).descriptor.digest)
    assert list(found) == ["opt", "opt/link", "opt/x", "opt/x/file", "tmp"]
    assert {(m.uid, m.gid, m.uname, m.gname, m.mtime) for m in found.values()} == {(0, 0, "", "", 1577836800)}
    assert found["opt/x/file"].mode == 0o755
    assert found["opt/link"].linkname == "x/file"


@pytest.mark.parametrize("size_bytes", [0, 1, 65_535, 65_536, 3 << 20])
def test_random_bytes_are_stored_and_text_is_compressed(tmp_path: Path, size_bytes: int) -> None:
    (tmp_path / "random").write_bytes(random.Random(1).randbytes(size_bytes))
    (tmp_path / "text").write_bytes(b"a" * size_bytes)
    blobs = BlobFolder(tmp_path / "layout")
    for name in ("random", "text"):
        layer = write_layer(name, [Entry("data", tmp_path / name)], blobs)
        blob = blobs.path(layer.descriptor.digest).read_bytes()
        with tarfile.open(fileobj=io.BytesIO(gzip.decompress(blob))) as tar:
            data = tar.extractfile("data")
            assert data is not None
            assert data.read() == (tmp_path / name).read_bytes()
        assert blob[4:8] == bytes(4), "a time stamp in the gzip header"
        if size_bytes > 1 << 20:
            assert (layer.descriptor.size_bytes > size_bytes) == (name == "random")


def test_a_known_key_is_not_built_again_unless_its_blob_is_gone(tmp_path: Path) -> None:
    built = []

    def entries() -> list[Entry]:
        built.append(1)
        return [Entry("a", b"1")]

    blobs, recipe = BlobFolder(tmp_path / "layout"), Recipe("x", "key", entries)
    layers = [build_layer(recipe, blobs, tmp_path / "cache") for _ in range(2)]
    assert len(built) == 1
    blobs.path(layers[0].descriptor.digest).unlink()
    next((tmp_path / "cache").glob("*.json")).write_text("{torn")
    layers += [build_layer(recipe, blobs, tmp_path / "cache") for _ in range(2)]
    assert len(built) == 2
    assert len(set(layers)) == 1


def test_a_layer_is_shared_with_the_layouts_of_other_models_and_damage_with_none(tmp_path: Path) -> None:
    built = []

    def entries() -> list[Entry]:
        built.append(1)
        return [Entry("a", b"1")]

    recipe, layouts = Recipe("x", "key", entries), [BlobFolder(tmp_path / name) for name in "abc"]
    layer, _ = [build_layer(recipe, layout, tmp_path / "cache") for layout in layouts[:2]]
    assert len(built) == 1
    damaged = layouts[0].path(layer.descriptor.digest)
    damaged.write_bytes(b"!" * damaged.stat().st_size)
    assert build_layer(recipe, layouts[2], tmp_path / "cache") == layer
    assert len(built) == 2
    content = layouts[2].path(layer.descriptor.digest).read_bytes()
    assert sha256(content).hexdigest() == layer.descriptor.digest.removeprefix("sha256:")


def test_two_files_of_one_name_and_a_file_that_is_gone_are_refused(tmp_path: Path) -> None:
    blobs = BlobFolder(tmp_path)
    with pytest.raises(ImageFailed, match="two files want to be a"):
        write_layer("x", [Entry("a", b"1"), Entry("a", b"2")], blobs)
    with pytest.raises(ImageFailed, match="gone"):
        write_layer("x", [Entry("a", tmp_path / "gone")], blobs)
    assert not list((tmp_path / "blobs" / "sha256").iterdir()), "something was left of a failed layer"


def test_byte_code_does_not_depend_on_the_folder_and_skips_what_is_not_python(tmp_path: Path) -> None:
    found = []
    for folder in (tmp_path / "one", tmp_path / "two two"):
        folder.mkdir()
        (folder / "good.py").write_text("def f(): return {'a', 'b', 'c'}\nassert 'x' in {'y', 'x'}\n")
        (folder / "template.py").write_text("{{ not python }} at all\n")
        sources = Sources(folder, "opt/x", ("good.py", "template.py"), "key")
        ((entry,)) = list(bytecode([sources], tmp_path / f"{folder.name} cache"))
        assert isinstance(entry.source, Path)
        found.append((entry.name, entry.source.read_bytes()))
    assert found[0] == found[1]
    assert found[0][1][4:8] == b"\1\0\0\0", "checked at each start"
