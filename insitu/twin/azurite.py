"""A real Azurite, Microsoft's emulator of Azure Blob Storage: the blobs of the twin's storage accounts."""

from __future__ import annotations

import secrets
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from insitu.errors import UsageError
from insitu.twin.programs import Program, free_port, start

PROGRAM = Path(__file__).parents[2] / "var" / "tools" / "azurite" / "node_modules" / ".bin" / "azurite-blob"
"""Where `make twin` and `make test` install it."""


@dataclass(frozen=True)
class Azurite:
    """A blob service that runs now.

    Attributes:
        port: Its loopback port; it takes `ACCOUNT.anything` for an account, and a path that begins with one.
        accounts: The accounts' keys, base64.
    """

    port: int
    accounts: Mapping[str, str] = field(repr=False)
    program: Program = field(repr=False)

    def url(self, account: str) -> str:
        """Return the address of an account, without TLS and past every rule of the twin."""
        return f"http://127.0.0.1:{self.port}/{account}"

    def stop(self) -> None:
        """End the service; a second call does nothing."""
        self.program.stop()


def start_azurite(
    folder: Path, accounts: Mapping[str, str], *, in_memory: bool = False, any_version: bool = False
) -> Azurite:
    """Run a blob service on a free loopback port; its blobs lie in *folder*, which holds its log, too.

    Args:
        accounts: The accounts that there are, with their keys.
        any_version: Whether it takes API versions that are newer than itself.

    Raises:
        UsageError: Azurite is not installed.
        BackendUnavailable: It does not start.
    """
    if not PROGRAM.exists():
        raise UsageError(
            "Azurite, which plays blob storage, is not installed",
            wanted=f"{PROGRAM}",
            next_action="make twin   (installs it below var/tools with npm; needs Node.js)",
        )
    port = free_port()
    command = [str(PROGRAM), "--blobHost", "127.0.0.1", "--blobPort", str(port), "--silent", "--disableTelemetry"]
    command += ["--inMemoryPersistence"] if in_memory else ["--location", str(folder)]
    command += ["--skipApiVersionCheck"] if any_version else []
    environ = {"AZURITE_ACCOUNTS": ";".join(f"{name}:{key}" for name, key in accounts.items())}
    program = start("Azurite", command, folder / "azurite.log", environ=environ)
    program.wait_for(port)
    return Azurite(port, accounts, program)


@contextmanager
def azurite(folder: Path, accounts: Mapping[str, str], *, in_memory: bool = False) -> Iterator[Azurite]:
    """Run a blob service until the block ends; see `start_azurite`."""
    service = start_azurite(folder, accounts, in_memory=in_memory)
    try:
        yield service
    finally:
        service.stop()


def new_key() -> str:
    """Return an account key as Azure makes them: 64 bytes, base64."""
    return b64encode(secrets.token_bytes(64)).decode()
