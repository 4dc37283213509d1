"""GX's own Azure source, `add_pandas_abs`: one whole blob per batch, so nothing is checked across blobs.

Its `account_url` only takes core.windows.net, so it is given a connection string.
"""

from __future__ import annotations

import azure.storage.blob  # noqa: F401 - GX imports it when it connects

from bench.kit.place import API_VERSION
from bench.kit.task import Task
from bench.peers.gx import context, failures


def check(task: Task) -> list[str]:
    """Validate blob by blob."""
    place = task.place
    account = f"AccountName={place.account};AccountKey={place.key};BlobEndpoint={place.url};"
    options = {"conn_str": f"DefaultEndpointsProtocol=http;{account}", "api_version": API_VERSION}
    held = context()
    asset = held.data_sources.add_pandas_abs("blobs", azure_options=options).add_parquet_asset(
        "facts", abs_container=place.container
    )
    names = [blob.name for blob in task.batch.blobs]
    return [failure for name in names for failure in failures(held, asset.add_batch_definition_path(name, name))]
