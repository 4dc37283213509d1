"""Opens blob stores: all that an edge job or a process that validates needs of a site.

It picks between the two kinds of store, as `insitu.wiring` picks everything else, and travels with jobs.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from insitu.ports import BlobStore
from insitu.settings import AzureBlobStore, AzureStateStore, FolderStore


def open_blobs(spec: Mapping[str, Any]) -> BlobStore:
    """Return the container that `Site.data_spec` or `Site.state_spec` described."""
    if spec["kind"] == "folder":
        return _open_folder(Path(spec["root"]))
    return _open_azure(AzureBlobStore.model_validate(spec["store"]), spec["container"])


def open_state(settings: FolderStore | AzureStateStore) -> BlobStore:
    """Return where a site keeps its state."""
    if isinstance(settings, FolderStore):
        return _open_folder(settings.root)
    return _open_azure(settings, settings.container)


@cache
def _open_folder(root: Path) -> BlobStore:
    """Return the one store of this folder in this process: it remembers the ETags that it has computed."""
    from insitu.adapters.local.blobs import FolderBlobs

    return FolderBlobs(root)


def _open_azure(settings: AzureBlobStore, container: str) -> BlobStore:
    from insitu.adapters.azure.blobs import AzureBlobs

    return AzureBlobs(settings, container)
