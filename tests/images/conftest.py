"""One small model, its images, and real registries and daemons that have folders of their own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from image_helpers import Docker, Trained, spec_of
from loopback import wait_until

from insitu.adapters.local.images import LayoutImages
from insitu.images.assemble import Image, assemble_image


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache of layers and byte code that all tests share; its path has spaces."""
    return tmp_path_factory.mktemp("a path with spaces")


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    import mlflow
    import numpy as np
    import pandas as pd
    from mlflow.models import infer_signature
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "carrier": random.choice(["AA", "UA", "DL"], 300),
            "distance": random.uniform(100, 3000, 300),
            "hour": random.integers(0, 24, 300).astype("int64"),
        }
    )
    late = (frame["hour"] > 15) ^ (frame["carrier"] == "AA")
    encode = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["carrier"]), (StandardScaler(), ["distance", "hour"])
    )
    fitted = make_pipeline(encode, LogisticRegression()).fit(frame, late.astype(int))

    folder = tmp_path_factory.mktemp("trained")
    mlflow.sklearn.save_model(
        fitted,
        str(folder / "model"),
        signature=infer_signature(frame, fitted.predict_proba(frame)),
        pyfunc_predict_fn="predict_proba",
        input_example=frame.head(2),
        pip_requirements=["mlflow", "scikit-learn", "skops", "pandas"],
    )
    inputs = [
        ("carrier", StringTensorType([None, 1])),
        ("distance", FloatTensorType([None, 1])),
        ("hour", Int64TensorType([None, 1])),
    ]
    export = to_onnx(fitted, initial_types=inputs, options={"zipmap": False})
    (folder / "model.onnx").write_bytes(export.SerializeToString())
    some = frame.head(150)
    return Trained(
        folder / "model",
        folder / "model.onnx",
        some.to_numpy().tolist(),
        list(frame),
        fitted.predict_proba(some).tolist(),
    )


@pytest.fixture(scope="session")
def layout(work: Path) -> LayoutImages:
    return LayoutImages(work / "layout")


@pytest.fixture(scope="session")
def image(model: Trained, layout: LayoutImages, work: Path) -> Image:
    return assemble_image(spec_of(model), layout.root, work)


@pytest.fixture(scope="session")
def pyfunc_image(model: Trained, layout: LayoutImages, work: Path) -> Image:
    return assemble_image(spec_of(model, "pyfunc"), layout.root, work)


@pytest.fixture(scope="session")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    """A real daemon with its own data, socket and process id file, and no network of its own."""
    if os.geteuid() != 0:
        pytest.skip("only root can start a Docker daemon")
    if not shutil.which("dockerd") or not shutil.which("skopeo"):
        pytest.skip("the Debian packages docker.io and skopeo are not installed")
    folder = tmp_path_factory.mktemp("docker")
    socket_path = Path(f"/tmp/insitu-docker-{os.getpid()}.sock")  # 107 bytes at most
    command = [
        *("dockerd", "--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec"),
        *("--pidfile", f"{folder}/pid", "--host", f"unix://{socket_path}", "--storage-driver", "vfs"),
        *("--iptables=false", "--ip6tables=false", "--bridge=none"),
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    daemon = Docker(f"unix://{socket_path}")
    try:
        wait_until(lambda: process.poll() is not None or b"API listen on" in (folder / "log").read_bytes())
        if process.poll() is not None:
            last = (folder / "log").read_text(errors="replace").strip().rpartition("\n")[2]
            pytest.skip(f"a Docker daemon cannot start on this machine: {last[-300:]}")
        yield daemon
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
        socket_path.unlink(missing_ok=True)
        subprocess.run(["umount", f"{folder}/exec/netns/default"], capture_output=True, check=False)
        shutil.rmtree(folder, ignore_errors=True)  # vfs keeps a whole copy for each layer
