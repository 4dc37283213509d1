"""One small model, its images, and real registries and daemons that have folders of their own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from dockerd import Docker, docker_daemon
from image_helpers import CHUNK_BYTES, Trained, spec_of

from insitu.adapters.azure.acr import acr_images
from insitu.adapters.local.images import LayoutImages
from insitu.images.assemble import Image, assemble_image
from insitu.images.client import RegistryImages
from insitu.ports import ImageRegistry


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory, layer_cache: Path) -> Path:
    """The cache of layers and byte code that all tests share; its path has spaces."""
    folder = tmp_path_factory.mktemp("a path with spaces")
    shutil.copytree(layer_cache, folder / "layers", copy_function=os.link)
    return folder


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
    """A real daemon, see `dockerd`."""
    with docker_daemon(tmp_path_factory.mktemp("docker")) as daemon:
        yield daemon


@pytest.fixture(params=["layout", *(pytest.param(name, marks=pytest.mark.registry) for name in ("registry", "acr"))])
def images(request: pytest.FixtureRequest, tmp_path: Path) -> ImageRegistry:
    """Each kind of registry, with a repository of its own."""
    repository = f"contract/{tmp_path.name.strip('_0123456789')}"
    if request.param == "layout":
        return LayoutImages(tmp_path / "a layout")
    if request.param == "registry":
        return RegistryImages(request.getfixturevalue("registry_host"), repository, CHUNK_BYTES)
    site = request.getfixturevalue("twin_site")()
    return replace(acr_images(site.azure, site.registry, repository), chunk_bytes=CHUNK_BYTES)
