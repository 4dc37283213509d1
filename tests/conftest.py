"""What several groups of tests share: a real registry, and a real blob service as Azure Stack Hub's."""

from __future__ import annotations

import fcntl
import os
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from azurite import PROGRAM, Azurite, azurite
from docker_registry import docker_registry
from estates import _running_estate, estate, twin_site  # noqa: F401 - fixtures of the twin
from stack_hub import StackHub, stack_hub

from insitu.images.base import base_recipe
from insitu.images.blobs import BlobFolder
from insitu.images.contents import app_recipe
from insitu.images.environment import environment_recipe, serving_requirements
from insitu.images.layers import build_layer
from insitu.settings import AzureBlobStore, SecretSource


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that run whole flows, or one process is left alone with the longest of them at the end."""
    flows = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -flows[item.path])


@pytest.fixture(scope="session")
def layer_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The layers of images that serve ONNX, made once for all processes of this test run: copy it, with links."""
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    cache, work = shared / "layer cache", shared / "layer work"
    with (shared / "layer lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        environment = environment_recipe(serving_requirements(cache, "onnx"), work)
        for recipe in (base_recipe(work), environment, app_recipe(work)):
            build_layer(recipe, BlobFolder(shared / "layer layout"), cache)
    return cache


@pytest.fixture(scope="session")
def registry_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real registry on a free loopback port."""
    with docker_registry(tmp_path_factory.mktemp("registry")) as host:
        yield host


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
