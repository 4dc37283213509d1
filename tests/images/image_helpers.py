"""What the image tests share, besides fixtures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from insitu.images.assemble import ImageSpec
from insitu.images.environment import serving_requirements


@dataclass(frozen=True)
class Trained:
    """A saved model, its export, some rows, and what scikit-learn itself says about them."""

    folder: Path
    onnx: Path
    rows: list[list[Any]]
    columns: list[str]
    expected: list[list[float]]


def spec_of(model: Trained, runtime: str = "onnx", **changes: Any) -> ImageSpec:
    """Return what the tests build."""
    return ImageSpec(
        changes.get("model_folder", model.folder),
        model.onnx if runtime == "onnx" else None,
        serving_requirements(model.folder, "onnx" if runtime == "onnx" else "pyfunc"),
        changes.get("metadata", {"model": "flights", "version": "7", "run_key": "abc"}),
        {"io.insitu.model": "flights"},
    )
