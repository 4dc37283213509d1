"""Folders as parcels in the site's state, so that machines hand files to each other without any other way.

A parcel is JSON: per file the hex sha256 of each of its parts. A part is a blob named by its content, so
equal bytes are there once, sending them again costs a look, and what comes out is what went in.

    parcels/SHA256    one part of a file, at most PART_BYTES
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from insitu.errors import BlobExists, BlobNotFound, StateDamaged, naming_write_errors
from insitu.files import file_names
from insitu.ports import BlobStore

Parcel = Mapping[str, Sequence[str]]
"""File name, relative to the folder, to the hex sha256 of its parts in order."""

PART_BYTES = 16_000_000
"""A part is held in memory, and is one request to the store."""


def describe(folder: Path, names: Iterable[str] | None = None) -> dict[str, list[str]]:
    """Return the parcel of the files *names* below *folder*, by default all but hidden ones and byte code."""
    wanted = file_names(folder) if names is None else names
    return {name: [digest for digest, _ in _parts(folder / name)] for name in wanted}


def send(
    state: BlobStore, folder: Path, names: Iterable[str] | None = None, part_bytes: int = PART_BYTES
) -> dict[str, list[str]]:
    """Put the files *names* below *folder* into the state, by default as `describe`; return their parcel."""
    parcel: dict[str, list[str]] = {}
    for name in file_names(folder) if names is None else names:
        parcel[name] = []
        for digest, data in _parts(folder / name, part_bytes):
            _keep(state, digest, data)
            parcel[name].append(digest)
    return parcel


def receive(state: BlobStore, parcel: Parcel, folder: Path) -> None:
    """Write the files of *parcel* as the new *folder*: whole, or not at all.

    Raises:
        BlobNotFound: A part is gone.
        StateDamaged: A part is not what its name says.
        StorageFull: There is no space for it.
    """
    staged = folder.parent / f".staged-{uuid.uuid4().hex}"
    try:
        with naming_write_errors(folder):
            for name, digests in parcel.items():
                _write(state, staged, name, digests)
            staged.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(folder, ignore_errors=True)
            os.rename(staged, folder)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _write(state: BlobStore, folder: Path, name: str, digests: Sequence[str]) -> None:
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise StateDamaged(f"a parcel in the site's state names a file outside of its folder: {name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        for digest in digests:
            data = state.read(_name(digest))
            if sha256(data).hexdigest() != digest:
                raise StateDamaged(
                    f"{_name(digest)} in the site's state is damaged",
                    found="other bytes than its name says",
                    next_action="remove that blob: the run that made it makes it again",
                )
            file.write(data)


def _keep(state: BlobStore, digest: str, data: bytes) -> None:
    try:
        state.stat(_name(digest))
    except BlobNotFound:
        with suppress(BlobExists):
            state.create(_name(digest), data)


def _name(digest: str) -> str:
    return f"parcels/{digest}"


def _parts(path: Path, part_bytes: int = PART_BYTES) -> Iterator[tuple[str, bytes]]:
    with open(path, "rb") as file:
        while data := file.read(part_bytes):
            yield sha256(data).hexdigest(), data
