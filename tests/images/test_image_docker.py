"""The image in a real Docker daemon: read-only, as nobody, and without a network but the host's."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest
from dockerd import Docker
from image_helpers import Trained, spec_of
from loopback import free_port, listens, wait_until
from trial_helpers import tried

from insitu.adapters.docker.host import DockerHost
from insitu.adapters.docker.scoring import DockerScoringHost
from insitu.adapters.local.images import LayoutImages
from insitu.errors import ImageFailed, OutOfMemory
from insitu.images.assemble import Image, assemble_image
from insitu.images.client import RegistryImages
from insitu.images.publish import publish_image

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def loaded(docker: Docker, image: Image, layout: LayoutImages, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image's name in the daemon."""
    publish_image(image.digest, layout, layout, ["docker"])
    archive = tmp_path_factory.mktemp("archive") / "image.tar"
    target = f"docker-archive:{archive}:flights:7"
    subprocess.run(["skopeo", "copy", "--quiet", layout.reference("docker"), target], check=True)
    docker("load", "--input", str(archive))
    archive.unlink()
    return "flights:7"


def test_it_serves_and_stops_when_asked(docker: Docker, loaded: str, model: Trained) -> None:
    port = free_port()
    container = docker("run", "-d", "--read-only", "--network", "host", loaded, "--port", str(port))
    try:
        wait_until(lambda: listens(port))
        url = f"http://127.0.0.1:{port}/score"
        body = json.dumps({"input_data": {"columns": model.columns, "data": model.rows}}).encode()

        def scored() -> bool:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready") as answer:
                    return bool(answer.status == 200)
            except urllib.error.HTTPError:
                return False

        wait_until(scored)
        with urllib.request.urlopen(urllib.request.Request(url, body)) as answer:
            predictions = json.load(answer)["predictions"]
        for got, wanted in zip(predictions, model.expected, strict=True):
            assert got == pytest.approx(wanted, abs=1e-5)
        docker("stop", "--time", "10", container)
        assert docker("inspect", container, "--format", "{{.State.ExitCode}}") == "0"
        (line,) = docker("logs", container).splitlines()
        assert json.loads(line)["rows"] == len(model.rows)
    finally:
        docker("rm", "--force", container)


def test_its_python_is_whole_and_runs_as_nobody(docker: Docker, loaded: str) -> None:
    program = (
        "import asyncio, bz2, ctypes, decimal, hashlib, json, lzma, multiprocessing, os, pwd, socket, sqlite3,"
        "ssl, sys, uuid, zlib, zoneinfo, numpy, onnxruntime;"
        "print(pwd.getpwuid(os.getuid()).pw_name, sys.prefix, numpy.__file__)"
    )
    interpreter = f"/opt/python/bin/python3.{sys.version_info.minor}"
    options = ["--rm", "--read-only", "--network", "none", "--entrypoint", interpreter]
    found = docker("run", *options, loaded, "-c", program)
    assert found == "insitu /opt/python /opt/insitu/site-packages/numpy/__init__.py"


def test_without_any_network_it_is_up(docker: Docker, loaded: str) -> None:
    container = docker("run", "-d", "--read-only", "--network", "none", loaded)
    try:
        interpreter = json.loads(docker("inspect", container, "--format", "{{json .Config.Entrypoint}}"))[0]
        program = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:5001/ready').status)"

        def ready() -> bool:
            command = ["docker", "-H", docker.address, "exec", container, interpreter, "-c", program]
            return subprocess.run(command, capture_output=True, check=False).stdout.strip() == b"200"

        wait_until(ready)
    finally:
        docker("rm", "--force", container)


def test_a_daemon_pulls_what_the_client_pushed(
    docker: Docker, image: Image, layout: LayoutImages, registry_host: str
) -> None:
    published = publish_image(image.digest, layout, RegistryImages(registry_host, "pulled"), ["7"])
    docker("pull", "--quiet", published.reference)
    digests = json.loads(docker("inspect", published.reference, "--format", "{{json .RepoDigests}}"))
    assert f"{registry_host}/pulled@{image.digest}" in digests


def test_the_smoke_test_runs_in_a_container(
    docker: Docker, layout: LayoutImages, image: Image, model: Trained, work: Path
) -> None:
    host = DockerScoringHost(DockerHost(docker.address))
    found = tried(spec_of(model), host, layout, model, work, max_memory_mb=500)
    how = {"host": "docker", "network": "none", "memory_limit_by": "docker"}
    assert found.smoke == {**how, "memory_limit_bytes": 500_000_000, "ended": False}
    assert found.peak_memory_bytes is not None
    assert found.latency_ms is not None
    with pytest.raises(OutOfMemory), host.run(layout, image.digest, 20_000_000):
        pass
    broken = assemble_image(replace(spec_of(model), metadata={"runtime": "pyfunc"}), layout.root, work)
    with pytest.raises(ImageFailed, match="ModuleNotFoundError"), host.run(layout, broken.digest):
        pass
    assert docker("ps", "--all", "--quiet", "--filter", "label=io.insitu.smoke") == ""
