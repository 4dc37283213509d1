"""Images in a folder: an OCI image layout, readable by skopeo and every other tool that knows the format."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from insitu.errors import PublishFailed, naming_write_errors
from insitu.files import replace_file
from insitu.images.blobs import BlobFolder, check, copy_verified
from insitu.images.manifest import MANIFEST_TYPE, canonical, to_json
from insitu.images.referrers import (
    INDEX_TYPE,
    MANIFEST_BYTES,
    Entry,
    blobs_of,
    descriptors_of,
    entry_of,
    require_subject,
    subject_of,
)
from insitu.ports import Descriptor

_TAG = "org.opencontainers.image.ref.name"


@dataclass(frozen=True)
class LayoutImages:
    """`ImageRegistry` over the image layout *root*, which is made by the first write."""

    root: Path

    @property
    def name(self) -> str:
        """`oci:folder`."""
        return f"oci:{self.root}"

    def reference(self, tag: str) -> str:
        """Return `oci:folder:tag`, as skopeo names it."""
        return f"{self.name}{'@' if tag.startswith('sha256:') else ':'}{tag}"

    def local_blob(self, digest: str) -> Path | None:
        """Return the blob's own file; the caller must not change it."""
        path = self._blobs.path(digest)
        return path if path.is_file() else None

    def has_blob(self, digest: str) -> bool:
        """Tell whether the layout holds the blob."""
        return self.local_blob(digest) is not None

    def put_blob(self, descriptor: Descriptor, path: Path, on_bytes: Callable[[int], None] = lambda _: None) -> None:
        """Store the file *path* under its digest; raise `PublishFailed` when the bytes differ."""
        with path.open("rb") as file:
            copy_verified(file, descriptor, self._blobs.path(descriptor.digest))
        on_bytes(descriptor.size_bytes)

    def mount_blob(self, descriptor: Descriptor) -> bool:
        """Tell whether the layout holds the blob: it shares none."""
        return self.has_blob(descriptor.digest)

    def put_manifest(self, descriptor: Descriptor, content: bytes) -> None:
        """Store a manifest by digest."""
        check(descriptor, f"sha256:{sha256(content).hexdigest()}", len(content))
        replace_file(self._blobs.path(descriptor.digest), content)

    def tag(self, tag: str, descriptor: Descriptor, content: bytes) -> None:
        """Point *tag* at the manifest."""
        self.put_manifest(descriptor, content)
        with self._locked():
            others = [one for one in self._index() if _tag_of(one) != tag]
            self._write_index([*others, to_json(descriptor) | {"annotations": {_TAG: tag}}])

    def lock(self, tag: str) -> None:
        """Do nothing: whoever may write the folder may write its index."""

    def resolve(self, reference: str) -> tuple[Descriptor, bytes] | None:
        """Return the manifest that a tag or digest names, verified against its digest."""
        digest = reference if reference.startswith("sha256:") else self._digest_of(reference)
        path = self.local_blob(digest) if digest else None
        if not digest or not path:
            return None
        content = path.read_bytes()
        descriptor = Descriptor(_media_type(content), digest, len(content))
        check(descriptor, f"sha256:{sha256(content).hexdigest()}", len(content))
        return descriptor, content

    def fetch_blob(self, descriptor: Descriptor, path: Path) -> None:
        """Write the blob to *path*, verified against its digest; raise `PublishFailed`."""
        try:
            with self._blobs.path(descriptor.digest).open("rb") as file:
                copy_verified(file, descriptor, path)
        except FileNotFoundError as exc:
            raise PublishFailed(f"{self.name} does not have a blob", wanted=descriptor.digest) from exc

    def referrers(self, digest: str) -> Sequence[Descriptor]:
        """Return the manifests that refer to *digest*, in digest order."""
        listed = descriptors_of(one for one in self._index() if not _tag_of(one))
        return [one for one in listed if subject_of(self._read(one.digest)) == digest]

    def attach(self, subject: str, *manifests: tuple[Descriptor, bytes]) -> None:
        """Store manifests that refer to *subject*, and list them in the index, without a tag."""
        listed = []
        for descriptor, content in manifests:
            require_subject(subject, content)
            self.put_manifest(descriptor, content)
            listed.append(entry_of(descriptor, content))
            listed[-1].get("annotations", {}).pop(_TAG, None)  # what it says of itself is no tag of the layout
        with self._locked():
            entries = self._index()
            if new := [one for one in listed if one not in entries]:
                self._write_index([*entries, *new])

    def tags(self) -> Sequence[str]:
        """Return the tags in name order."""
        return sorted(filter(None, map(_tag_of, self._index())))

    def untag(self, tag: str) -> None:
        """Let *tag* name nothing; the manifest stays. A tag that is not there is fine."""
        with self._locked():
            self._write_index([one for one in self._index() if _tag_of(one) != tag])

    def delete(self, digest: str) -> None:
        """Remove a manifest, its tags, and the blobs that no other manifest needs; one that is gone is fine."""
        with self._locked():
            entries = self._index()
            left = [one for one in entries if one["digest"] != digest]
            if len(left) < len(entries):
                self._write_index(left)
            if not self.has_blob(digest):
                return
            needed = {one for name, content in self._manifests() if name != digest for one in blobs_of(content)}
            for blob in {digest, *blobs_of(self._read(digest))} - needed:
                self._blobs.path(blob).unlink(missing_ok=True)

    @property
    def _blobs(self) -> BlobFolder:
        return BlobFolder(self.root)

    def _digest_of(self, tag: str) -> str | None:
        tagged = (one["digest"] for one in self._index() if _tag_of(one) == tag)
        return next(tagged, None)

    def _index(self) -> list[dict[str, Any]]:
        try:
            entries = json.loads((self.root / "index.json").read_bytes())["manifests"]
        except FileNotFoundError:
            return []
        except (ValueError, KeyError, TypeError) as exc:
            raise PublishFailed(
                f"the index of {self.name} cannot be read",
                found=type(exc).__name__,
                next_action=f"restore {self.root / 'index.json'} or publish into another folder",
            ) from exc
        return [dict(one) for one in entries]

    def _write_index(self, entries: Iterable[Entry]) -> None:
        """Write the index in the order of tags, then of what has none."""
        ordered = sorted(entries, key=lambda one: (_tag_of(one) or "\uffff", str(one["digest"])))
        index = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": ordered}
        replace_file(self.root / "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        replace_file(self.root / "index.json", canonical(index))

    def _read(self, digest: str) -> bytes:
        path = self.local_blob(digest)
        return path.read_bytes() if path else b""

    def _manifests(self) -> Iterator[tuple[str, bytes]]:
        """Yield digest and content of everything here that may be a manifest, listed or not."""
        for path in sorted((self.root / "blobs" / "sha256").glob("[0-9a-f]*")):
            with path.open("rb") as file:
                if path.stat().st_size <= MANIFEST_BYTES and file.read(1) == b"{":
                    yield f"sha256:{path.name}", b"{" + file.read()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other processes from changing the index meanwhile."""
        with naming_write_errors(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            with (self.root / ".index.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield


def layouts_with(root: Path, name: str, digest: str) -> Sequence[str]:
    """Return the layouts in *root*, but for *name*, that hold the blob, in name order."""
    found = sorted(path.parents[2].name for path in root.glob(f"*/blobs/sha256/{digest.removeprefix('sha256:')}"))
    return [other for other in found if other != name and not other.startswith(".")]


def _tag_of(entry: Entry) -> str | None:
    tag: str | None = entry.get("annotations", {}).get(_TAG)
    return tag


def _media_type(manifest: bytes) -> str:
    """Return what the manifest says that it is; any other blob is no manifest, but has a digest too."""
    try:
        return str(json.loads(manifest).get("mediaType", MANIFEST_TYPE))
    except (ValueError, AttributeError):
        return MANIFEST_TYPE
