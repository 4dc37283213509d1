"""insitu's own engine, cold or with the statistics of an earlier run."""

from __future__ import annotations

import os
from pathlib import Path

from bench.kit.facts import SUITE
from bench.kit.place import API_VERSION, Place
from bench.kit.task import Task
from data_checks import engine
from data_checks.engine import validate
from data_checks.suite import load_suite
from insitu.adapters.local.blobs import FolderBlobs
from insitu.ports import BlobStore
from insitu.settings import ReadingSettings

_KEY = "BENCH_ACCOUNT_KEY"
stores: dict[Place, BlobStore] = {}


def prepare(task: Task) -> None:
    """Get ready as the process does that validates, and open the store.

    A folder hashes its files once to know their versions: a service does that by itself.
    """
    engine.prepare()
    store = stores[task.place] = _store(task.place)
    if not task.place.url:
        for blob in task.batch.blobs:
            store.stat(blob.name)


def check(task: Task) -> list[str]:
    """Validate the batch, keeping statistics."""
    report = validate(
        load_suite(SUITE),
        stores[task.place],
        task.batch,
        reading=ReadingSettings(types={"picked_up": "timestamp"} if task.is_csv else {}),
        state=FolderBlobs(task.statistics),
        work=task.scratch,
    )
    assert report.rows
    return [f"{outcome.expectation} ({outcome.reason})" for outcome in report.failures]


def _store(place: Place) -> BlobStore:
    if not place.url:
        return FolderBlobs(Path(place.folder, place.container))
    from insitu.adapters.azure.blobs import AzureBlobs
    from insitu.settings import AzureBlobStore, SecretSource

    os.environ[_KEY] = place.key
    secret = SecretSource(env=_KEY)
    settings = AzureBlobStore(kind="azure-blob", account_url=place.url, key=secret, api_version=API_VERSION)
    return AzureBlobs(settings, place.container)
