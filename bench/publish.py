"""Publishing a retrained model, beside what others do with the same bytes, to one docker-registry on loopback.

In each round every contender gets a model of new random bytes on top of an image that the registry has already, and is
timed until the tag is there. Ours writes the layer, assembles and publishes the image. docker-py has a daemon of its
own build and push it. `crane append` takes part where a crane is on the PATH. The limit digests the model and sends it
in one request. `mlflow models build-docker` takes no part: its build installs packages from an index in each round.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import urllib3

from bench.harness import ROOT, Row, interleaved, report
from insitu.adapters.local.images import LayoutImages
from insitu.images.assemble import Image, ImageSpec, assemble_image
from insitu.images.client import RegistryImages
from insitu.images.publish import Publication, publish_image
from insitu.ports import Descriptor
from insitu.twin.programs import free_port

sys.path[:0] = [
    str(ROOT / "tests"),
    str(ROOT / "tests" / "images"),
]  # real daemons and registries, as the tests run them

MB = 1_000_000
SIZES_MB = (5, 500)
_KILLED_MB, _KILLS, _CHUNK_BYTES = 1000, 20, 16 << 20
_FASTER: Mapping[str, tuple[float | None, float | None]] = {
    "docker-py build and push": (5.0, 8.0),
    "crane append": (1.5, 2.0),
    "sha256 and one PUT": (None, 1 / 1.1),
}
"""How many times as fast ours is to be, with a small model and with a large one."""


@dataclass(frozen=True)
class Place:
    """Where everybody publishes from and to: a folder with the model, and the registry's `host:port`."""

    folder: Path
    host: str

    @property
    def model(self) -> Path:
        """The folder of the model."""
        return self.folder / "model"

    def retrain(self, size_mb: int) -> None:
        """Give the model other bytes."""
        (self.model / "weights.bin").write_bytes(os.urandom(size_mb * MB))


def ours(place: Place, repository: str = "ours") -> tuple[Image, Publication]:
    """Assemble and publish the image."""
    layout = LayoutImages(place.folder / "layout")
    image = assemble_image(ImageSpec(place.model, None, ("click",)), layout.root, place.folder / "work")
    return image, publish_image(image.digest, layout, RegistryImages(place.host, repository), ["latest"])


def docker_py(place: Place, client: Any) -> None:
    """Build the image on what is there, and push it."""
    client.images.build(path=str(place.folder), dockerfile="Dockerfile", tag=f"{place.host}/docker:latest")
    for line in client.images.push(f"{place.host}/docker", tag="latest", stream=True, decode=True):
        if "error" in line:
            raise RuntimeError(line["error"])


def crane(place: Place) -> None:
    """Append a layer, which is a plain tar, as crane takes one."""
    tar, to = place.folder / "model.tar", f"{place.host}/crane:latest"
    subprocess.run(["tar", "-cf", tar, "-C", place.folder, "model"], check=True)
    command = ["crane", "append", "--insecure", "-b", f"{place.host}/ours:base", "-f", str(tar), "-t", to]
    subprocess.run(command, check=True, capture_output=True)


def limit(place: Place) -> None:
    """Digest the model's bytes, and send them."""
    content = (place.model / "weights.bin").read_bytes()
    digest = f"sha256:{sha256(content).hexdigest()}"
    started = urllib3.request("POST", f"http://{place.host}/v2/limit/blobs/uploads/")
    headers = {"Content-Type": "application/octet-stream"}
    url = f"{started.headers['Location']}&digest={digest}"
    put = urllib3.request("PUT", url, body=content, headers=headers, timeout=600, retries=False)
    assert put.status == 201, put.data


@contextmanager
def docker_registry(folder: Path) -> Iterator[str]:
    """Run docker-registry for a while; yield its `host:port`."""
    from loopback import listens, wait_until

    port = free_port()
    folder.mkdir()
    (folder / "config.yml").write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {folder / 'data'}}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\n"
    )
    command = ["docker-registry", "serve", str(folder / "config.yml")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: listens(port))
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def contenders(place: Place, stack: ExitStack) -> Mapping[str, Callable[[], object]]:
    """Return who can take part here; say who cannot, and why."""
    found: dict[str, Callable[[], object]] = {"ours": partial(ours, place), "sha256 and one PUT": partial(limit, place)}
    found |= _docker(place, stack)
    if shutil.which("crane"):
        found["crane append"] = partial(crane, place)
    else:
        print("crane append is left out: no crane on the PATH")
    print("mlflow models build-docker is left out: it needs a package index and a base image from elsewhere")
    return found


def _docker(place: Place, stack: ExitStack) -> Mapping[str, Callable[[], object]]:
    import docker
    import pytest
    from dockerd import docker_daemon

    (place.folder / "docker").mkdir()
    try:
        daemon = stack.enter_context(docker_daemon(place.folder / "docker"))
    except pytest.skip.Exception as why:
        print(f"docker-py is left out: {why}")
        return {}
    client = docker.DockerClient(base_url=daemon.address, timeout=600)
    client.images.pull(f"{place.host}/ours", tag="base")
    return {"docker-py build and push": partial(docker_py, place, client)}


def measured(place: Place, who: Mapping[str, Callable[[], object]], size_mb: int, large: bool) -> list[Row]:
    """Let everybody publish in turns, each time other bytes."""
    taken = interleaved(list(who.values()), before=partial(place.retrain, size_mb))
    seconds, rows = dict(zip(who, taken, strict=True)), list[Row]()
    for name, theirs in seconds.items():
        if faster := _FASTER.get(name, (None, None))[large]:
            rows.append(Row.relative(f"retrained, {size_mb} MB", seconds["ours"], theirs, name, "s", 1 / faster))
    return rows


def frugality(place: Place) -> list[Row]:
    """Count what a republished model takes beyond its own layer: requests, and bytes."""
    from registry_front import registry_front

    with registry_front(place.host) as front:
        through = Place(place.folder, front.host)
        place.retrain(SIZES_MB[0])
        image, publication = ours(through)
        requests = len(front.asked)
        front.asked.clear()
        again = ours(through)[1]
        same = len(front.asked)
    own = image.layers[-1].descriptor.size_bytes
    beyond = sum(one.size_bytes for one in publication.sent) - own
    return [
        Row("requests, retrained model", requests, 5, "the five that carry content", "requests", 5),
        Row("requests, the same again", same, 5, "goal", "requests", 5),
        Row("bytes sent, the same again", sum(one.size_bytes for one in again.sent), 1, "1 byte", "bytes", 0),
        Row("bytes beyond the model's layer", beyond, own, "the layer", "bytes", 15_000),
    ]


def killed(folder: Path) -> Row:
    """Send a large blob to a registry that is killed at twenty points."""
    import random

    from mortal_registry import Count, keeping

    size_bytes = _KILLED_MB * MB
    blob, digest = folder / "blob", sha256()
    with blob.open("wb") as file:
        for _ in range(_KILLED_MB):
            piece = os.urandom(MB)
            digest.update(piece)
            file.write(piece)
    (folder / "kept").mkdir()
    descriptor = Descriptor("application/octet-stream", f"sha256:{digest.hexdigest()}", size_bytes)
    with keeping(folder / "kept").running() as registry:
        count = Count(sorted(random.Random(0).sample(range(size_bytes), _KILLS)), registry)
        RegistryImages(registry.host, "kept", _CHUNK_BYTES).put_blob(descriptor, blob, count)
        assert registry.kills == _KILLS
    assert (folder / "kept" / digest.hexdigest()).stat().st_size == size_bytes
    return Row(
        "1 GB, the registry killed 20 times", count.sent_bytes / MB, _KILLED_MB, "its bytes", "MB", 1.2 * _KILLED_MB
    )


def save_model(folder: Path) -> None:
    """Leave a small model there, as MLflow saves it."""
    import mlflow.sklearn
    import numpy as np
    import pandas as pd
    from mlflow.models import infer_signature
    from sklearn.linear_model import LogisticRegression

    frame = pd.DataFrame({"x": np.arange(10.0), "y": np.arange(10.0) % 3})
    fitted = LogisticRegression().fit(frame, [0, 1] * 5)
    signature = infer_signature(frame, fitted.predict_proba(frame))
    mlflow.sklearn.save_model(fitted, str(folder), signature=signature, pip_requirements=["click"])


def main() -> None:
    """Measure time, requests and bytes."""
    if not shutil.which("docker-registry"):
        sys.exit("this bench needs the Debian package docker-registry")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="insitu-bench-")))
        place = Place(folder, stack.enter_context(docker_registry(folder / "registry")))
        save_model(place.model)
        place.retrain(SIZES_MB[0])
        first, _ = ours(place)
        target = RegistryImages(place.host, "ours")
        published = target.resolve(first.digest)
        assert published
        target.tag("base", *published)
        (folder / "Dockerfile").write_text(f"FROM {place.host}/ours:base\nCOPY model /opt/model\n")
        (folder / ".dockerignore").write_text("*\n!model\n!Dockerfile\n")
        who = contenders(place, stack)
        rows = [row for at, size_mb in enumerate(SIZES_MB) for row in measured(place, who, size_mb, bool(at))]
        rows += [*frugality(place), killed(folder)]
    report("publish", rows, ["urllib3", "docker"])


if __name__ == "__main__":
    main()
