"""Where the data is that `--data` names: at the site already, or in a folder from which it is brought there."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from insitu.batch import Blob
from insitu.errors import DataError, UsageError
from insitu.ports import BlobStore
from insitu.settings import AzureBlobStore, FolderStore
from insitu.stores import open_blobs
from insitu.tables.forms import form_of
from insitu.wiring import Site

_KNOWN = (".parquet", ".pq", ".csv", ".tsv", ".jsonl", ".ndjson", ".csv.gz", ".tsv.gz", ".jsonl.gz", ".ndjson.gz")


@dataclass(frozen=True)
class Source:
    """The data, where it is now.

    Attributes:
        store: Reads it.
        blobs: Those that are taken, in name order.
        ignored: How many others lie there.
        container: The site's container that has it; or will have it, when it is brought.
        pattern: What the names of the blobs are like.
        brought_from: The folder that it is brought from; None where it is at the site already.
    """

    store: BlobStore
    blobs: tuple[Blob, ...]
    ignored: int
    container: str
    pattern: str
    brought_from: Path | None


def find(site: Site, data: str, model: str) -> Source:
    """Return where *data* is: a folder or file of this machine, or a container of the site.

    Raises:
        UsageError: It is neither, or what it names cannot be used.
        DataError: There is nothing in it.
    """
    store, path = site.settings.data, Path(data).expanduser()
    if "://" in data:
        return _at_site(site, *_container_of(store, data))
    if not path.exists():
        return _named(site, data)
    path = Path(os.path.normpath(path.absolute()))  # not resolved: a container may be a link
    if not isinstance(store, FolderStore):
        raise UsageError(
            f"{data} is a folder of this machine, and site {site.name} reads its data where it lies",
            wanted=f"{store.account_url.rstrip('/')}/CONTAINER/PREFIX, or CONTAINER",
            next_action="bring it there as your site does, then name the container",
        )
    root = Path(os.path.normpath(store.root.absolute()))
    if path.is_relative_to(root) and path != root:
        container, *below = path.relative_to(root).parts
        return _at_site(site, container, "/".join(below) + "/" * (path.is_dir() and bool(below)))
    return _elsewhere(path, root, model)


def _container_of(store: FolderStore | AzureBlobStore, url: str) -> tuple[str, str]:
    """Return container and prefix of a URL of the site's account; raise `UsageError` for any other."""
    base = "" if isinstance(store, FolderStore) else str(store.account_url).rstrip("/") + "/"
    if not base or not url.startswith(base) or "?" in url:
        raise UsageError(
            "insitu fetches no data from elsewhere",
            found=url.split("?")[0],
            wanted=f"{base}CONTAINER/PREFIX, without a signature" if base else "a folder or a file of this machine",
            next_action=None if base else "download it, then name the folder or file",
        )
    container, _, prefix = url.removeprefix(base).partition("/")
    return container, prefix


def _named(site: Site, data: str) -> Source:
    container, _, prefix = data.partition("/")
    if isinstance(site.settings.data, FolderStore) or not re.fullmatch("[a-z0-9]+(-[a-z0-9]+)*", container):
        raise UsageError(f"there is no {data}", wanted="a folder or file with data, or a container of the site")
    return _at_site(site, container, prefix)


def _at_site(site: Site, container: str, prefix: str) -> Source:
    store = site.data(container)
    found = list(store.list(prefix))
    blobs, ending = _of_one_form(found, f"container {container}")
    if len(blobs) < 2:
        raise DataError(
            f"container {container} has one blob: a model is judged on a blob that it has not seen",
            wanted="two blobs or more, the latest by name last",
            next_action="split it, or wait for the next; `--data FILE` of a file elsewhere splits it for you",
        )
    return Source(store, blobs, len(found) - len(blobs), container, f"{_escaped(prefix)}*{ending}", None)


def _elsewhere(path: Path, root: Path, model: str) -> Source:
    folder = path if path.is_dir() else path.parent
    store = open_blobs({"kind": "folder", "root": str(folder)})
    found = list(store.list()) if path.is_dir() else [store.stat(path.name)]
    blobs, ending = _of_one_form(found, str(path))
    container = container_name(model)
    if (root / container).exists():
        raise UsageError(
            f"the site has a container {container} already",
            found=str(root / container),
            next_action=f"use what is there: --data {root / container}; or choose another name for the model",
        )
    return Source(store, blobs, len(found) - len(blobs), container, f"*{ending}", folder)


def container_name(model: str) -> str:
    """Return the name of a model's container: 3 to 63 of a-z, 0-9 and single -."""
    name = re.sub("[-_]+", "-", model).strip("-")[:63].strip("-")
    return name if len(name) >= 3 else f"{name}-data"


def _of_one_form(found: Sequence[Blob], place: str) -> tuple[tuple[Blob, ...], str]:
    """Return the blobs with data and how their names end; raise where there are none, or of two kinds."""
    endings = {blob.name: ending for blob in found if (ending := _ending(blob.name))}
    blobs = tuple(sorted((blob for blob in found if blob.name in endings), key=lambda blob: blob.name))
    if not blobs:
        raise DataError(
            f"there is no data in {place}",
            found=f"{len(found)} other files" if found else "nothing",
            wanted=f"files that end in {', '.join(_KNOWN)}",
        )
    kinds = Counter(form_of(blob).kind for blob in blobs)
    if len(kinds) > 1:
        raise DataError(
            f"the data in {place} is of more than one format",
            found=", ".join(f"{count} of {kind}" for kind, count in kinds.items()),
            wanted="blobs of one format",
            next_action="name a folder, or a prefix, with one of them",
        )
    different = set(endings.values())
    if len(different) == 1:
        return blobs, different.pop()
    if len(blobs) < len(found):
        raise DataError(
            f"the names in {place} end differently, and other files lie beside them",
            found=", ".join(sorted(different)),
            wanted="one ending, or nothing else in the folder",
        )
    return blobs, ""


def _ending(name: str) -> str | None:
    low = name.lower()
    known = next((one for one in sorted(_KNOWN, key=len, reverse=True) if low.endswith(one)), None)
    return name[-len(known) :] if known else None


def _escaped(prefix: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", prefix)
