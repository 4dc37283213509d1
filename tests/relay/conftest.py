"""The relay of this project under every Node that it must run under, with its events in a real Azurite."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from azurite import Azurite
from relay_helpers import Relay, running_relay
from stack_hub import StackHub

from insitu.adapters.azure.blobs import AzureBlobs
from insitu.settings import AzureBlobStore, SecretSource
from insitu.twin.webapp import NODE_16

StartRelay = Callable[..., Relay]


@pytest.fixture(params=["node16", "node"])
def node(request: pytest.FixtureRequest) -> Path:
    """The Node of App Service on a hub, and the one of this machine."""
    found = str(NODE_16) if request.param == "node16" and NODE_16.exists() else None
    found = found or (shutil.which("node") if request.param == "node" else None)
    if not found:
        pytest.skip(f"{request.param} is not installed: tests/system-parts.sh does that")
    return Path(found)


@pytest.fixture
def state(hub: StackHub, emulator: Azurite, new_container: Callable[[], str]) -> dict[str, str]:
    """Where the events go: a container of Azurite behind a hub's rules."""
    hub.reset()
    place = {"account_url": hub.url, "account": emulator.account, "container": new_container()}
    return place | {"api_version": "2019-07-07"}


@pytest.fixture
def start(node: Path, state: dict[str, str], emulator: Azurite) -> Iterator[StartRelay]:
    """Start a relay with the account key, or with what is given instead."""
    with ExitStack() as running:

        def begin(**options: Any) -> Relay:
            if "RELAY_STATE_SAS" not in options:
                options = {"RELAY_STATE_KEY": emulator.key} | options
            # A pipe's path has to be short.
            folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="relay-")))
            return running.enter_context(running_relay(node, folder, state, **options))

        yield begin


@pytest.fixture
def relay(start: StartRelay) -> Relay:
    """A relay that is set up."""
    return start()


@pytest.fixture
def events(state: dict[str, str], emulator: Azurite, tmp_path: Path) -> Callable[[], list[dict[str, Any]]]:
    """Return the events that lie in the state now, as insitu itself reads them."""
    (tmp_path / "key").write_text(emulator.key)
    key = SecretSource(file=tmp_path / "key")
    store = AzureBlobs(AzureBlobStore(kind="azure-blob", account_url=emulator.url, key=key), state["container"])

    def read() -> list[dict[str, Any]]:
        return [{"blob": name, **json.loads(store.read(name))} for name in store.names("events/")]

    return read
