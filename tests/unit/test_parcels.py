"""Parcels: the same bytes are there once, and what comes out is what went in."""

from __future__ import annotations

from pathlib import Path

import pytest

from insitu import parcels
from insitu.adapters.local.blobs import FolderBlobs
from insitu.errors import BlobNotFound, StateDamaged


@pytest.fixture
def state(tmp_path: Path) -> FolderBlobs:
    return FolderBlobs(tmp_path / "state")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "data").mkdir(parents=True)
    (folder / "data/weights.bin").write_bytes(bytes(range(256)) * 100)
    (folder / "MLmodel").write_text("flavors: {}\n")
    (folder / "copy").write_text("flavors: {}\n")
    (folder / "empty").touch()
    (folder / ".hidden").write_text("no part of it")
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_comes_out_is_what_went_in(state: FolderBlobs, folder: Path, tmp_path: Path) -> None:
    parcel = parcels.send(state, folder)
    assert parcel == parcels.describe(folder)
    parcels.receive(state, parcel, tmp_path / "out")
    assert files(tmp_path / "out") == {k: v for k, v in files(folder).items() if k != ".hidden"}


def test_a_large_file_goes_in_parts(state: FolderBlobs, folder: Path, tmp_path: Path) -> None:
    parcel = parcels.send(state, folder, ["data/weights.bin"], part_bytes=10_000)
    assert [state.stat(f"parcels/{digest}").size_bytes for digest in parcel["data/weights.bin"]] == [
        10_000,
        10_000,
        5_600,
    ]
    parcels.receive(state, parcel, tmp_path / "out")
    assert files(tmp_path / "out") == {"data/weights.bin": (folder / "data/weights.bin").read_bytes()}


def test_the_same_bytes_are_there_once(state: FolderBlobs, folder: Path) -> None:
    parcels.send(state, folder)
    parcels.send(state, folder)
    assert len(list(state.names("parcels/"))) == 2


def test_a_parcel_takes_the_place_of_what_was_there(state: FolderBlobs, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/old").touch()
    parcels.receive(state, parcels.send(state, folder, ["MLmodel"]), tmp_path / "out")
    assert list(files(tmp_path / "out")) == ["MLmodel"]


@pytest.mark.parametrize("damage", ["other bytes", "gone"])
def test_a_damaged_parcel_leaves_nothing(state: FolderBlobs, folder: Path, tmp_path: Path, damage: str) -> None:
    parcel = parcels.send(state, folder)
    part = state.root / "parcels" / parcel["MLmodel"][0]
    if damage == "gone":
        part.unlink()
    else:
        part.write_bytes(b"other bytes")
    with pytest.raises(BlobNotFound if damage == "gone" else StateDamaged):
        parcels.receive(state, parcel, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "state"]


def test_a_parcel_writes_nothing_outside_of_its_folder(state: FolderBlobs, folder: Path, tmp_path: Path) -> None:
    (digest,) = parcels.send(state, folder, ["MLmodel"])["MLmodel"]
    with pytest.raises(StateDamaged, match="outside"):
        parcels.receive(state, {"../../escaped": [digest]}, tmp_path / "deep/out")
    assert not (tmp_path / "escaped").exists()
