"""What is really in an image: its packages, shared libraries and model, read from the layers and from nowhere else."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from email.parser import BytesHeaderParser
from gzip import BadGzipFile
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

from isal import igzip, isal_zlib
from packaging.utils import canonicalize_name

from insitu.errors import ImageFailed
from insitu.files import replace_file
from insitu.images.base import INTERPRETER, LIBRARY_FOLDER
from insitu.images.blobs import CHUNK_BYTES
from insitu.images.contents import MODEL_FOLDER
from insitu.images.environment import EXTRA_LIBRARIES, SITE_PACKAGES
from insitu.images.reading import local_copy
from insitu.ports import Descriptor, ImageRegistry

# isal's types say that this is an instance and that its files are untyped.
_CORRUPT: type[Exception] = cast(Any, isal_zlib.error)
_gunzip: Callable[[Path], BinaryIO] = cast(Any, igzip.open)
_GZIP = b"\x1f\x8b"
_METADATA_BYTES = 4 << 20
_FORMAT = 1


@dataclass(frozen=True)
class Package:
    """An installed Python package.

    Attributes:
        record: Hex sha256 of its RECORD, which has a hash of each of its files.
        license: The SPDX expression that it states; empty when it states none.
    """

    name: str
    version: str
    record: str
    license: str = ""


@dataclass(frozen=True)
class Inventory:
    """What layers hold; files by their path in the image, each with its hex sha256.

    Attributes:
        packages: By the folder of their metadata.
        system: The interpreter, and shared libraries that come from the system where the image was made.
        model: The files of the model's folder, by their path in it.
    """

    packages: Mapping[str, Package] = field(default_factory=dict)
    system: Mapping[str, str] = field(default_factory=dict)
    model: Mapping[str, str] = field(default_factory=dict)

    def below(self, other: Inventory) -> Inventory:
        """Return what is there when *other* lies above this."""
        return Inventory(
            {**self.packages, **other.packages}, {**self.system, **other.system}, {**self.model, **other.model}
        )


def inventory(images: ImageRegistry, layers: Sequence[Descriptor], cache: Path | None = None) -> Inventory:
    """Return what *layers*, lowest first, hold together; whoever asks has verified them.

    Args:
        images: Where the layers are.
        layers: Those of one image.
        cache: Folder of notes about layers that were read before; without one each is read.

    Raises:
        ImageFailed: A layer is no tar, or a package in it has no name or version.
        PublishFailed: A layer is not to be had.
    """
    whole = Inventory()
    for layer in layers:
        whole = whole.below(_noted(images, layer, cache) if cache else _read(images, layer))
    return whole


def _noted(images: ImageRegistry, layer: Descriptor, cache: Path) -> Inventory:
    note = cache / f"{_FORMAT}-{layer.digest.removeprefix('sha256:')}.json"
    try:
        kept = json.loads(note.read_bytes())
        packages = {folder: Package(**package) for folder, package in kept["packages"].items()}
        return Inventory(packages, dict(kept["system"]), dict(kept["model"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # absent or torn: reading is the repair
        found = _read(images, layer)
        replace_file(note, json.dumps(asdict(found)).encode())
        return found


def _read(images: ImageRegistry, layer: Descriptor) -> Inventory:
    found = _Finds()
    with local_copy(images, layer) as path:
        try:
            with _opened(path) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
                for member in tar:
                    if member.isreg() and (file := tar.extractfile(member)):
                        found.look(PurePosixPath(member.name).as_posix().removeprefix("/"), cast(BinaryIO, file))
        except (tarfile.TarError, EOFError, BadGzipFile, _CORRUPT) as exc:
            raise ImageFailed(f"layer {layer.digest} is no tar, gzipped or not", found=type(exc).__name__) from exc
    return found.inventory


def _opened(path: Path) -> BinaryIO:
    with path.open("rb") as file:
        return _gunzip(path) if file.read(2) == _GZIP else path.open("rb")


@dataclass
class _Finds:
    """What was seen of one layer so far."""

    system: dict[str, str] = field(default_factory=dict)
    model: dict[str, str] = field(default_factory=dict)
    records: dict[str, str] = field(default_factory=dict)
    heads: dict[str, Mapping[str, str]] = field(default_factory=dict)

    def look(self, name: str, file: BinaryIO) -> None:
        """Take note of a file, if it is one that counts."""
        path = PurePosixPath(name)
        if name.startswith(f"{MODEL_FOLDER}/"):
            self.model[name.removeprefix(f"{MODEL_FOLDER}/")] = _digest(file)
        elif name == INTERPRETER or (str(path.parent) in (LIBRARY_FOLDER, EXTRA_LIBRARIES) and ".so" in path.name):
            self.system[name] = _digest(file)
        elif str(path.parent.parent) == SITE_PACKAGES and path.parent.suffix == ".dist-info":
            if path.name == "RECORD":
                self.records[path.parent.name] = _digest(file)
            elif path.name == "METADATA":
                head = BytesHeaderParser().parsebytes(file.read(_METADATA_BYTES), headersonly=True)
                self.heads[path.parent.name] = {key: str(value) for key, value in head.items()}

    @property
    def inventory(self) -> Inventory:
        """All of it."""
        packages = {folder: self._package(folder) for folder in sorted({*self.heads, *self.records})}
        return Inventory(packages, dict(sorted(self.system.items())), dict(sorted(self.model.items())))

    def _package(self, folder: str) -> Package:
        try:
            head, record = self.heads[folder], self.records[folder]
            name = canonicalize_name(head["Name"])
            return Package(name, head["Version"], record, head.get("License-Expression", ""))
        except KeyError as exc:
            raise ImageFailed(f"{folder} in the image does not say what it is", wanted=str(exc)) from None


def _digest(file: BinaryIO) -> str:
    digest = sha256()
    while chunk := file.read(CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()
