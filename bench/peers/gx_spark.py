"""GX on Spark, `local[2]`, with the blobs downloaded first.

Spark brings no file system for Azure, and its jars send versions that Azure Stack Hub refuses. Files of this
machine make Spark look better than blobs would.
"""

from __future__ import annotations

from pathlib import Path

import azure.storage.blob  # noqa: F401 - `place.client` imports it
import pyspark.sql  # noqa: F401 - GX imports it when it needs it

from bench.kit.task import Task
from bench.peers.gx import context, failures


def check(task: Task) -> list[str]:
    """Download, read, validate; the session's start is part of the work."""
    folder = task.scratch / "blobs"
    folder.mkdir()
    with task.place.client() as client:
        for blob in task.batch.blobs:
            with Path(folder, blob.name).open("wb") as file:
                client.download_blob(blob.name).readinto(file)
    held = context()
    source = held.data_sources.add_spark("spark", spark_config=_settings(task.scratch))
    spark = source.get_spark()
    batch = source.add_dataframe_asset("facts").add_batch_definition_whole_dataframe("all")
    try:
        return failures(held, batch, {"dataframe": spark.read.parquet(str(folder))})
    finally:
        spark.stop()


def _settings(scratch: Path) -> dict[str, str]:
    return {
        "spark.master": "local[2]",
        "spark.driver.memory": "3g",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": "8",
        "spark.local.dir": str(scratch),
        "spark.sql.warehouse.dir": f"{scratch}/warehouse",
    }
