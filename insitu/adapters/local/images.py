"""Images in a folder: an OCI image layout, readable by skopeo and every other tool that knows the format."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from insitu.errors import PublishFailed, naming_write_errors
from insitu.files import replace_file
from insitu.images.blobs import BlobFolder, check, copy_verified
from insitu.images.manifest import MANIFEST_TYPE, canonical, to_json
from insitu.ports import Descriptor

_TAG = "org.opencontainers.image.ref.name"
_INDEX_TYPE = "application/vnd.oci.image.index.v1+json"


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

    def put_blob(self, descriptor: Descriptor, path: Path) -> None:
        """Store the file *path* under its digest; raise `PublishFailed` when the bytes differ."""
        with path.open("rb") as file:
            copy_verified(file, descriptor, self._blobs.path(descriptor.digest))

    def put_manifest(self, descriptor: Descriptor, content: bytes) -> None:
        """Store a manifest by digest."""
        check(descriptor, f"sha256:{sha256(content).hexdigest()}", len(content))
        replace_file(self._blobs.path(descriptor.digest), content)

    def tag(self, tag: str, descriptor: Descriptor, content: bytes) -> None:
        """Point *tag* at the manifest."""
        self.put_manifest(descriptor, content)
        with self._locked():
            others = [one for one in self._index() if one["annotations"].get(_TAG) != tag]
            ours = to_json(descriptor) | {"annotations": {_TAG: tag}}
            entries = sorted([*others, ours], key=lambda one: str(one["annotations"].get(_TAG)))
            index = {"schemaVersion": 2, "mediaType": _INDEX_TYPE, "manifests": entries}
            replace_file(self.root / "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
            replace_file(self.root / "index.json", canonical(index))

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

    @property
    def _blobs(self) -> BlobFolder:
        return BlobFolder(self.root)

    def _digest_of(self, tag: str) -> str | None:
        tagged = (one["digest"] for one in self._index() if one["annotations"].get(_TAG) == tag)
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
        return [{"annotations": {}, **one} for one in entries]

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other processes from changing the index meanwhile."""
        with naming_write_errors(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            with (self.root / ".index.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield


def _media_type(manifest: bytes) -> str:
    """Return what the manifest says that it is; any other blob is no manifest, but has a digest too."""
    try:
        return str(json.loads(manifest).get("mediaType", MANIFEST_TYPE))
    except (ValueError, AttributeError):
        return MANIFEST_TYPE
