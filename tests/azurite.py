"""A real Azurite, the emulator of Azure Blob Storage, for tests and benches.

    with azurite(folder) as emulator:
        emulator.url, emulator.account, emulator.key

Benches import it too: this folder has no modules but plain helpers beside the tests.
"""

from __future__ import annotations

import os
import secrets
import subprocess
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from loopback import free_port, listens, wait_until

PROGRAM = Path(__file__).parents[1] / "var" / "tools" / "azurite" / "node_modules" / ".bin" / "azurite-blob"
"""Where `tests/system-parts.sh` installs it."""


@dataclass(frozen=True)
class Azurite:
    """A blob service that runs now.

    Attributes:
        url: The account's address, such as `http://127.0.0.1:10000/insitu`.
        account: The account's name.
        key: The account's key, base64; another one at each start.
    """

    url: str
    account: str
    key: str = field(repr=False)
    process: subprocess.Popen[bytes] = field(repr=False)

    @property
    def port(self) -> int:
        """The loopback port."""
        return int(self.url.split(":")[2].split("/")[0])

    def create_container(self, name: str) -> None:
        """Make an empty container, as an operator does."""
        from azure.storage.blob import ContainerClient

        credential = {"account_name": self.account, "account_key": self.key}
        with ContainerClient(self.url, name, credential=credential, api_version="2019-07-07") as container:
            container.create_container()

    def stop(self) -> None:
        """End the service; a second call does nothing."""
        self.process.terminate()
        self.process.wait(30)


@contextmanager
def azurite(folder: Path, *, in_memory: bool = False) -> Iterator[Azurite]:
    """Run a blob service on a free loopback port; its blobs lie in *folder*, which holds its log, too.

    It checks API versions as the service of that release does.

    Raises:
        FileNotFoundError: Azurite is not installed; `tests/system-parts.sh` does that.
    """
    if not PROGRAM.exists():
        raise FileNotFoundError("Azurite is not installed: run tests/system-parts.sh")
    folder.mkdir(parents=True, exist_ok=True)
    account, key, port = "insitu", b64encode(secrets.token_bytes(48)).decode(), free_port()
    command = [str(PROGRAM), "--blobHost", "127.0.0.1", "--blobPort", str(port), "--silent", "--disableTelemetry"]
    command += ["--inMemoryPersistence"] if in_memory else ["--location", str(folder)]
    with (folder / "azurite.log").open("wb") as log:
        environ = os.environ | {"AZURITE_ACCOUNTS": f"{account}:{key}"}
        process = subprocess.Popen(command, cwd=folder, env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    emulator = Azurite(f"http://127.0.0.1:{port}/{account}", account, key, process)
    try:
        wait_until(lambda: listens(port), 60, "the start of Azurite")
        yield emulator
    finally:
        emulator.stop()
