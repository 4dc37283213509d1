"""Images to try: what an edge job keeps of the trained model's answers, and models that are one expression."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from image_helpers import Trained, spec_of

from insitu.adapters.local.images import LayoutImages
from insitu.images.assemble import ImageSpec, assemble_image
from insitu.ports import ScoringHost
from insitu.settings import LimitSettings
from insitu.smoke import Tried, try_image

LOADER = """
class Model:
    def __init__(self, code):
        self.code = code

    def predict(self, frame):
        return eval(self.code, {"frame": frame})

def _load_pyfunc(path):
    return Model(open(path).read())
"""
GOLDEN_ROWS = 20


def tried(spec: ImageSpec, host: ScoringHost, layout: LayoutImages, model: Trained, work: Path, **limits: Any) -> Tried:
    """Assemble an image and try it against what *model* answers."""
    golden = work / "golden.json"
    request = {"dataframe_split": {"columns": model.columns, "data": model.rows[:GOLDEN_ROWS]}}
    answers = {"predictions": model.expected[:GOLDEN_ROWS], "rounding": 2e-6, "classes": True}
    golden.write_text(json.dumps({"request": request, **answers}))
    image = assemble_image(spec, layout.root, work)
    return try_image(host, layout, image.digest, golden, 1e-5, LimitSettings(**limits))


def scripted(model: Trained, folder: Path, code: str) -> ImageSpec:
    """Return an image of a model that is the expression *code* over `frame`, beside the libraries of the real one."""
    (folder / "code").mkdir(parents=True)
    (folder / "code/scripted.py").write_text(LOADER)
    (folder / "expression").write_text(code)
    kinds = zip(model.columns, ("string", "double", "long"), strict=True)
    inputs = json.dumps([{"name": name, "type": kind, "required": True} for name, kind in kinds])
    flavour = {"loader_module": "scripted", "code": "code", "data": "expression"}
    mlmodel = {"flavors": {"python_function": flavour}, "signature": {"inputs": inputs}}
    (folder / "MLmodel").write_text(json.dumps(mlmodel))
    return replace(spec_of(model, "pyfunc"), model_folder=folder)
