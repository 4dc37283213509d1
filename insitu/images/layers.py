"""Layers: deterministic tar streams, compressed straight into the blobs of an image layout.

A layer depends on the names, modes and bytes of its entries and on nothing else: not on the folder
that they came from, its owner, its umask, its times, or the order in which they were found.
"""

from __future__ import annotations

import functools
import io
import json
import tarfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

from insitu.errors import ImageFailed
from insitu.files import replace_file
from insitu.images.blobs import CHUNK_BYTES, BlobFolder, Hash, ThreadedHash
from insitu.images.gzips import FastGzip, StoredGzip, compressible
from insitu.ports import Descriptor

EPOCH_S = 1_577_836_800
"""2020-01-01, the time of every file and image: late enough for zip, the same for all."""

LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
_FORMAT = 1


@dataclass(frozen=True)
class Entry:
    """One thing in a layer: a file from disk, bytes, a symbolic link, or (all empty) a folder."""

    name: str
    source: Path | bytes | None = None
    mode: int = 0o644
    link: str | None = None


@dataclass(frozen=True)
class Layer:
    """A layer that is in the layout; *diff_id* is the digest of the tar inside the gzip."""

    title: str
    descriptor: Descriptor
    diff_id: str


@dataclass(frozen=True)
class Recipe:
    """How to make a layer: equal keys promise equal entries, which are listed only when needed."""

    title: str
    key: str
    entries: Callable[[], Iterable[Entry]]


def key_of(*parts: object) -> str:
    """Return a hex key over *parts* (JSON values or things with a stable `str`)."""
    return sha256(json.dumps([_FORMAT, parts], sort_keys=True, default=str).encode()).hexdigest()


def build_layer(recipe: Recipe, blobs: BlobFolder, cache: Path) -> Layer:
    """Return the layer, built only if neither *blobs* nor *cache* have what the recipe gave before.

    The cache keeps it as a link: the next model's layout, or this one after a prune, takes it from there.

    Raises:
        ImageFailed: A file of the layer cannot be read, or two entries have one name.
        StorageFull: No space for the blob.
    """
    note = cache / f"{key_of(recipe.key, _own_code())}.json"
    kept = BlobFolder(cache)
    if (known := _noted(note, recipe.title)) and blobs.share(known.descriptor, kept):
        kept.share(known.descriptor, blobs)
        note.touch()  # by which a prune tells what is in use
        return known
    layer = write_layer(recipe.title, recipe.entries(), blobs)
    kept.share(layer.descriptor, blobs)
    noted = {
        "digest": layer.descriptor.digest,
        "size_bytes": layer.descriptor.size_bytes,
        "diff_id": layer.diff_id,
    }
    replace_file(note, json.dumps(noted).encode())
    return layer


@functools.cache
def _own_code() -> str:
    """Stand for the rules that this package applies, so that a change of them is a change of every key."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _noted(note: Path, title: str) -> Layer | None:
    try:
        value = json.loads(note.read_bytes())
        descriptor = Descriptor(LAYER_TYPE, value["digest"], value["size_bytes"])
        return Layer(title, descriptor, value["diff_id"])
    except (OSError, ValueError, KeyError, TypeError):  # absent or torn: building again is the repair
        return None


def write_layer(title: str, entries: Iterable[Entry], blobs: BlobFolder) -> Layer:
    """Write the layer's blob, never holding more than a chunk of it, and return it; see `build_layer`."""
    members = _complete(entries)
    with ThreadPoolExecutor(2) as pool, blobs.writing(ThreadedHash(pool)) as sink:
        gzip = FastGzip(sink) if _worth_compressing(members) else StoredGzip(sink)
        stream = _TarStream(gzip, ThreadedHash(pool))
        # USTAR would refuse long names; GNU adds a record for them and nothing else.
        with tarfile.TarFile(
            fileobj=cast(Any, stream), mode="w", format=tarfile.GNU_FORMAT, copybufsize=CHUNK_BYTES
        ) as tar:
            for entry in members:
                _add(tar, entry)
        diff_id = stream.finish()
    return Layer(title, Descriptor(LAYER_TYPE, sink.digest, sink.size_bytes), diff_id)


def _complete(entries: Iterable[Entry]) -> list[Entry]:
    """Return *entries* and the folders above them, in name order."""
    found: dict[str, Entry] = {}
    for entry in entries:
        if found.setdefault(entry.name, entry) is not entry:
            raise ImageFailed(f"two files want to be {entry.name} in the image")
    for name in list(found):
        for parent in PurePosixPath(name).parents[:-1]:
            found.setdefault(str(parent), Entry(str(parent), mode=0o755))
    return [found[name] for name in sorted(found)]


def _worth_compressing(entries: list[Entry]) -> bool:
    """Look at the largest file: it is what the layer's size, and so the time, depends on."""
    files = [entry.source for entry in entries if isinstance(entry.source, Path)]
    return not files or compressible(max(files, key=_size_bytes))


def _add(tar: tarfile.TarFile, entry: Entry) -> None:
    info = tarfile.TarInfo(entry.name)
    info.mtime, info.mode = EPOCH_S, entry.mode
    if entry.link is not None:
        info.type, info.linkname, info.mode = tarfile.SYMTYPE, entry.link, 0o777
        tar.addfile(info)
    elif entry.source is None:
        info.type = tarfile.DIRTYPE
        tar.addfile(info)
    elif isinstance(entry.source, bytes):
        info.size = len(entry.source)
        tar.addfile(info, io.BytesIO(entry.source))
    else:
        info.size = _size_bytes(entry.source)
        with _opened(entry.source) as file:
            tar.addfile(info, file)


def _size_bytes(path: Path) -> int:
    with _opened(path) as file:
        return file.seek(0, io.SEEK_END)


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as exc:
        raise ImageFailed(f"cannot read {path.name} for the image", found=exc.strerror) from exc


class _TarStream:
    """What `tarfile` writes to: gathers what is small into chunks, hashes and compresses them."""

    def __init__(self, gzip: FastGzip | StoredGzip, digest: Hash) -> None:
        self._gzip, self._hash = gzip, digest
        self._buffer = bytearray()
        self._position = 0

    def tell(self) -> int:
        """Return how much was written."""
        return self._position

    def write(self, data: bytes, /) -> int:
        """Append *data*."""
        self._position += len(data)
        if len(data) >= CHUNK_BYTES:  # of a large file: not copied
            self._drain()
            self._pass(data)
            return len(data)
        self._buffer += data
        if len(self._buffer) >= CHUNK_BYTES:
            self._drain()
        return len(data)

    def finish(self) -> str:
        """Write what is left and the gzip trailer; return the digest of the tar."""
        self._drain()
        self._gzip.close()
        return f"sha256:{self._hash.hexdigest()}"

    def _drain(self) -> None:
        if self._buffer:
            self._pass(bytes(self._buffer))
            self._buffer.clear()

    def _pass(self, chunk: bytes) -> None:
        self._hash.update(chunk)
        self._gzip.write(chunk)


def folder_entries(folder: Path, name: str) -> Iterator[Entry]:
    """Yield the regular files under *folder* as entries under *name*; raise `ImageFailed` for links."""
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            raise ImageFailed(
                f"{path.relative_to(folder)} is a symbolic link",
                wanted="regular files only",
                next_action="copy the file into the model folder",
            )
        if path.is_file():
            yield Entry(f"{name}/{path.relative_to(folder).as_posix()}", path)
