"""What the smoke test finds out about an image, and what it says of one that takes too much."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from image_helpers import Trained, spec_of
from trial_helpers import tried

from insitu.adapters.docker.host import DockerHost
from insitu.adapters.docker.scoring import DockerOrProcess, DockerScoringHost
from insitu.adapters.local.images import LayoutImages
from insitu.adapters.local.scoring import ProcessScoringHost
from insitu.errors import ImageFailed
from insitu.images.environment import serving_requirements


@pytest.fixture(scope="module")
def process(work: Path) -> ProcessScoringHost:
    return ProcessScoringHost(work / "run")


def test_an_image_that_answers_as_its_model_is_measured(
    process: ProcessScoringHost, layout: LayoutImages, model: Trained, work: Path
) -> None:
    found = tried(spec_of(model), process, layout, model, work, max_memory_mb=500)
    assert found.max_difference is not None
    assert found.max_difference < 1e-5
    assert found.latency_ms is not None
    assert 0 < found.latency_ms < 1000
    assert found.peak_memory_bytes is not None
    assert 3e7 < found.peak_memory_bytes < 5e8
    assert (found.smoke["host"], found.smoke["memory_limit_bytes"]) == ("process", 500_000_000)


def test_too_much_memory_is_a_verdict_where_there_is_a_limit(
    process: ProcessScoringHost, layout: LayoutImages, model: Trained, work: Path
) -> None:
    found = tried(spec_of(model), process, layout, model, work, max_memory_mb=30)
    assert found.smoke["ended"]
    assert (found.max_difference, found.peak_memory_bytes, found.latency_ms) == (None, None, None)


def test_an_image_that_lacks_a_package_is_not_published(
    process: ProcessScoringHost, layout: LayoutImages, model: Trained, work: Path
) -> None:
    lacking = replace(spec_of(model, "pyfunc"), requirements=serving_requirements(model.folder, "onnx"))
    with pytest.raises(ImageFailed, match="ModuleNotFoundError"):
        tried(lacking, process, layout, model, work)


def test_without_a_daemon_a_process_does_it(
    process: ProcessScoringHost, layout: LayoutImages, model: Trained, work: Path
) -> None:
    nobody = DockerScoringHost(DockerHost("unix:///var/run/nobody.sock"))
    found = tried(spec_of(model), DockerOrProcess(nobody, process), layout, model, work)
    assert found.smoke["host"] == "process"
