"""What users do: download every blob with the SDK, one pandas frame of all columns, GX on it."""

from __future__ import annotations

import io

import azure.storage.blob  # noqa: F401 - `place.client` imports it
import pandas as pd

from bench.kit.task import Task
from bench.peers.gx import context, failures


def check(task: Task) -> list[str]:
    """Download, read, concatenate, validate."""
    with task.place.client() as client:
        blobs = (io.BytesIO(client.download_blob(blob.name).readall()) for blob in task.batch.blobs)
        if task.is_csv:
            frame = pd.concat((pd.read_csv(blob, parse_dates=["picked_up"]) for blob in blobs), ignore_index=True)
        else:
            frame = pd.concat(map(pd.read_parquet, blobs), ignore_index=True)
    held = context()
    asset = held.data_sources.add_pandas("memory").add_dataframe_asset("facts")
    return failures(held, asset.add_batch_definition_whole_dataframe("all"), {"dataframe": frame})
