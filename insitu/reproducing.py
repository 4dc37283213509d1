"""A recorded run once more, from its batch, code and parameters: does the same come out?

Nothing that the run left is touched. Its job has a key of its own, its image is assembled in a temporary folder.
"""

from __future__ import annotations

import json
import math
import shutil
import uuid
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from insitu.batch import Batch
from insitu.building import assemble_again
from insitu.errors import UsageError
from insitu.joblog import LogRelay
from insitu.journal import Journal
from insitu.lineage import Records, significant
from insitu.release import image_spec
from insitu.runs import Run
from insitu.settings import ModelSettings, with_params
from insitu.training import INPUTS, do_job, job_spec
from insitu.wiring import Site

_MAKE_THE_MODEL = ("target", "data", "train")
"""The settings that decide which model comes out; those of gate and limits only judge it."""

_SAME = 1e-9
"""Relative difference of a metric that the order of a sum can make."""


def reproduce(site: Site, model: ModelSettings, version: str, relay: LogRelay) -> dict[str, Any]:
    """Return whether the run of *version* gives the same metrics and the same image again, and what differs.

    Where code or settings are not those of the run, that is told and nothing is run.

    Raises:
        UsageError: There is no such version, or its run has trained nothing.
        InsituError: What the edge job raises, such as `BlobChanged` for data that is not what it was.
    """
    record = Records(site.state).of_version(model.name, version)
    journal = Journal(site.state, model.name, record["run_key"])
    trained, inputs = journal.entry("train"), journal.entry(INPUTS) or {}
    if trained is None:
        raise UsageError(f"run {record['run_key'][:12]} of {model.name} has trained nothing")
    params = inputs.get("settings", {}).get("train", {}).get("params", {})
    run = Run(site, with_params(model, params), Batch.from_json(record["batch"]["manifest"]))
    told = {"model": model.name, "site": site.name, "version": version, "run_key": record["run_key"]}
    if changed := list(_changed(run, record, inputs)):
        return told | {"equal": False, "ran": False, "differs": changed, "files": [], "environment": []}
    return told | _run_again(run, record, trained["value"], relay)


def _changed(run: Run, record: Mapping[str, Any], inputs: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the model folder, its suite and the settings have now that the run did not have."""
    now = json.loads(json.dumps(run.inputs))
    if not inputs and now["code"] != record["code"]:
        yield "code: the model's files or its suite (this run is too old to tell which)"
    for name in sorted({*now["files"], *inputs.get("files", now["files"])}):
        if inputs and now["files"].get(name) != inputs["files"].get(name):
            yield f"code: {name}"
    if inputs and now["suite"] != inputs["suite"]:
        yield "code: the suite"
    for part in _MAKE_THE_MODEL if inputs else ():
        old, new = inputs["settings"][part], now["settings"][part]
        for key in sorted({*old, *new}):
            if old.get(key) != new.get(key):
                yield f"settings: {part}.{key}"


def _run_again(run: Run, record: Mapping[str, Any], before: Mapping[str, Any], relay: LogRelay) -> dict[str, Any]:
    old = before["metrics"]["challenger"]
    spec = job_spec(run, None, None) | {"metrics": list(old), "slices": {}, "max_overlap": 1.0}
    key = sha256(f"reproduce {record['run_key']} {uuid.uuid4().hex}".encode()).hexdigest()
    folder = run.site.jobs.output(key)
    try:
        _, result = do_job(run, key, spec, relay)
        image = _image(run, record, folder, result["onnx"]) if record["image"] else None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    new = result["metrics"]["challenger"]
    differs = [f"metric: {name}" for name in old if not _close(old[name], new[name])]
    files = {*before["files"], *result["files"]}
    differs += [f"image: layer {title}" for title in _other_layers(record, image)]
    if image and not differs and image["digest"] != record["image"]["digest"]:
        differs.append("image: its configuration")
    return {
        "equal": not differs,
        "ran": True,
        "differs": differs,
        # Formats that write the time or a random id into their files have others each time: the image is what counts.
        "files": sorted(name for name in files if before["files"].get(name) != result["files"].get(name)),
        "environment": list(_moved(before.get("environment") or {}, result["environment"])),
        "metrics": {"recorded": significant(old), "now": significant(new)},
        "image": image and {"recorded": record["image"]["digest"], "now": image["digest"]},
    }


def _close(old: float | None, new: float | None) -> bool:
    """Tell whether two metrics are the same; None is what JSON makes of one that is no number."""
    if old is None or new is None:
        return old is new
    return math.isclose(old, new, rel_tol=_SAME, abs_tol=_SAME)


def _image(run: Run, record: Mapping[str, Any], job: Path, onnx: Mapping[str, Any] | None) -> dict[str, Any]:
    facts = {
        "model": run.model.name,
        "version": record["model_version"]["version"],
        "run_key": record["run_key"],
        "batch_fingerprint": record["batch"]["fingerprint"],
        "code": record["code"],
    }
    decided, revision = record["image"].get("decision", ""), record["image"].get("revision")
    spec = image_spec(run.model, job, onnx, facts, decided, revision)
    with TemporaryDirectory(prefix="insitu-") as scratch:
        image = assemble_again(run.site, spec, layout=Path(scratch))
        return {"digest": image.digest, "layers": {layer.title: layer.descriptor.digest for layer in image.layers}}


def _other_layers(record: Mapping[str, Any], image: Mapping[str, Any] | None) -> list[str]:
    if image is None:
        return []
    before = {layer["title"]: layer["digest"] for layer in record["image"]["layers"]}
    return [title for title in {**before, **image["layers"]} if before.get(title) != image["layers"].get(title)]


def _moved(before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    """Yield packages, and Python, whose version is another than it was where the run's job ran."""
    for name in sorted({*before, *now}) if before else ():
        if before.get(name) != now.get(name):
            yield f"{name} {before.get(name, 'absent')} -> {now.get(name, 'absent')}"
