"""A site may refuse models that run code when they are loaded: what is not known to be harmless is named."""

from __future__ import annotations

import gzip
import pickle
from pathlib import Path

import mlflow.sklearn
import numpy as np
import pytest
import skops.io
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from insitu.errors import TrainingFailed
from insitu.residency.loading import code_in, require_no_code
from tests.residency.packed import FORMS, ROWS, safetensors


def linear() -> object:
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(ROWS, np.arange(len(ROWS)) % 2)


def test_a_skops_model_of_mlflow_runs_nothing(tmp_path: Path) -> None:
    mlflow.sklearn.save_model(linear(), tmp_path / "model", serialization_format="skops", pip_requirements=["skops"])

    assert list(code_in(tmp_path)) == []


def test_a_pickled_model_of_mlflow_is_refused_by_name(tmp_path: Path) -> None:
    mlflow.sklearn.save_model(
        linear(), tmp_path / "model", serialization_format="cloudpickle", pip_requirements=["scikit-learn"]
    )

    with pytest.raises(TrainingFailed, match="the champion would run code when it is loaded") as caught:
        require_no_code(tmp_path, "champion")

    assert caught.value.found == "model/model.pkl (a pickle)"


def test_every_kind_of_file_is_judged_by_its_bytes(tmp_path: Path) -> None:
    files = {
        "weights.safetensors": safetensors(ROWS),
        "model.onnx": FORMS["onnx"](),
        "rows.npz": FORMS["npz"](),
        "table.parquet": FORMS["parquet, zstd"](),
        "notes.txt": b"nothing to run",
        "empty": b"",
        "code.py": b"import os",
        "joblib.gz": FORMS["joblib, gzip"](),
        "notes.json": pickle.dumps([1]),
        "objects.npy": FORMS["npy, objects"](),
        "old.txt": pickle.dumps([1, 2], 0),
        "packed.json": gzip.compress(b"{}"),
        "strange.bin": bytes(range(256)),
        "strange.txt": bytes(range(256)),
        "torch.pt": FORMS["zip"](),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "linked").symlink_to("/etc/passwd")

    assert [name for name, _ in code_in(tmp_path)] == [
        "code.py",
        "joblib.gz",
        "linked",
        "notes.json",
        "objects.npy",
        "old.txt",
        "packed.json",
        "strange.bin",
        "strange.txt",
        "torch.pt",
    ]


def test_a_skops_file_that_names_another_function_is_refused(tmp_path: Path) -> None:
    import os

    (tmp_path / "model.skops").write_bytes(skops.io.dumps(FunctionTransformer(os.getenv)))

    assert list(code_in(tmp_path)) == [("model.skops", "skops with os.getenv")]
