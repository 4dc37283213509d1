"""Memory that runs out is told as what it is, with the blob's name: no damage of the blob, no verdict on its values."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from example_blobs import suite_of

from data_checks.child import Job, as_job
from data_checks.suite import Suite
from insitu.adapters.local.blobs import FolderBlobs
from insitu.batch import Batch

ROOM_BYTES = 160 << 20
"""What a process may take more than the one that validates next to nothing."""

ASKING = """
import json, os, resource, sys
from contextlib import suppress
from pathlib import Path
from data_checks.child import as_job, validate_apart
from insitu.errors import InsituError

resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[2]), resource.RLIM_INFINITY))
told = {"peak_kb": 0}

def look(_):
    for child in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
        status = Path("/proc", child, "status").read_text()
        told["peak_kb"] = max(told["peak_kb"], int(status.partition("VmPeak:")[2].split()[0]))

try:
    report = validate_apart(as_job.validate_json(sys.stdin.read()), Path(sys.argv[1]), look)
    told["reasons"] = [outcome.reason for outcome in report.outcomes]
except InsituError as error:
    told["error"] = error.to_json()
print(json.dumps(told))
"""


def asked(job: Job, work: Path, limit_bytes: int = -1) -> Mapping[str, Any]:
    """Validate in a process whose address space, and that of those it starts, is limited."""
    command = [sys.executable, "-c", ASKING, str(work), str(limit_bytes)]
    done = subprocess.run(command, input=as_job.dump_json(job), capture_output=True, check=True)
    told: Mapping[str, Any] = json.loads(done.stdout)
    return told


def job_of(root: Path, data: bytes, suite: Suite) -> Job:
    (root / "blobs").mkdir(parents=True)
    (root / "blobs" / "a.parquet").write_bytes(data)
    file = root / "suite.json"
    file.write_text(json.dumps({"name": suite.name, "expectations": suite.expectations}))
    spec, batch = {"kind": "folder", "root": str(root / "blobs")}, Batch.of("data", FolderBlobs(root / "blobs").list())
    return Job(file, spec, batch)


def numbers(rows: int, row_group_size: int) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"k": np.arange(rows) // 1000}), sink, row_group_size=row_group_size)
    return bytes(sink.getvalue())


BETWEEN = suite_of(("expect_column_values_to_be_between", {"column": "k", "min_value": 0}))
INCREASING = suite_of(("expect_column_values_to_be_increasing", {"column": "k"}))
TOO_LARGE = {
    "one row group": (40_000_000, 40_000_000, BETWEEN),
    "all rows for a second pass": (12_000_000, 1_000_000, INCREASING),
    "all rows for Great Expectations": (8_000_000, 1_000_000, INCREASING),  # it catches whatever happens
}


@pytest.mark.parametrize("large", TOO_LARGE)
def test_the_blob_that_was_read_when_memory_ran_out_is_named(tmp_path: Path, large: str) -> None:
    rows, row_group_size, suite = TOO_LARGE[large]
    little = asked(job_of(tmp_path / "small", numbers(10, 10), suite), tmp_path / "work")
    assert little["reasons"] == [""]
    job = job_of(tmp_path / "large", numbers(rows, row_group_size), suite)
    told = asked(job, tmp_path / "work", (little["peak_kb"] << 10) + ROOM_BYTES)
    assert "reasons" not in told, "it says nothing about the values"
    assert told["error"]["type"] == "DataError"
    assert told["error"]["what"] == "the validation ran out of memory while it read blob a.parquet"
    assert "memory" in told["error"]["next_action"]
