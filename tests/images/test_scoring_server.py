"""The server as it runs: from the unpacked image, by the image's own Python, over a unix socket."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from image_helpers import Trained, spec_of
from trial_helpers import scripted, tried

import insitu.serving
from insitu.adapters.local.confinement import group_parent
from insitu.adapters.local.images import LayoutImages
from insitu.adapters.local.scoring import ProcessScoringHost
from insitu.errors import ImageFailed, OutOfMemory
from insitu.images.assemble import Image, assemble_image
from insitu.ports import Scorer


@pytest.fixture(scope="module")
def host(work: Path) -> ProcessScoringHost:
    return ProcessScoringHost(work / "run")


@pytest.fixture(scope="module")
def onnx(host: ProcessScoringHost, image: Image, layout: LayoutImages) -> Iterator[Scorer]:
    with host.run(layout, image.digest) as scorer:
        yield scorer


def ask(scorer: Scorer, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    content = None if body is None else json.dumps(body).encode()
    status, answer = scorer.request(method, path, content)
    return status, json.loads(answer)


def test_onnx_answers_as_scikit_learn_does(onnx: Scorer, model: Trained) -> None:
    for path in ("/score", "/invocations"):
        body = {"dataframe_split": {"columns": model.columns, "data": model.rows}}
        status, answer = ask(onnx, "POST", path, body)
        assert status == 200
        for got, wanted in zip(answer["predictions"], model.expected, strict=True):
            assert got == pytest.approx(wanted, abs=1e-5)
    assert ask(onnx, "POST", "/score", {"data": []}) == (200, {"predictions": []})


def test_pyfunc_answers_as_scikit_learn_does(
    host: ProcessScoringHost, pyfunc_image: Image, layout: LayoutImages, model: Trained
) -> None:
    with host.run(layout, pyfunc_image.digest) as scorer:
        assert ask(scorer, "GET", "/metadata")[1]["runtime"] == "pyfunc"
        status, answer = ask(scorer, "POST", "/score", {"input_data": model.rows})
        assert status == 200
        for got, wanted in zip(answer["predictions"], model.expected, strict=True):
            assert got == pytest.approx(wanted, abs=1e-12)
        assert ask(scorer, "POST", "/score", {"data": []}) == (200, {"predictions": []})


def test_both_runtimes_share_every_layer_but_two(image: Image, pyfunc_image: Image) -> None:
    same = [a.title for a, b in zip(image.layers, pyfunc_image.layers, strict=True) if a == b]
    assert same == ["base", "server"]


def test_it_says_what_it_is_and_how_it_is(onnx: Scorer) -> None:
    assert ask(onnx, "GET", "/") == ask(onnx, "GET", "/health") == (200, {"status": "live"})
    assert ask(onnx, "GET", "/ready") == (200, {"status": "ready"})
    status, metadata = ask(onnx, "GET", "/metadata")
    assert status == 200
    assert (metadata["model"], metadata["version"], metadata["runtime"]) == ("flights", "7", "onnx")


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/secret", None, 404, "unknown_path"),
        ("GET", "/score", None, 405, "wrong_method"),
        ("POST", "/health", {}, 405, "wrong_method"),
        ("POST", "/score", {"data": [["AA", 1]]}, 400, "wrong_shape"),
        ("POST", "/score", {"data": "x" * (17 << 20)}, 413, "too_large"),
    ],
)
def test_what_it_cannot_do_it_says(onnx: Scorer, method: str, path: str, body: Any, status: int, code: str) -> None:
    found, answer = ask(onnx, method, path, body)
    assert (found, answer["error"]["code"]) == (status, code)


def test_it_says_how_it_is_kept_in(host: ProcessScoringHost) -> None:
    assert host.isolation.host == "process"
    if os.geteuid() == 0:  # root may make namespaces and control groups, but where a container keeps it from that
        assert (host.isolation.network, host.isolation.memory_limit_by) == ("none", "cgroup")


def test_what_takes_more_memory_than_it_may_is_ended_and_said(
    host: ProcessScoringHost, image: Image, layout: LayoutImages
) -> None:
    def groups() -> set[Path]:
        return set(group_parent().glob("insitu-*")) if group_parent() else set()

    before = groups()
    with pytest.raises(OutOfMemory, match="more than 30 MB"), host.run(layout, image.digest, 30_000_000):
        pass
    assert groups() <= before


def test_a_server_that_cannot_load_its_model_says_why(
    model: Trained, layout: LayoutImages, host: ProcessScoringHost, tmp_path: Path, work: Path
) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not a model, but 4711")
    spec = replace(spec_of(model), onnx=tmp_path / "model.onnx")
    broken = assemble_image(spec, layout.root, work)
    with (
        pytest.raises(ImageFailed, match="ended before it was ready") as caught,
        host.run(layout, broken.digest),
    ):
        pass
    assert "InvalidProtobuf" in str(caught.value)
    assert "4711" not in str(caught.value)


def test_a_model_that_fails_on_a_request_answers_with_an_id(
    model: Trained, layout: LayoutImages, host: ProcessScoringHost, work: Path
) -> None:
    metadata = {"onnx_output": "no such output"}
    broken = assemble_image(spec_of(model, metadata=metadata), layout.root, work)
    with host.run(layout, broken.digest) as scorer:
        status, answer = ask(scorer, "POST", "/score", {"data": [["4711", 1, 1]]})
        assert status == 500
        assert len(answer["error"]["id"]) == 32
        assert "4711" not in json.dumps(answer)
        assert ask(scorer, "GET", "/ready")[0] == 200


def test_onnx_runtime_does_not_report_home(model: Trained, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from insitu.serving.runtimes import OnnxRuntime;"
        "OnnxRuntime(Path(sys.argv[1]), [])"
    )
    root = Path(insitu.serving.__file__).parents[2]
    command = [sys.executable, "-c", program, str(model.onnx)]
    environment = {"HOME": str(tmp_path), "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert b"named for the columns" in done.stderr
    assert not list(tmp_path.rglob("*")), "it keeps a device id and a queue of events under the home folder"


def test_a_server_that_stopped_does_not_answer(host: ProcessScoringHost, image: Image, layout: LayoutImages) -> None:
    with host.run(layout, image.digest) as scorer:
        pass
    with pytest.raises(ImageFailed, match="does not answer"):
        scorer.request("GET", "/health")


def test_an_image_without_its_loader_is_refused(
    image: Image, layout: LayoutImages, host: ProcessScoringHost, tmp_path: Path
) -> None:
    other = ProcessScoringHost(tmp_path)
    with other.run(layout, image.digest):
        pass
    (root,) = (tmp_path / "images").iterdir()
    shutil.rmtree(root / "lib64", ignore_errors=True)
    shutil.rmtree(root / "lib", ignore_errors=True)
    with pytest.raises(ImageFailed, match="has no loader"), other.run(layout, image.digest):
        pass


def test_score_code_that_breaks_is_not_published(
    host: ProcessScoringHost, layout: LayoutImages, model: Trained, work: Path, tmp_path: Path
) -> None:
    with pytest.raises(ImageFailed, match="refuses the golden rows"):
        tried(scripted(model, tmp_path / "m", "frame['no such column']"), host, layout, model, work)


def test_features_in_another_order_are_not_published(
    host: ProcessScoringHost, layout: LayoutImages, model: Trained, work: Path, tmp_path: Path
) -> None:
    right = f"{model.expected!r}[:len(frame)]"
    assert tried(scripted(model, tmp_path / "right", right), host, layout, model, work).max_difference == 0
    by_place = "[[1 - x / 4000, x / 4000] for x in frame.iloc[:, 1]]"  # it wants the hour there, and gets the distance
    with pytest.raises(ImageFailed, match="answers differently"):
        tried(scripted(model, tmp_path / "swapped", by_place), host, layout, model, work)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("[0.5] * len(frame)", "another shape"),
        ("[[1, 0]] * len(frame)", "answers differently"),
        ("[['a', 'b']] * len(frame)", "no numbers"),
        ("[[float('nan')] * 2] * len(frame)", "answers differently"),
    ],
)
def test_answers_of_another_shape_or_type_are_not_published(
    host: ProcessScoringHost, layout: LayoutImages, model: Trained, work: Path, tmp_path: Path, code: str, said: str
) -> None:
    with pytest.raises(ImageFailed, match=said):
        tried(scripted(model, tmp_path / "m", code), host, layout, model, work)
