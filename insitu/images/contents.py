"""The two layers that are insitu's own: the scoring server, and the model with what it says of itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml

import insitu.serving
from insitu.errors import ImageFailed
from insitu.images.bytecode import Sources, bytecode
from insitu.images.environment import Runtime
from insitu.images.layers import Entry, Recipe, folder_entries, key_of
from insitu.serving.payload import TYPES

APP_FOLDER = "opt/insitu/app"
SERVER = "insitu_serving"
MODEL_FOLDER = "opt/insitu/model"

# What MLflow writes anew at each save, where from, and rows of the data that it keeps as an example.
# Without them equal model bytes give an equal layer, and no row gets into an image.
_IDENTITY = {"model_uuid", "utc_time_created", "run_id", "artifact_path", "model_id", "model_size_bytes"}
_VOLATILE = {*_IDENTITY, "saved_input_example_info"}
_EXAMPLES = {"input_example.json", "serving_input_example.json", "input_example.npz"}
_SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # PyYAML may be built without its C library
_NOT_SERVED = {*_EXAMPLES, "MLmodel", "registered_model_meta"}


def app_recipe(work: Path) -> Recipe:
    """Return how to make the layer of the scoring server: its own, so that a fix moves nothing else."""
    folder = Path(insitu.serving.__file__).parent
    files = sorted(folder.glob("*.py"))
    image_folder = f"{APP_FOLDER}/{SERVER}"
    content_key = key_of([(file.name, sha256(file.read_bytes()).hexdigest()) for file in files])
    sources = Sources(folder, image_folder, tuple(file.name for file in files), content_key)

    def entries() -> Iterator[Entry]:
        yield from (Entry(f"{image_folder}/{file.name}", file) for file in files)
        yield from bytecode([sources], work / "bytecode")

    return Recipe("server", sources.key, entries)


def model_entries(model_folder: Path, onnx: Path | None) -> Iterator[Entry]:
    """Yield the files of the model layer: of an ONNX export that alone, else the MLflow model.

    Raises:
        ImageFailed: Not a model of MLflow's format, or without a signature of named columns.
    """
    mlmodel = _read(model_folder)
    served = json.dumps({"runtime": runtime_of(onnx), "columns": _columns(mlmodel)}, indent=1)
    kept = {key: value for key, value in mlmodel.items() if key not in _VOLATILE}
    yield Entry(f"{MODEL_FOLDER}/metadata.json", served.encode())
    if onnx:
        yield Entry(f"{MODEL_FOLDER}/model.onnx", onnx)
        return
    yield Entry(f"{MODEL_FOLDER}/model/MLmodel", yaml.safe_dump(kept, sort_keys=True).encode())
    for entry in folder_entries(model_folder, f"{MODEL_FOLDER}/model"):
        name = entry.name.removeprefix(f"{MODEL_FOLDER}/model/")
        if name not in _NOT_SERVED and "__pycache__" not in name.split("/"):
            yield entry


def identity_of(model_folder: Path) -> dict[str, Any]:
    """Return what MLflow called this copy of the model (uuid, time, ...): kept beside the image, not in it."""
    return {key: value for key, value in sorted(_read(model_folder).items()) if key in _IDENTITY}


def runtime_of(onnx: Path | None) -> Runtime:
    """Return what serves the model: ONNX Runtime where there is an export."""
    return "onnx" if onnx else "pyfunc"


def _read(model_folder: Path) -> dict[str, Any]:
    try:
        found = yaml.load((model_folder / "MLmodel").read_bytes(), _SafeLoader)  # noqa: S506  as safe, five times as fast
    except (OSError, yaml.YAMLError) as exc:
        raise ImageFailed(
            f"{model_folder.name} is not a model of MLflow's format",
            found=type(exc).__name__,
            wanted="a folder with a file MLmodel",
            next_action="save the model with mlflow.<flavor>.save_model",
        ) from exc
    return dict(found or {})


def _columns(mlmodel: dict[str, Any]) -> list[dict[str, Any]]:
    """Return name, type and whether it is required of each column of the signature."""
    inputs = json.loads((mlmodel.get("signature") or {}).get("inputs") or "[]")
    columns = [
        {"name": one.get("name"), "type": one.get("type"), "required": one.get("required", True)} for one in inputs
    ]
    if not columns or not all(isinstance(c["name"], str) and c["type"] in TYPES for c in columns):
        raise ImageFailed(
            "the model's signature has no named columns that the scoring server can check",
            found="; ".join(f"{c['name']}: {c['type']}" for c in columns) or "no signature",
            wanted=f"columns of the types {', '.join(sorted(TYPES))}",
            next_action="pass signature=infer_signature(frame, predictions) to save_model",
        )
    return columns
