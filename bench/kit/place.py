"""Where the blobs of a bench lie: a folder, or a container of Azurite."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.harness import ROOT
from insitu.adapters.local.blobs import FolderBlobs
from insitu.batch import Batch, Blob

if TYPE_CHECKING:
    from azure.storage.blob import ContainerClient

API_VERSION = "2019-07-07"
"""The newest that Azure Stack Hub answers; every contender that lets itself be told speaks it."""


@dataclass(frozen=True)
class Place:
    """One container; *url* is the account's, and empty for a folder, whose parent is *folder*."""

    container: str
    folder: str = ""
    url: str = ""
    account: str = ""
    key: str = ""

    @property
    def port(self) -> int:
        """The loopback port of the account."""
        return int(self.url.split(":")[2].split("/")[0])

    def through(self, port: int) -> Place:
        """Return the same container behind another loopback port."""
        return replace(self, url=self.url.replace(f":{self.port}/", f":{port}/"))

    def client(self) -> ContainerClient:
        """Return the SDK's client."""
        from azure.storage.blob import ContainerClient

        return ContainerClient(self.url, self.container, self.key, api_version=API_VERSION)

    def sas(self) -> str:
        """Return a token that allows to read and list, as the query of an address."""
        from azure.storage.blob import generate_container_sas

        expiry = datetime.now(UTC) + timedelta(days=1)
        return str(generate_container_sas(self.account, self.container, self.key, permission="rl", expiry=expiry))

    def address(self, name: str) -> str:
        """Return where a blob is read with plain HTTP, without its token."""
        return f"{self.url}/{self.container}/{name}"

    def to_json(self) -> dict[str, Any]:
        """Return the place as JSON values."""
        return asdict(self)


def in_folder(folder: Path) -> tuple[Place, Batch]:
    """Return the folder as a place, and its blobs, pinned."""
    return Place(folder.name, str(folder.parent)), Batch.of(folder.name, FolderBlobs(folder).list())


@contextmanager
def emulator() -> Iterator[Place]:
    """Run Azurite over what it kept of earlier benches; the place names no container yet."""
    sys.path.append(str(ROOT / "tests"))  # plain helpers beside the tests, no package
    from azurite import azurite

    with azurite(ROOT / "var" / "bench" / "azurite") as service:
        yield Place("", url=service.url, account=service.account, key=service.key)


def uploaded(account: Place, folder: Path) -> tuple[Place, Batch]:
    """Return the container named like *folder* with the same blobs, written if need be, and pinned."""
    place = replace(account, container=folder.name)
    with place.client() as client:
        if not client.exists():
            client.create_container()
        there = {blob.name: blob.size for blob in client.list_blobs()}
        for path in sorted(folder.glob("part-*")):
            if there.get(path.name) != path.stat().st_size:
                with path.open("rb") as file:
                    client.upload_blob(path.name, file, overwrite=True)
        return place, Batch.of(place.container, (_blob(found) for found in client.list_blobs()))


def _blob(found: Any) -> Blob:
    """Return the SDK's blob as ours; its ETags come without quotes in listings."""
    return Blob(found.name, f'"{found.etag.strip(chr(34))}"', found.size, found.last_modified)
