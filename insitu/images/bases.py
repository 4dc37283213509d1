"""Base images by digest: of a registry or a layout on disk, for this machine's processor, kept for work offline."""

from __future__ import annotations

import json
import logging
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any

from insitu.errors import ImageFailed
from insitu.files import replace_file
from insitu.images.blobs import BlobFolder
from insitu.images.described import BASE_DIGEST, BASE_NAME
from insitu.images.layers import LAYER_TYPE, Layer
from insitu.images.manifest import CONFIG_TYPE, architecture, parts_of
from insitu.images.references import parse_place, split_reference
from insitu.ports import Descriptor, ImageRegistry

log = logging.getLogger(__name__)

KEPT = ".bases"
"""The folder with the blobs of bases, beside the layouts of the models."""

_INDEXES = {
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
}
_CONFIG_BYTES = 4 << 20
_CONFIGS = {CONFIG_TYPE, "application/vnd.docker.container.image.v1+json"}
_PLAIN_LAYER = "application/vnd.oci.image.layer.v1.tar"
# Docker's own types name the same bytes.
_LAYERS = {
    LAYER_TYPE: LAYER_TYPE,
    _PLAIN_LAYER: _PLAIN_LAYER,
    "application/vnd.docker.image.rootfs.diff.tar.gzip": LAYER_TYPE,
    "application/vnd.docker.image.rootfs.diff.tar": _PLAIN_LAYER,
}
_SHA256 = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class BaseReference:
    """How a site names its base: an image of `HOST/NAME` or `oci:FOLDER`, by its digest or else by its tag."""

    place: str
    tag: str
    digest: str

    @classmethod
    def of(cls, text: str) -> BaseReference:
        """Take `HOST/NAME[:TAG][@DIGEST]` or `oci:FOLDER[:TAG][@DIGEST]` apart; raise `UsageError`."""
        place, which = split_reference(text)
        if not which.startswith("sha256:"):
            return cls(place, which, "")
        bare, tag = split_reference(place)
        return cls(bare, "" if bare == place else tag, which)

    @property
    def name(self) -> str:
        """What images say that they stand on; empty for a folder, which is called otherwise on another machine."""
        return "" if self.place.startswith("oci:") else f"{self.place}{self.tag and ':' + self.tag}"


@dataclass(frozen=True)
class Base:
    """An image that others stand on.

    Attributes:
        name: Its repository; empty when it came from a folder.
        digest: What the site names: of an image, or of an index of images for several processors.
        config: Its configuration document.
        layers: Its layers, by the media types of OCI.
        documents: Index, manifest and configuration by digest.
        kept: Where all of it is, once it has been fetched.
    """

    name: str
    digest: str
    config: Mapping[str, Any]
    layers: tuple[Layer, ...]
    documents: Mapping[str, bytes]
    kept: BlobFolder

    @property
    def labels(self) -> dict[str, str]:
        """What an image that stands on it says of it."""
        return {BASE_DIGEST: self.digest, **({BASE_NAME: self.name} if self.name else {})}

    def put_layers(self, blobs: BlobFolder) -> None:
        """Put the layers into another layout: as links, where that is on the same disk."""
        for layer in self.layers:
            blobs.share(layer.descriptor, self.kept)


def fetch_base(reference: BaseReference, source: ImageRegistry, kept: Path) -> Base:
    """Return the base, with everything of it in the folder *kept*: what is there already is not asked for.

    Raises:
        ImageFailed: It is not named by digest, not there, for other processors, or of a kind that cannot be stood on.
        PublishFailed: *source* gives other bytes than a digest names.
        BackendUnavailable: No answer.
        StorageFull: No space.
    """
    base = look_for_base(reference, source, kept)
    lacking = [layer.descriptor for layer in base.layers if not base.kept.holds(layer.descriptor)]
    if lacking:
        size_mb = sum(one.size_bytes for one in lacking) / 1e6
        log.info("fetching the base %s, %d layers with %.1f MB: once", source.name, len(lacking), size_mb)
    for descriptor in lacking:
        source.fetch_blob(descriptor, base.kept.path(descriptor.digest))
    for digest, content in base.documents.items():  # last: they promise the layers
        path = base.kept.path(digest)
        if not path.is_file() or path.read_bytes() != content:
            replace_file(path, content)
    return base


def repository_with(base: str | None, registry: str | None, kept: Path, digest: str) -> tuple[str, ...]:
    """Return the repository of *base*, as settings name it, if it is one of *registry* and has the blob."""
    if base is None or not BlobFolder(kept).path(digest).is_file():
        return ()
    place = parse_place(BaseReference.of(base).place)
    return (place.repository,) if place.host == registry else ()


def look_for_base(reference: BaseReference, source: ImageRegistry, kept: Path) -> Base:
    """Return the base without fetching layers, and without writing anything; see `fetch_base`."""
    if not reference.digest:
        raise _unpinned(reference, source)
    shelf = _Shelf(source, BlobFolder(kept), {})
    try:
        return _described(reference, shelf)
    except (AttributeError, TypeError, KeyError) as exc:
        raise _unusable("its documents are not as OCI has them", type(exc).__name__, "an image") from exc


def _described(reference: BaseReference, shelf: _Shelf) -> Base:
    manifest = shelf.manifest(reference.digest)
    if manifest.get("mediaType") in _INDEXES or "manifests" in manifest:
        manifest = shelf.manifest(_for_this_machine(manifest))
    described, layers = parts_of(json.dumps(manifest).encode())
    if described.media_type not in _CONFIGS or described.size_bytes > _CONFIG_BYTES:
        raise _unusable("it is no image that can run", described.media_type, CONFIG_TYPE)
    config = shelf.config(described)
    _require_plain(config)
    return Base(reference.name, reference.digest, config, _layers(layers, config), shelf.documents, shelf.kept)


@dataclass(frozen=True)
class _Shelf:
    """Documents of a base: from the folder where it is kept or, the first time, from its source."""

    source: ImageRegistry
    kept: BlobFolder
    documents: dict[str, bytes]

    def manifest(self, digest: str) -> dict[str, Any]:
        content = self._kept(digest)
        if content is None:
            found = self.source.resolve(digest)
            if found is None:
                raise ImageFailed(
                    f"{self.source.name} does not have the base",
                    wanted=digest,
                    next_action="mend base of [images]: perhaps the registry has deleted that image",
                )
            content = found[1]
        return self._parsed(digest, content)

    def config(self, descriptor: Descriptor) -> dict[str, Any]:
        content = self._kept(descriptor.digest)
        if content is None:
            with tempfile.TemporaryDirectory(prefix="insitu-") as scratch:
                self.source.fetch_blob(descriptor, Path(scratch, "config"))
                content = Path(scratch, "config").read_bytes()
        return self._parsed(descriptor.digest, content)

    def _kept(self, digest: str) -> bytes | None:
        path = self.kept.path(digest)
        content = path.read_bytes() if path.is_file() else None
        return content if content and f"sha256:{sha256(content).hexdigest()}" == digest else None

    def _parsed(self, digest: str, content: bytes) -> dict[str, Any]:
        try:
            value = json.loads(content)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise _unusable("a part of it is no JSON object", digest, "an image")
        self.documents[digest] = content
        return value


def _for_this_machine(index: Mapping[str, Any]) -> str:
    """Return the digest of the image for this processor; raise `ImageFailed` with what the index has."""
    wanted = f"linux/{architecture()}"
    offered: dict[str, str] = {}
    for one in index.get("manifests") or ():
        offered.setdefault(_called(one.get("platform") or {}), str(one.get("digest")))
    if wanted not in offered:
        known = ", ".join(sorted(name for name in offered if "unknown" not in name))
        raise _unusable("it has nothing for this machine's processor", known or "nothing", wanted)
    return offered[wanted]


def _called(platform: Mapping[str, Any]) -> str:
    """Return what people call a platform: the plain variants of a processor go without saying."""
    variant = platform.get("variant")
    name = f"{platform.get('os', 'unknown')}/{platform.get('architecture', 'unknown')}"
    return name if variant in (None, "", "v8" if name.endswith("/arm64") else "v1") else f"{name}/{variant}"


def _require_plain(config: Mapping[str, Any]) -> None:
    """Raise `ImageFailed` unless this machine can run it and what is taken over of it is text."""
    found, wanted = _called(config), f"linux/{architecture()}"
    if found != wanted:
        raise _unusable("it is for another processor", found, wanted)
    run, history = config.get("config") or {}, config.get("history") or []
    texts = [*(run.get("Env") or ()), *chain.from_iterable((run.get("Labels") or {}).items())]
    if not all(isinstance(one, str) for one in texts) or not all(isinstance(one, dict) for one in history):
        raise _unusable("its configuration is not as OCI has it", "other than text", "text")


def _layers(described: tuple[Descriptor, ...], config: Mapping[str, Any]) -> tuple[Layer, ...]:
    """Return the layers with the media types of OCI; raise `ImageFailed` for what not every Docker can pull."""
    diff_ids = (config.get("rootfs") or {}).get("diff_ids") or []
    if len(diff_ids) != len(described) or not all(_SHA256.fullmatch(str(one)) for one in diff_ids):
        raise _unusable(
            "manifest and configuration tell of other layers", f"{len(described)} and {len(diff_ids)}", "as many"
        )
    for one in described:
        if one.media_type not in _LAYERS:
            why = "compressed with zstd, which Docker before 23 cannot pull" if "zstd" in one.media_type else "foreign"
            raise _unusable(f"a layer of it is {why}", one.media_type, LAYER_TYPE)
    return tuple(
        Layer(f"base {number}", Descriptor(_LAYERS[one.media_type], one.digest, one.size_bytes), diff_id)
        for number, (one, diff_id) in enumerate(zip(described, diff_ids, strict=True), 1)
    )


def _unusable(why: str, found: str, wanted: str) -> ImageFailed:
    return ImageFailed(
        f"images cannot stand on the base: {why}",
        found=found,
        wanted=wanted,
        next_action="name another base in [images]",
    )


def _unpinned(reference: BaseReference, source: ImageRegistry) -> ImageFailed:
    """Return the error that says which digest the tag names today: another one, perhaps, tomorrow."""
    found, named = source.resolve(reference.tag), f"{reference.place}:{reference.tag}"
    return ImageFailed(
        "the base is named by a tag, which can be moved",
        found=named,
        wanted="a digest, so that equal inputs give equal images",
        next_action=f'write base = "{named}@{found[0].digest}"' if found else "there is no such tag: mend it",
    )
