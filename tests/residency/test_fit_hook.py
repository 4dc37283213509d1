"""What reaches `fit` in the training command is known to the scan, and the command does not notice."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from insitu.edge.command import FITS, train
from insitu.residency.batch import fitted
from insitu.residency.decode import folder_parts
from insitu.residency.scan import Scanner, Source
from insitu.residency.verdict import rule

HEAD = """
import os, pickle, sys
from pathlib import Path
folder = Path(os.environ["INSITU_OUTPUT"], "model")
folder.mkdir()
(folder / "MLmodel").touch()
"""
SCALED = """
import numpy as np
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
X = np.random.default_rng(5).normal(7, 3, (120, 5))
model = make_pipeline(StandardScaler(), KNeighborsClassifier()).fit(X, (X[:, 0] > 7) * 1)
(folder / "model.pkl").write_bytes(pickle.dumps(model))
"""
OF_THE_SCRIPT = """
import cloudpickle, numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

class Mine(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        self.seen_ = True
        return self
    def transform(self, X):
        return X

(folder / "model.pkl").write_bytes(cloudpickle.dumps(Mine().fit(np.ones((3, 2)))))
"""
WITHOUT = "assert not any(name.split('.')[0] in ('numpy', 'sklearn', 'insitu') for name in sys.modules), sys.modules\n"


def run(tmp_path: Path, script: str, fit_hook: bool = True) -> Path:
    spec = {
        "model_folder": str(tmp_path),
        "code": {},
        "command": ["python", "-c", HEAD + script],
        "params": {},
        "max_log_bytes": 100_000,
        "train": {"container": "c", "blobs": []},
        "residency": {"scan": True, "fit_hook": fit_hook},
    }
    with open(tmp_path / "log.txt", "wb", buffering=0) as log:
        train(tmp_path, json.loads(json.dumps(spec)), log)
    return tmp_path


def test_rows_are_found_as_the_last_estimator_of_a_pipeline_saw_them(tmp_path: Path) -> None:
    folder = run(tmp_path, SCALED)
    matrices = list(fitted(folder / FITS))
    ruling = rule(Scanner(Source(matrices)).scan(folder_parts(folder / "output")))

    assert (ruling.verdict, ruling.rows_found) == ("blocked", 120)
    assert ruling.holders[0].estimator == "KNeighborsClassifier"
    assert {label for one in matrices for label in one.labels} >= {"Pipeline.fit", "KNeighborsClassifier.fit"}
    assert max(np.abs(one.values).max() for one in matrices if "KNeighborsClassifier.fit" in one.labels) < 7


def test_a_class_of_the_script_is_pickled_without_the_hook(tmp_path: Path) -> None:
    folder = run(tmp_path, OF_THE_SCRIPT)
    load = "import pickle, sys; print(pickle.load(open(sys.argv[1], 'rb')).fit([[1.0]]).seen_)"
    command = [sys.executable, "-c", load, str(folder / "output" / "model" / "model.pkl")]

    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "True\n"


def test_a_script_without_scikit_learn_starts_as_light_as_before(tmp_path: Path) -> None:
    folder = run(tmp_path, WITHOUT)

    assert list((folder / FITS).iterdir()) == []


def test_without_the_hook_nothing_is_kept(tmp_path: Path) -> None:
    assert not (run(tmp_path, SCALED, fit_hook=False) / FITS).exists()
