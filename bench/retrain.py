"""How long the main job takes, against the same training done by a bare script.

The bare script reads the same blobs with pandas, fits the same pipeline and saves it with MLflow: no
validation, no holdout, no gate, no registry, no image.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq

from bench.harness import ROOT, Row, interleaved, report, run

_BARE = """
import sys, pandas as pd, mlflow.sklearn
from pathlib import Path
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
names = ["carrier", "origin", "dest", "hour", "distance"]
rows = pd.concat(pd.read_parquet(p) for p in sorted(Path(sys.argv[1]).rglob("*.parquet"))[:-1])
rows = rows[rows.arr_delay.notna()]
kinds = OneHotEncoder(handle_unknown="ignore", min_frequency=50)
model = Pipeline([("columns", ColumnTransformer([("kind", kinds, names[:4]), ("scale", StandardScaler(), names[4:])])),
                  ("late", LogisticRegression(max_iter=300))]).fit(rows[names], rows.arr_delay > 15)
mlflow.sklearn.save_model(model, sys.argv[2])
"""

_HASHED = """
import sys, hashlib
from pathlib import Path
for path in sorted(Path(sys.argv[1]).rglob("*.parquet")): hashlib.sha256(path.read_bytes()).hexdigest()
"""


def _put_small_months(container: Path, months: int) -> None:
    """Let months of 200 flights follow, until there are so many."""
    small = container / "small"
    pq.write_table(pq.ParquetFile(container / "month=01" / "flights.parquet").read().slice(0, 200), small)
    for month in range(len(list(container.glob("month=*"))) + 1, months + 1):
        (container / f"month={month}").mkdir()
        shutil.copyfile(small, container / f"month={month}" / "flights.parquet")
    small.unlink()


def main() -> None:
    """Measure a first run, a run with nothing new, and commands that look."""
    insitu = str(Path(sys.executable).parent / "insitu")
    with tempfile.TemporaryDirectory(prefix="insitu-bench-") as scratch:
        project, environ = Path(scratch, "project"), {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
        for part in ("deployments", "models", "data_checks"):
            shutil.copytree(ROOT / part, project / part)
        run(insitu, "demo", "prepare", cwd=project)
        blobs = project / "var" / "blobs"

        def forget() -> None:
            for folder in (project / "var").iterdir():
                if folder != blobs:
                    shutil.rmtree(folder)

        def first_run() -> None:
            forget()
            run(insitu, "retrain", "flights", cwd=project)

        def bare_script() -> None:
            out = Path(scratch, "bare")
            shutil.rmtree(out, ignore_errors=True)
            run(sys.executable, "-c", _BARE, str(blobs), str(out), env=environ)

        def nothing_new() -> None:
            run(insitu, "retrain", "flights", cwd=project)

        first, bare = interleaved([first_run, bare_script])
        again, python = interleaved([nothing_new, lambda: run(sys.executable, "-c", "import pydantic, rich")])
        usage, click = interleaved([lambda: run(insitu, "--help"), lambda: run(sys.executable, "-c", "import click")])
        looks = [("history", "flights"), ("show", "flights"), ("why", "month=01/flights.parquet")]
        looking = interleaved([partial(run, insitu, *look, cwd=project) for look in looks])
        _put_small_months(blobs / "flights", 10_000)

        def hashing() -> None:
            run(sys.executable, "-c", _HASHED, str(blobs))

        def plan() -> None:
            run(insitu, "plan", "flights", cwd=project)

        known, hashed = interleaved([plan, hashing])
        forget()
        unknown, _ = interleaved([plan, hashing])
    rows = [
        Row("first run, nine months", first, bare, "bare training script", "s", 180),
        Row("nothing new", again, python, "import pydantic, rich", "s", 15),
        Row("insitu --help", usage, click, "import click", "s", 0.5),
        *(
            Row(f"insitu {look[0]}", taken, python, "import pydantic, rich", "s", 0.7)
            for look, taken in zip(looks, looking, strict=True)
        ),
        Row("insitu plan, 10,000 blobs", known, hashed, "their sha256", "s", 5),
        Row("insitu plan, before any run", unknown, hashed, "their sha256", "s", 5),
    ]
    report("retrain", rows, ["prefect", "mlflow", "great-expectations", "scikit-learn"])
