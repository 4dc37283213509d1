"""What no run speaks for: unpacked images, spare layers, files of killed processes, words of flow runs that ended,
unnamed parcels.

Whoever looks holds the leases of all models. People may score and compare even so, hence what is unpacked or half
written is touched only when it has lain there for a day, and what may be looked up, or be sent again by a job that has
outlived its run, only after `keep_days`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Set
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from insitu.errors import ImageFailed, PublishFailed, SettingsError
from insitu.images.bases import KEPT
from insitu.images.blobs import BlobFolder
from insitu.images.manifest import parts_of
from insitu.images.referrers import MANIFEST_BYTES, blobs_of
from insitu.journal import read_json
from insitu.leases import look
from insitu.removal import Item, delete, forget, size_of
from insitu.settings import FolderStore, MlflowModels, RetentionSettings, load_site
from insitu.wiring import Site

FLOW_RUNS = "leases/flow-runs/"
_SETTLED = timedelta(days=1)
_SHA256 = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")


def leftovers(
    site: Site, needed: Mapping[str, Iterable[str]], rules: RetentionSettings, now: datetime
) -> Iterator[Item]:
    """Yield what goes; *needed* are the digests of the images that stay, by model."""
    yield from _unpacked(site, needed, now)
    for path in _staged(site):
        if _is_settled(path, now):
            yield Item("leftover", str(path), size_of(path), partial(delete, path), "of a process that was killed")
    for blob in site.state.list(FLOW_RUNS):
        if now - blob.last_modified < timedelta(days=rules.keep_days):
            continue
        held = look(site.state, blob.name)
        if held and (held.free or held.holder.life() != "alive"):
            remove = partial(forget, site.state, [blob])
            yield Item("lease", blob.name, blob.size_bytes, remove, "its flow run has ended")
    yield from _parcels(site, timedelta(days=rules.keep_days), now)
    yield from _spare_layers(site, needed, timedelta(days=rules.keep_days), now)


def _unpacked(site: Site, needed: Mapping[str, Iterable[str]], now: datetime) -> Iterator[Item]:
    """Yield what is unpacked of images that do not stay; it is unpacked again when it is asked for."""
    kept = {digest for digests in needed.values() for digest in digests}
    kept |= {layer for model, digests in needed.items() for layer in _layers(site, model, digests)}
    work = site.settings.compute.work / "scoring"
    for path in sorted([*(work / "images").glob("sha256-*"), *(work / "unpacked-layers").glob("sha256-*")]):
        if path.name.replace("-", ":", 1) not in kept and _is_settled(path, now):
            why = "no image that stays needs it"
            yield Item("unpacked", str(path), size_of(path), partial(delete, path), why)


def _spare_layers(site: Site, needed: Mapping[str, Iterable[str]], lain: timedelta, now: datetime) -> Iterator[Item]:
    """Yield layers kept for the next image, and parts of bases, that none that stays has and nobody used of late."""
    root, bases_named = site.settings.images.root, _bases(site)
    kept = {layer for model, digests in needed.items() for layer in _layers(site, model, digests)}
    cache, bases = BlobFolder(root / ".cache" / "layers"), BlobFolder(root / KEPT)
    found = {path: _noted(path, cache) for path in sorted(cache.root.glob("*.json"))}
    notes = {path: digest for path, digest in found.items() if digest}
    used = {digest for path, digest in notes.items() if not _has_lain(path, lain, now)}
    for note, digest in notes.items():
        if digest not in kept | used:
            yield _spare("kept layer", cache.path(digest), "no image that stays has it", note)
    of_nobody = [path for path in _blobs(cache) if f"sha256:{path.name}" not in kept | {*notes.values()}]
    for path in [*(path for path in found if path not in notes), *of_nobody]:
        if _has_lain(path, lain, now):
            yield _spare("kept layer", path, "a torn note, or a layer that no note names")
    of_bases = {
        part for one in bases_named or () if "@sha256:" in one for part in _parts(bases, one.rpartition("@")[2])
    }
    for path in _blobs(bases):
        if bases_named is not None and f"sha256:{path.name}" not in of_bases and _has_lain(path, lain, now):
            yield _spare("kept base", path, "no site names this base")


def _blobs(folder: BlobFolder) -> list[Path]:
    return sorted((folder.root / "blobs" / "sha256").glob("[0-9a-f]*"))


def _bases(site: Site) -> set[str] | None:
    """Return the bases of all sites whose images are in this folder; None where the settings of one cannot be read."""
    all_settings = [site.settings]
    with suppress(SettingsError):
        all_settings += [
            load_site(site.project, file.stem, {}) for file in site.project.glob("deployments/sites/*.toml")
        ]
        root = site.settings.images.root.resolve()
        return {one.images.base for one in all_settings if one.images.base and one.images.root.resolve() == root}
    return None


def _spare(kind: str, path: Path, why: str, *notes: Path) -> Item:
    """Return what goes with its *notes*; a file that a layout has as a link, too, frees nothing."""
    freed = path.stat() if path.is_file() else None
    size_bytes = freed.st_size if freed and freed.st_nlink == 1 else 0

    def remove() -> None:
        for one in (*notes, path):
            delete(one)

    return Item(kind, str(path), size_bytes, remove, why)


def _noted(note: Path, cache: BlobFolder) -> str | None:
    """Return the digest of the layer that a note is about; None for a torn note, which the next image writes anew."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError, PublishFailed):
        return f"sha256:{cache.path(json.loads(note.read_bytes())['digest']).name}"
    return None


def _parts(bases: BlobFolder, digest: str) -> set[str]:
    """Return the digests of a base that is kept, and of all that it is made of."""
    found, todo = set[str](), {digest}
    while todo:
        found |= todo
        files = [path for one in todo if (path := bases.path(one)).is_file()]
        documents = [path.read_bytes() for path in files if path.stat().st_size <= MANIFEST_BYTES]
        todo = {part for content in documents for part in blobs_of(content)} - found
    return found


def _layers(site: Site, model: str, digests: Iterable[str]) -> Iterator[str]:
    for digest in digests:
        with suppress(ImageFailed):
            there = site.layout(model).resolve(digest)
            yield from (layer.digest for layer in (parts_of(there[1])[1] if there else ()))


def _staged(site: Site) -> Iterator[Path]:
    """Yield what processes write beside its place before they rename it, and do not leave when they end well."""
    settings, work = site.settings, site.settings.compute.work
    unpacked = (work / "scoring" / "images", work / "scoring" / "unpacked-layers")  # holds whole systems
    for folder in (work, *unpacked):
        yield from folder.glob(".staged-*")
    stores = [settings.images.root, work / "jobs", work / "models", work / "reports", work / "batches"]
    stores += [store.root for store in (settings.state,) if isinstance(store, FolderStore)]
    stores += [models.artifacts for models in (settings.models,) if isinstance(models, MlflowModels)]
    for folder in stores:
        yield from sorted(folder.rglob(".staged-*"))


def _parcels(site: Site, lain: timedelta, now: datetime) -> Iterator[Item]:
    """Yield parts of files that neither a version nor a job names; none while a job is under way, which sends some."""
    parts = [blob for blob in site.state.list("parcels/") if now - blob.last_modified >= lain]
    names = {*site.state.names("jobs/")} if parts else set[str]()
    if any(_is_open(site, names, job, lain, now) for job in {name.split("/")[1] for name in names}):
        return
    documents = [*names, *site.state.names("versions/")] if parts else []
    read = (site.state.read(name).decode() for name in documents if name.endswith(".json"))
    named = {digest for text in read for digest in _SHA256.findall(text)}
    for blob in parts:
        if blob.name.removeprefix("parcels/") not in named:
            remove = partial(forget, site.state, [blob])
            yield Item("parcel", blob.name, blob.size_bytes, remove, "no version and no job names it")


def _is_open(site: Site, names: Set[str], job: str, lain: timedelta, now: datetime) -> bool:
    """Tell whether a job on another machine may be under way: it was asked for, and its end is not known."""
    spec, beat = f"jobs/{job}/spec.json", f"jobs/{job}/beat.json"
    if spec not in names or now - site.state.stat(spec).last_modified >= lain:
        return False
    return beat not in names or not read_json(site.state, beat)["end"]


def _is_settled(path: Path, now: datetime) -> bool:
    return _has_lain(path, _SETTLED, now)


def _has_lain(path: Path, lain: timedelta, now: datetime) -> bool:
    with suppress(FileNotFoundError):
        return now - datetime.fromtimestamp(path.lstat().st_mtime, UTC) >= lain
    return False
