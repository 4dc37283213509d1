"""A bundle is read as it was written, or refused; skopeo reads it, too."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_images import attach, small_image

from insitu.adapters.local.images import LayoutImages
from insitu.bundles import export_bundle, holdings, read_holdings
from insitu.errors import BundleRefused, InsituError, PublishFailed, UsageError
from insitu.images.bundle import Bundle
from insitu.images.bundle_file import open_bundle, write_bundle
from insitu.images.client import RegistryImages
from insitu.images.publish import publish_image

BLOCK = tarfile.BLOCKSIZE


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[LayoutImages, str]:
    images, digest = small_image(tmp_path_factory.mktemp("source") / "flights")
    for statement in (b"about the image", b"another thing about it"):
        attach(images, digest, statement)
    return images, digest


@pytest.fixture
def file(source: tuple[LayoutImages, str], tmp_path: Path) -> Path:
    export_bundle(*source, tmp_path / "flights.bundle", ("5", "latest"))
    return tmp_path / "flights.bundle"


def check(path: Path) -> Bundle:
    """Return what is in an intact bundle."""
    with open_bundle(path) as images:
        images.require_intact()
        return images.bundle


def spots(path: Path) -> Iterator[int]:
    """Yield offsets in each header, content, padding and the end."""
    with tarfile.open(path) as archive:
        for member in archive.getmembers():
            start, end = member.offset_data, member.offset_data + member.size
            yield from (member.offset + at for at in (0, 99, 100, 124, 136, 148, 156, 157, 257, 345, BLOCK - 1))
            yield from {start, (start + end) // 2, max(start, end - 1), end, -(-end // BLOCK) * BLOCK - 1}
    yield from (path.stat().st_size - 2 * BLOCK, path.stat().st_size - 1)


def test_a_bundle_is_the_same_bytes_wherever_it_is_made(source: tuple[LayoutImages, str], tmp_path: Path) -> None:
    images, digest = source
    made = export_bundle(images, digest, tmp_path / "one", ("5",))
    shutil.copytree(images.root, tmp_path / "copy")
    export_bundle(LayoutImages(tmp_path / "copy"), digest, tmp_path / "two", ("5",))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert made.size_bytes == (tmp_path / "one").stat().st_size
    assert sorted(tmp_path.iterdir()) == [tmp_path / "copy", tmp_path / "one", tmp_path / "two"]


def test_what_is_in_a_bundle_is_told_in_front(source: tuple[LayoutImages, str], file: Path) -> None:
    found = check(file)
    assert (found.model, found.version, found.digest, found.tags) == ("flights", "5", source[1], ("5", "latest"))
    assert list(found.attestations) == list(source[0].referrers(source[1]))
    with tarfile.open(file) as archive:
        first, layout, index, *blobs = archive.getmembers()
        assert (first.name, layout.name, index.name) == ("insitu-bundle.json", "oci-layout", "index.json")
        assert json.load(archive.extractfile(first) or io.BytesIO()) == found.to_json()
        assert [f"sha256:{member.name.removeprefix('blobs/sha256/')}" for member in blobs] == [
            blob.digest for blob in found.blobs
        ]


@pytest.mark.registry
def test_what_comes_out_of_a_registry_is_the_same_bundle(
    source: tuple[LayoutImages, str], file: Path, registry_host: str, tmp_path: Path
) -> None:
    target = RegistryImages(registry_host, "bundled")
    publish_image(source[1], source[0], target, ("5", "latest"))
    export_bundle(target, source[1], tmp_path / "again", ("5", "latest"))
    assert (tmp_path / "again").read_bytes() == file.read_bytes()
    assert not list(tmp_path.glob(".staged-*"))


def test_skopeo_reads_a_bundle(source: tuple[LayoutImages, str], file: Path, tmp_path: Path) -> None:
    if not shutil.which("skopeo"):
        pytest.skip("the Debian package skopeo is not installed")
    command = ["skopeo", "inspect", "--raw", f"oci-archive:{file}:5"]
    manifest = subprocess.run(command, capture_output=True, check=True).stdout
    assert source[0].resolve("5") == LayoutImages(source[0].root).resolve(source[1])
    assert manifest == (source[0].resolve(source[1]) or (None, b""))[1]


def test_an_unpacked_bundle_is_a_layout_with_its_attestations(
    source: tuple[LayoutImages, str], file: Path, tmp_path: Path
) -> None:
    with tarfile.open(file) as archive:
        archive.extractall(tmp_path / "layout", filter="data")
    there = LayoutImages(tmp_path / "layout")
    assert there.resolve("latest") == source[0].resolve("latest")
    assert there.referrers(source[1]) == source[0].referrers(source[1])


def test_a_byte_that_is_flipped_anywhere_is_seen(file: Path) -> None:
    whole, unseen = file.read_bytes(), []
    assert check(file)
    for spot in sorted(set(spots(file))):
        for bit in (1, 0x80):
            file.write_bytes(whole[:spot] + bytes([whole[spot] ^ bit]) + whole[spot + 1 :])
            try:
                check(file)
            except (BundleRefused, PublishFailed):
                continue
            unseen.append((spot, bit))
    assert unseen == []


@pytest.mark.parametrize("keep", [0, 1, 511, 512, 513, 4096, 20_000, -1025, -1024, -512, -1])
def test_a_bundle_that_is_cut_off_is_refused(file: Path, keep: int) -> None:
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(BundleRefused):
        check(file)


@pytest.mark.parametrize("more", [b"\0", b"\0" * 512, b"more"])
def test_a_bundle_that_goes_on_is_refused(file: Path, more: bytes) -> None:
    file.write_bytes(file.read_bytes() + more)
    with pytest.raises(BundleRefused, match="longer"):
        check(file)


Members = list[tuple[tarfile.TarInfo, bytes]]


def twice(members: Members) -> Members:
    return [*members[:5], members[4], *members[5:]]


def turned(members: Members) -> Members:
    return [*members[:4], members[5], members[4], *members[6:]]


def without_one(members: Members) -> Members:
    return [*members[:4], *members[5:]]


def one_more(members: Members) -> Members:
    return [*members, (tarfile.TarInfo("blobs/sha256/more"), b"")]


def outside(members: Members) -> Members:
    return [*members[:4], (_as(members[4][0], name="../../../tmp/evil"), members[4][1]), *members[5:]]


def absolute(members: Members) -> Members:
    return [*members[:4], (_as(members[4][0], name="/tmp/evil"), members[4][1]), *members[5:]]


def link(members: Members) -> Members:
    return [*members[:4], (_as(members[4][0], type=tarfile.SYMTYPE, linkname="/etc/passwd", size=0), b""), *members[5:]]


def hard_link(members: Members) -> Members:
    return [*members[:4], (_as(members[4][0], type=tarfile.LNKTYPE, linkname="index.json", size=0), b""), *members[5:]]


def device(members: Members) -> Members:
    return [*members[:4], (_as(members[4][0], type=tarfile.CHRTYPE, size=0), b""), *members[5:]]


def sparse(members: Members) -> Members:
    return [*members[:4], (_as(members[4][0], type=tarfile.GNUTYPE_SPARSE), members[4][1]), *members[5:]]


def folder(members: Members) -> Members:
    return [*members[:3], (_as(tarfile.TarInfo("blobs"), type=tarfile.DIRTYPE), b""), *members[3:]]


def behind(members: Members) -> Members:
    return [*members[1:], members[0]]


def _as(member: tarfile.TarInfo, **changes: Any) -> tarfile.TarInfo:
    changed = copy(member)
    for name, value in changes.items():
        setattr(changed, name, value)
    return changed


@pytest.mark.parametrize(
    "edit",
    [twice, turned, without_one, one_more, outside, absolute, link, hard_link, device, sparse, folder, behind],
)
def test_an_archive_with_other_entries_is_refused(file: Path, edit: Callable[[Members], Members]) -> None:
    with tarfile.open(file) as archive:
        members = [(one, (archive.extractfile(one) or io.BytesIO()).read()) for one in archive.getmembers()]
    with tarfile.open(file, "w", format=tarfile.GNU_FORMAT) as archive:
        for member, content in edit(members):
            archive.addfile(member, io.BytesIO(content))
    data = file.read_bytes()
    file.write_bytes(data[: len(data.rstrip(b"\0")) // BLOCK * BLOCK + 3 * BLOCK])  # as insitu ends its own
    with pytest.raises(InsituError):
        check(file)


def test_an_archive_that_is_only_packed_anew_in_insitus_way_is_the_same(file: Path) -> None:
    """Shows that the test before changes nothing but what it says."""
    whole = file.read_bytes()
    with tarfile.open(file) as archive:
        members = [(one, (archive.extractfile(one) or io.BytesIO()).read()) for one in archive.getmembers()]
    with tarfile.open(file, "w", format=tarfile.GNU_FORMAT) as archive:
        for member, content in members:
            archive.addfile(member, io.BytesIO(content))
    assert file.read_bytes()[: len(whole)] == whole


def test_a_size_that_no_disk_has_is_refused_at_once(source: tuple[LayoutImages, str], file: Path) -> None:
    bundle = check(file)
    *blobs, last = bundle.blobs
    lie = replace(bundle, blobs=(*blobs, replace(last, size_bytes=1 << 60)))
    _forge(file, lie)
    with pytest.raises(BundleRefused, match="cut off"):
        check(file)


def test_a_bundle_that_is_forged_throughout_holds_what_belongs_to_its_image_or_is_refused(
    source: tuple[LayoutImages, str], file: Path
) -> None:
    """Whoever writes the page in front anew can make the archive agree with it."""
    images, bundle = source[0], check(file)
    extra = next(iter(bundle.attestations))
    forgeries = {
        "another model": replace(bundle, model="arrivals"),
        "another version": replace(bundle, version="6"),
        "another order": replace(bundle, blobs=(bundle.blobs[0], bundle.blobs[2], bundle.blobs[1], *bundle.blobs[3:])),
        "no configuration": replace(bundle, blobs=(bundle.blobs[0], *bundle.blobs[2:])),
        "no manifest": replace(bundle, blobs=bundle.blobs[1:]),
        "a blob of nobody": replace(bundle, attestations=bundle.attestations[1:]),
        "an attestation as the image": replace(bundle, image=extra, attestations=()),
        "what was left out is no layer": replace(bundle, blobs=bundle.blobs[:-1], without=(bundle.image,)),
        "another type": replace(bundle, image=replace(bundle.image, media_type="application/x-other")),
    }
    taken = []
    for name, forged in forgeries.items():
        write_bundle(forged, images, file, lambda done, size: None)
        with suppress(InsituError):
            check(file)
            taken.append(name)
    assert taken == []


def test_a_front_that_could_be_read_in_two_ways_is_refused(file: Path) -> None:
    front = check(file).front
    for other, said in (
        (front.replace(b'{"attestations"', b'{"model":"arrivals","attestations"'), "was changed"),
        (front.replace(b'"format":1', b'"format":true'), "was changed"),
        (front.replace(b'"format":1', b'"format":2'), "not a bundle that this insitu can read"),
        (front.replace(b'"tags":["5"', b'"tags":["..5"'), "was changed"),
        (front + b" ", "was changed"),
        (b"[" * 100_000, "was changed"),
        (b"null", "was changed"),
    ):
        assert other != front
        _front_only(file, other)
        with pytest.raises(BundleRefused, match=said):
            check(file)


def test_a_layer_that_changed_on_disk_is_not_exported(source: tuple[LayoutImages, str], tmp_path: Path) -> None:
    shutil.copytree(source[0].root, tmp_path / "copy")
    images = LayoutImages(tmp_path / "copy")
    with open_bundle(_exported(source, tmp_path)) as there:
        layer = images.local_blob(there.bundle.blobs[-1].digest)
    assert layer
    layer.write_bytes(b"x" * layer.stat().st_size)
    with pytest.raises(PublishFailed, match="is not what was read"):
        export_bundle(images, source[1], tmp_path / "broken", ("5",))
    assert not (tmp_path / "broken").exists()


def test_what_the_receiver_has_is_left_out(source: tuple[LayoutImages, str], tmp_path: Path) -> None:
    images = source[0]
    other, newer = small_image(tmp_path / "newer", "6", salt="retrained")
    have = tmp_path / "have.json"
    have.write_text(json.dumps(holdings(images)))
    made = export_bundle(other, newer, tmp_path / "delta", ("6",), read_holdings(have))
    assert len(made.without) == 3
    assert (tmp_path / "delta").stat().st_size < sum(one.size_bytes for one in made.blobs) + 20 * BLOCK
    for names in (_exported(source, tmp_path), _lines(tmp_path, images)):
        export_bundle(other, newer, tmp_path / "again", ("6",), read_holdings(names))
        assert (tmp_path / "again").read_bytes() == (tmp_path / "delta").read_bytes()
    with open_bundle(tmp_path / "delta", images) as joined:
        joined.require_intact()
        publish_image(newer, joined, LayoutImages(tmp_path / "third"), ("6",))
    assert LayoutImages(tmp_path / "third").resolve("6") == other.resolve("6")
    with open_bundle(tmp_path / "delta") as alone, pytest.raises(BundleRefused, match="made without a layer"):
        publish_image(newer, alone, LayoutImages(tmp_path / "fourth"), ("6",))


@pytest.mark.parametrize("text", ["", "{}", '{"blobs": 1}', "sha256:abc\nnonsense", "[1, 2"])
def test_a_file_that_does_not_tell_what_the_receiver_has_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "have").write_text(text)
    if not text:
        assert read_holdings(tmp_path / "have") == set()
        return
    with pytest.raises(UsageError, match="have"):
        read_holdings(tmp_path / "have")


def _exported(source: tuple[LayoutImages, str], folder: Path) -> Path:
    export_bundle(*source, folder / "earlier.bundle", ("5",))
    return folder / "earlier.bundle"


def _lines(folder: Path, images: LayoutImages) -> Path:
    (folder / "digests").write_text("\n".join(holdings(images)["blobs"]))
    return folder / "digests"


def _front_only(file: Path, front: bytes) -> None:
    from insitu.images.bundle import FRONT, header, padding

    file.write_bytes(header(FRONT, len(front)) + front + padding(len(front)))


def _forge(file: Path, bundle: Bundle) -> None:
    _front_only(file, bundle.front)
