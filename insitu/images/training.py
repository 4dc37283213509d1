"""The image that edge jobs run in on a Docker host: this Python and what jobs import, as installed here.

It holds neither insitu nor a model: their code comes with each job. So it changes with the lock file alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from insitu.images.assemble import Image
from insitu.images.base import INTERPRETER, PYTHON, PYTHON_HOME, base_recipe
from insitu.images.blobs import BlobFolder
from insitu.images.environment import closure, environment_recipe
from insitu.images.layers import Entry, Recipe, build_layer, key_of
from insitu.images.manifest import CONFIG_TYPE, MANIFEST_TYPE, image_manifest, training_config

REPOSITORY = "insitu-train"
EDGE_REQUIREMENTS = (
    *("mlflow-skinny", "numpy", "pandas", "pyarrow", "scikit-learn", "skl2onnx", "onnxruntime"),
    *("pydantic", "pyyaml", "isal", "azure-storage-blob"),
    "tzdata",  # the image has no distribution, and so no time zones
)
"""What edge jobs import, and what a training script may count on; a model's `train.requirements` come on top."""

_PLACES = (
    Entry(f"{PYTHON_HOME}/bin/python", link=PYTHON),
    Entry("opt/insitu/job", mode=0o755),
)


def pinned(requirements: Sequence[str]) -> tuple[str, ...]:
    """Return `NAME==VERSION` of everything that jobs need, with their own *requirements*, as installed here.

    Raises:
        ImageFailed: One of them is not installed.
    """
    installed = closure((*EDGE_REQUIREMENTS, *requirements))
    return tuple(f"{one.name}=={one.distribution.version}" for one in installed)


def training_tag(requirements: Sequence[str], work: Path) -> str:
    """Return what names the image among others of the repository; found without making it.

    Raises:
        ImageFailed: A requirement is not installed.
    """
    return key_of(*(recipe.key for recipe in _recipes(requirements, work)))[:12]


def assemble_training_image(requirements: Sequence[str], layout: Path, work: Path) -> Image:
    """Write the image into the layout folder and return it; see `assemble_image`."""
    blobs, labels = BlobFolder(layout), {"io.insitu.kind": "training"}
    layers = tuple(build_layer(recipe, blobs, work / "layers") for recipe in _recipes(requirements, work))
    config = blobs.add(training_config(layers, labels), CONFIG_TYPE)
    manifest = blobs.add(image_manifest(config, layers, labels), MANIFEST_TYPE)
    return Image(manifest, config, layers)


def _recipes(requirements: Sequence[str], work: Path) -> tuple[Recipe, ...]:
    places = Recipe("places", key_of("places", INTERPRETER), lambda: _PLACES)
    return base_recipe(work), environment_recipe((*EDGE_REQUIREMENTS, *requirements), work), places
