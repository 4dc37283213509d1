"""Asks the server of a published image."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from insitu.errors import ImageFailed, UsageError
from insitu.images.publish import publish_image
from insitu.journal import Journal
from insitu.lineage import Records
from insitu.settings import load_settings
from insitu.training import INPUTS
from insitu.wiring import open_site


@dataclass(frozen=True)
class Asked:
    """The version that was asked, the request that was sent, and the server's answer.

    Attributes:
        classes: What the numbers of each prediction are the probabilities of; none where it is one number.
    """

    version: str
    request: Any
    answer: Any
    classes: tuple[str, ...]


def ask_published(project: Path, site: str, model: str, version: str, request_file: Path | None) -> Asked:
    """Ask the server of an image that was published.

    Raises:
        UsageError: There is no such version, or the request cannot be read.
        ImageFailed: The image does not start, or refuses the request.
    """
    settings, _ = load_settings(project, site, model, os.environ)
    place = open_site(project, settings)
    record = Records(place.state).of_version(model, version)
    request = _read(request_file) if request_file else _golden(place.jobs.output(record["training"]["job"]))
    layout, digest = place.layout(model), record["publication"]["digest"]
    if layout.resolve(digest) is None:  # assembled elsewhere, or the layout was cleared: fetch it
        publish_image(digest, source=place.registry(model), target=layout, tags=())
    with place.scoring.run(layout, digest) as scorer:
        status, body = scorer.request("POST", "/score", json.dumps(request).encode())
    answer = json.loads(body)
    if status == 400:
        raise UsageError("the server refused the request", found=json.dumps(answer.get("error", answer)))
    if status != 200:
        raise ImageFailed("the server refused the request", found=f"status {status}: {json.dumps(answer)}")
    inputs = Journal(place.state, model, record["run_key"]).entry(INPUTS)  # what model.toml said when it was trained
    classes = inputs["settings"]["target"].get("classes", ()) if inputs else ()
    return Asked(str(record["model_version"]["version"]), request, answer, tuple(map(str, classes)))


def _golden(job: Path) -> Any:
    try:
        return json.loads((job / "golden.json").read_text())["request"]
    except FileNotFoundError as exc:
        raise UsageError(
            f"the example request of this version is gone ({job})", next_action="send your own with --file"
        ) from exc


def _read(path: Path) -> Any:
    try:
        return json.loads(sys.stdin.read() if str(path) == "-" else path.read_text())
    except OSError as exc:
        raise UsageError(f"the request file {path} cannot be read: {exc.strerror}") from exc
    except ValueError as exc:
        raise UsageError(f"the request file {path} is not JSON") from exc
