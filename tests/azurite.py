"""A real Azurite, the emulator of Azure Blob Storage, for tests and benches.

    with azurite(folder) as emulator:
        emulator.url, emulator.account, emulator.key

Benches import it too: this folder has no modules but plain helpers beside the tests.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from insitu.twin.azurite import PROGRAM as PROGRAM
from insitu.twin.azurite import Azurite as Service
from insitu.twin.azurite import azurite as serving
from insitu.twin.azurite import new_key


@dataclass(frozen=True)
class Azurite:
    """A blob service that runs now, with one account.

    Attributes:
        url: The account's address, such as `http://127.0.0.1:10000/insitu`.
        account: The account's name.
        key: The account's key, base64; another one at each start.
    """

    url: str
    account: str
    key: str = field(repr=False)
    service: Service = field(repr=False)

    @property
    def port(self) -> int:
        """The loopback port."""
        return self.service.port

    def create_container(self, name: str) -> None:
        """Make an empty container, as an operator does."""
        from azure.storage.blob import ContainerClient

        credential = {"account_name": self.account, "account_key": self.key}
        with ContainerClient(self.url, name, credential=credential, api_version="2019-07-07") as container:
            container.create_container()

    def stop(self) -> None:
        """End the service; a second call does nothing."""
        self.service.stop()


@contextmanager
def azurite(folder: Path, *, in_memory: bool = False) -> Iterator[Azurite]:
    """Run a blob service on a free loopback port; its blobs lie in *folder*, which holds its log, too.

    It checks API versions as the service of that release does.

    Raises:
        UsageError: Azurite is not installed; `tests/system-parts.sh` does that.
    """
    account, key = "insitu", new_key()
    with serving(folder, {account: key}, in_memory=in_memory) as service:
        yield Azurite(service.url(account), account, key, service)
