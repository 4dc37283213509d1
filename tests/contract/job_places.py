"""A place where edge jobs of every kind can be tried: a tiny model, its script, and what that notes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from insitu.adapters.local.blobs import FolderBlobs
from insitu.batch import Batch
from insitu.errors import InsituError
from insitu.files import file_digests
from insitu.ports import JobStatus, TrainingJobs

TARGET = {"task": "classification", "label_column": "late", "label_above": 0.5}
LOADER = """
class Model:
    def __init__(self, slope):
        self.slope = slope

    def predict(self, rows, params=None):
        return 1 / (1 + 2.718281828 ** (-self.slope * rows["x"].to_numpy()))


def _load_pyfunc(path):
    with open(path) as file:
        return Model(float(file.read()))
"""
MLMODEL = """
flavors:
  python_function:
    code: code
    data: slope.txt
    loader_module: tiny_model
    python_version: 3.11.0
signature:
  inputs: '[{"type": "double", "name": "x", "required": true}]'
  outputs: '[{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1]}}]'
"""
TRAIN = '''
"""Trains a model of one number, in MLflow format without MLflow; what else it does is its first argument."""

import json, os, signal, subprocess, sys, time
from pathlib import Path

from insitu.edge.data import open_batch

what, here, batch = sys.argv[1], Path(__file__).parent, open_batch()
notes = Path(batch.params["notes"])
with open(notes / "starts.txt", "a") as file:
    file.write("x")
X, y = batch.examples(["x"])
print(f"training on {len(X)} rows", flush=True)
if what == "fail":
    raise ValueError("could not convert string to float: 'Ada-Lovelace-1815'")
if what == "hang":
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    stubborn += "print('stubborn', flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", stubborn]) as child:
        (notes / "pids.json").write_text(json.dumps([os.getppid(), os.getpid(), child.pid]))
        time.sleep(600)
folder = batch.output / "model"
(folder / "code").mkdir(parents=True)
(folder / "code/tiny_model.py").write_text((here / "loader.txt").read_text())
(folder / "slope.txt").write_text(str(batch.params["slope"]))
(folder / "MLmodel").write_text((here / "MLmodel.txt").read_text())
(batch.output / "metrics.json").write_text('{"train_rows": %d, "note": "no number"}' % len(X))
print("trained")
'''


@dataclass(frozen=True)
class Place:
    """Jobs, how another process opens them, the model's folder, what its script notes, and what it learns from."""

    jobs: TrainingJobs
    opened: Callable[[], TrainingJobs]
    folder: Path
    notes: Path
    store: FolderBlobs

    def spec(self, what: str = "train", **changes: Any) -> dict[str, Any]:
        blobs = list(self.store.list())
        shared = {"store": {"kind": "folder", "root": str(self.store.root)}, "target": TARGET}
        return {
            "model_folder": str(self.folder),
            "code": file_digests(self.folder),
            "command": ["python", "train.py", what],
            "params": {"slope": 2.0, "notes": str(self.notes)},
            "max_log_bytes": 100_000,
            "train": Batch.of("c", blobs[:-1]).to_json() | shared,
            "holdout": Batch.of("c", blobs[-1:]).to_json() | shared,
            "metrics": ["roc_auc", "log_loss"],
            "primary": "roc_auc",
            "error": 0.05,
            "slices": {},
            "champion": None,
            "golden_rows": 5,
            "tolerance": 1e-6,
        } | changes

    def ended(self, job_id: str, timeout_s: float = 60) -> JobStatus:
        wait_for(lambda: self.jobs.status(job_id).state != "running", timeout_s)
        return self.jobs.status(job_id)

    def error(self, key: str, spec: dict[str, Any]) -> InsituError | None:
        """Return what a job fails with, or what keeps it from being submitted."""
        try:
            return self.ended(self.jobs.submit(key, spec)).error
        except InsituError as error:
            return error

    def starts(self) -> int:
        path = self.notes / "starts.txt"
        return len(path.read_text()) if path.exists() else 0


def wait_for(look: Callable[[], Any], timeout_s: float = 30) -> Any:
    """Return the first answer of *look* that is not empty."""
    deadline = time.monotonic() + timeout_s
    while not (answer := look()):
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)
    return answer


def make_place(adapter: Callable[[Path], TrainingJobs], root: Path) -> Place:
    folder, store, random = root / "model", FolderBlobs(root / "blobs"), np.random.default_rng(5)
    notes = root / "notes"
    for new in (folder, notes):
        new.mkdir()
    for name, text in (("train.py", TRAIN), ("loader.txt", LOADER), ("MLmodel.txt", MLMODEL)):
        (folder / name).write_text(text)
    for month in range(1, 4):
        x = random.normal(size=170)
        path = store.root / f"month={month}/a.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(pa.table({"x": x, "late": (x + random.normal(size=170) > 0) * 1.0}), path)
    return Place(adapter(root), partial(adapter, root), folder, notes, store)


def alive(pids: list[int]) -> list[int]:
    """Return those of *pids* that run; one that ended and waits to be reaped does not."""

    def state(pid: int) -> str:
        with suppress(OSError):
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return "X"

    return [pid for pid in pids if state(pid) not in "ZX"]


def started_pids(notes: Path) -> list[int]:
    """Return the processes of a job that hangs: edge job, command, grandchild that ignores SIGTERM."""

    def look() -> list[int]:
        with suppress(OSError, ValueError):
            pids: list[int] = json.loads((notes / "pids.json").read_text())
            return pids
        return []

    found: list[int] = wait_for(look)
    return found
