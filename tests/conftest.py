"""What several groups of tests share: a real registry, and a real blob service as Azure Stack Hub's."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from azurite import PROGRAM, Azurite, azurite
from estates import _running_estate, estate, twin_site  # noqa: F401 - fixtures of the twin
from loopback import free_port, listens, wait_until
from stack_hub import StackHub, stack_hub

from insitu.settings import AzureBlobStore, SecretSource


@pytest.fixture(scope="session")
def registry_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real registry on a free loopback port."""
    program = shutil.which("docker-registry")
    if not program:
        pytest.skip("the Debian package docker-registry is not installed")
    folder, port = tmp_path_factory.mktemp("registry"), free_port()
    (folder / "config.yml").write_text(
        "version: 0.1\nlog: {level: error}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder / 'data'}}}, delete: {{enabled: true}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\n"
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, "serve", str(folder / "config.yml")], stdout=log, stderr=log)
    try:
        wait_until(lambda: listens(port))
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    """A real Azurite, reached without the proxy: for what an operator does."""
    if not PROGRAM.exists():
        pytest.skip("Azurite is not installed: tests/system-parts.sh does that")
    with azurite(tmp_path_factory.mktemp("azurite"), in_memory=True) as service:
        yield service


@pytest.fixture(scope="session")
def _hub(emulator: Azurite) -> Iterator[StackHub]:
    with stack_hub(emulator.url) as service:
        yield service


@pytest.fixture
def hub(_hub: StackHub) -> StackHub:
    """Azurite behind a proxy that speaks no version newer than Azure Stack Hub does, and that counts."""
    _hub.reset()
    return _hub


@pytest.fixture
def hub_settings(hub: StackHub, emulator: Azurite, tmp_path: Path) -> AzureBlobStore:
    """The settings of a store on the hub, with the account key in a file."""
    (tmp_path / "account.key").write_text(emulator.key + "\n")
    return AzureBlobStore(kind="azure-blob", account_url=hub.url, key=SecretSource(file=tmp_path / "account.key"))


_numbers = count()


@pytest.fixture
def new_container(emulator: Azurite) -> Callable[[], str]:
    """Make an empty container; return its name."""

    def make() -> str:
        name = f"container-{next(_numbers)}"
        emulator.create_container(name)
        return name

    return make
