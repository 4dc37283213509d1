"""Calls of a store on Azure, what they raise, and what an operator does without the code under test."""

from __future__ import annotations

import hmac
from base64 import b64decode, b64encode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest
from azurite import Azurite
from stack_hub import NEWEST_VERSION

from insitu.adapters.azure.blobs import AzureBlobs
from insitu.errors import InsituError
from insitu.settings import AzureBlobStore


def other(store: AzureBlobs, **settings: object) -> AzureBlobs:
    """Return the same container with other settings."""
    values = store.settings.model_dump(exclude_none=True) | settings
    return AzureBlobs(
        AzureBlobStore(**{key: value for key, value in values.items() if value is not None}), store.container
    )


def calls(store: AzureBlobs) -> dict[str, Callable[[], object]]:
    """Return one call of every method."""
    return {
        "list": lambda: list(store.list()),
        "names": lambda: list(store.names()),
        "stat": lambda: store.stat("a"),
        "read": lambda: store.read("a"),
        "create": lambda: store.create("a", b"x"),
        "replace": lambda: store.replace("a", b"x", etag='"e"'),
    }


def errors_of(store: AzureBlobs) -> dict[str, InsituError]:
    """Return what every method raises."""
    found = {}
    for name, call in calls(store).items():
        with pytest.raises(InsituError) as caught:
            call()
        found[name] = caught.value
    return found


def caught(call: Callable[..., object], *arguments: object) -> InsituError:
    with pytest.raises(InsituError) as found:
        call(*arguments)
    return found.value


def operator(emulator: Azurite, container: str):  # type: ignore[no-untyped-def]
    """Return the SDK's own client of a container, past the proxy."""
    from azure.storage.blob import ContainerClient

    credential = {"account_name": emulator.account, "account_key": emulator.key}
    return ContainerClient(emulator.url, container, credential=credential, api_version=NEWEST_VERSION)


def direct(store: AzureBlobs, emulator: Azurite) -> AzureBlobStore:
    """Return the settings of the same account, past the proxy."""
    return store.settings.model_copy(update={"account_url": emulator.url})


def signature(emulator: Azurite, container: str, permissions: str, days: int = 1) -> str:
    """Return a SAS of a container as the hub's portal makes it; the SDK's own are of a version that a hub refuses."""
    start, end = (f"{datetime.now(UTC) + timedelta(days=d):%Y-%m-%dT%H:%M:%SZ}" for d in (-2, days))
    resource = f"/blob/{emulator.account}/{container}"
    parts = [permissions, start, end, resource, "", "", "", NEWEST_VERSION, "c", "", "", "", "", "", ""]
    digest = hmac.digest(b64decode(emulator.key), "\n".join(parts).encode(), "sha256")
    asked = {"sv": NEWEST_VERSION, "sr": "c", "sp": permissions, "st": start, "se": end}
    return "&".join(
        f"{key}={quote(value, safe='')}" for key, value in (asked | {"sig": b64encode(digest).decode()}).items()
    )
