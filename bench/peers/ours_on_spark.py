"""insitu's own pass as tasks of Spark, `local[2]`, which read the blobs where they lie."""

from __future__ import annotations

import pyspark.sql  # noqa: F401 - the cluster imports it when it begins

from bench.kit.facts import SUITE
from bench.kit.task import Task
from bench.peers import ours
from data_checks.cluster import Cluster
from data_checks.engine import validate
from data_checks.suite import load_suite
from insitu.settings import ValidationSettings

prepare = ours.prepare


def check(task: Task) -> list[str]:
    """Validate the batch; the session's start is part of the work."""
    settings = ValidationSettings(engine="spark", spark="local[2]")
    with Cluster(settings, task.scratch) as cluster:
        report = validate(load_suite(SUITE), ours.stores[task.place], task.batch, work=task.scratch, cluster=cluster)
    assert report.rows
    return [f"{outcome.expectation} ({outcome.reason})" for outcome in report.failures]
