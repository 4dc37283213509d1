"""A model on a real Docker host, and on an endpoint of the twin: what is new serves once it has answered, or never."""

from __future__ import annotations

import json
import select
import socket
import socketserver
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from hashlib import sha256
from itertools import product
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from dockerd import Docker
from image_helpers import Trained, spec_of
from loopback import free_port, wait_until

from insitu.adapters.azure.acr import acr_images
from insitu.adapters.azure.endpoint import EndpointTarget
from insitu.adapters.azure.workspace import open_workspace
from insitu.adapters.docker.target import DockerTarget
from insitu.adapters.local.images import LayoutImages
from insitu.errors import BackendUnavailable, DeployFailed, ImageFailed
from insitu.images.assemble import Image, assemble_image
from insitu.images.client import RegistryImages
from insitu.images.manifest import CONFIG_TYPE, MANIFEST_TYPE, canonical, parts_of, to_json
from insitu.images.publish import publish_image
from insitu.ports import Descriptor, ImageRegistry, Release, Scorer
from insitu.settings import DockerTarget as Settings
from insitu.settings import EndpointTarget as EndpointSettings
from insitu.settings import SiteSettings
from insitu.twin.estate import Estate

pytestmark = [pytest.mark.docker, pytest.mark.slow]


@pytest.fixture
def target(docker: Docker, layout: LayoutImages) -> Iterator[DockerTarget]:
    settings = Settings(
        name="line-1", kind="docker", host=docker.address, port=free_port(), network="host", ready_timeout_s=20
    )
    target = DockerTarget("flights", settings, None, layout, layout.root)
    yield target
    for name in docker("ps", "--all", "--format", "{{.Names}}").split():
        docker("rm", "--force", name)


@pytest.fixture
def release(image: Image, layout: LayoutImages, model: Trained) -> Release:
    return Release("flights", "7", image.digest, layout, partial(_answers, model))


@pytest.fixture
def second(model: Trained, layout: LayoutImages, release: Release) -> Release:
    metadata = {"model": "flights", "version": "8", "run_key": "def"}
    made = assemble_image(spec_of(model, metadata=metadata), layout.root, layout.root.parent)
    return replace(release, version="8", digest=made.digest)


def _answers(model: Trained, scorer: Scorer) -> None:
    body = json.dumps({"input_data": {"columns": model.columns, "data": model.rows}}).encode()
    status, answer = scorer.request("POST", "/score", body)
    if status != 200 or json.loads(answer)["predictions"][0] != pytest.approx(model.expected[0], abs=1e-5):
        raise ImageFailed("the image answers differently from the trained model")


def served_version(target: DockerTarget) -> str:
    with urllib.request.urlopen(f"{target.address}/metadata", timeout=10) as answer:
        return str(json.load(answer)["version"])


def containers(docker: Docker) -> list[str]:
    return sorted(docker("ps", "--all", "--format", "{{.Names}} {{.State}}").splitlines())


def test_an_image_serves_locked_in_and_its_successor_takes_the_port(
    docker: Docker, target: DockerTarget, release: Release, second: Release
) -> None:
    assert target.serves() is None
    target.put(release)
    assert (target.serves(), served_version(target)) == (release.digest, "7")
    found = json.loads(docker("inspect", target.container))[0]
    assert found["HostConfig"]["ReadonlyRootfs"]
    assert found["HostConfig"]["SecurityOpt"] == ["no-new-privileges"]
    assert found["HostConfig"]["Memory"] == 1024 * 1_000_000
    assert found["Config"]["User"] == "10001:10001"

    target.put(second)
    assert (target.serves(), served_version(target)) == (second.digest, "8")
    assert containers(docker) == ["insitu-flights-line-1 running"]


def test_an_image_that_does_not_answer_never_gets_the_port(
    docker: Docker, target: DockerTarget, release: Release, layout: LayoutImages
) -> None:
    target.put(release)
    started = json.loads(docker("inspect", target.container))[0]["State"]["StartedAt"]
    with pytest.raises(DeployFailed, match="exit status 3"):
        target.put(replace(release, version="8", digest=ends_at_once(layout, release.digest)))
    with pytest.raises(DeployFailed, match="answers differently"):
        target.put(replace(release, version="9", answers=_refuse))
    assert served_version(target) == "7"
    assert json.loads(docker("inspect", target.container))[0]["State"]["StartedAt"] == started
    assert containers(docker) == ["insitu-flights-line-1 running"]


def test_an_image_that_fails_on_the_port_gives_it_back(
    docker: Docker, target: DockerTarget, release: Release, second: Release
) -> None:
    target.put(release)
    asked = []

    def only_once(scorer: Scorer) -> None:
        asked.append(scorer)
        if len(asked) > 1:
            raise ImageFailed("the image answers differently from the trained model")

    with pytest.raises(DeployFailed):
        target.put(replace(second, answers=only_once))
    assert (len(asked), target.serves()) == (2, release.digest)
    wait_until(lambda: answers_again(target, "7"))
    assert containers(docker) == ["insitu-flights-line-1 running"]


def test_a_daemon_that_cannot_start_the_new_container_starts_the_old_one_again(
    docker: Docker, target: DockerTarget, release: Release, second: Release, tmp_path: Path
) -> None:
    target.put(release)
    with daemon_front(docker, tmp_path / "front.sock", f"/containers/{target.container}/start") as address:
        fronted = replace(target, settings=target.settings.model_copy(update={"host": address}))
        with pytest.raises(BackendUnavailable, match="in trouble"):
            fronted.put(second)
    assert target.serves() == release.digest
    wait_until(lambda: answers_again(target, "7"))
    assert containers(docker) == ["insitu-flights-line-1 running"]


def test_a_server_that_ends_in_the_moment_when_it_is_asked_says_so(
    docker: Docker, target: DockerTarget, release: Release, layout: LayoutImages, tmp_path: Path
) -> None:
    trial = f"{target.container}-trial"
    ended = partial(wait_until, lambda: docker("inspect", "--format", "{{.State.Status}}", trial) == "exited")
    with daemon_front(docker, tmp_path / "front.sock", f"/containers/{trial}/exec", ended) as address:
        fronted = replace(target, settings=target.settings.model_copy(update={"host": address}))
        with pytest.raises(DeployFailed, match="exit status 3"):
            fronted.put(replace(release, digest=ends_at_once(layout, release.digest)))
    assert containers(docker) == []


def test_a_container_of_something_else_is_left_alone(docker: Docker, target: DockerTarget, release: Release) -> None:
    target.put(release)
    image = json.loads(docker("inspect", target.container))[0]["Image"]
    docker("rm", "--force", target.container)
    names = (target.container, f"{target.container}-trial", f"{target.container}-before")
    others = ("", "io.insitu.model=flights-line io.insitu.target=1", "io.insitu.model=flights io.insitu.target=line")
    for name, labels in product(names, others):
        docker("create", "--name", name, *(f"--label={one}" for one in labels.split()), image)
        with pytest.raises(DeployFailed, match=f"the container {name}"):
            target.put(release)
        assert containers(docker) == [f"{name} created"]
        docker("rm", name)


def test_a_change_that_was_interrupted_is_gone_on_with(
    docker: Docker, target: DockerTarget, release: Release, second: Release
) -> None:
    target.put(release)
    docker("rename", target.container, f"{target.container}-before")
    docker("stop", f"{target.container}-before")
    assert target.serves() is None
    target.put(second)
    assert (target.serves(), served_version(target)) == (second.digest, "8")
    assert containers(docker) == ["insitu-flights-line-1 running"]


def test_a_host_pulls_by_digest_from_a_registry(
    docker: Docker, target: DockerTarget, release: Release, layout: LayoutImages, registry_host: str
) -> None:
    registry = RegistryImages(registry_host, "deployed")
    publish_image(release.digest, layout, registry, ["7"])
    replace(target, pull_from=registry.name).put(replace(release, images=registry))
    assert json.loads(docker("inspect", target.container))[0]["Config"]["Image"] == registry.reference(release.digest)
    assert served_version(target) == "7"


@pytest.fixture
def registry(twin_site: Callable[..., SiteSettings]) -> ImageRegistry:
    site = twin_site()
    assert site.azure
    assert site.registry
    return acr_images(site.azure, site.registry, "flights")


@pytest.fixture
def endpoint(twin_site: Callable[..., SiteSettings], registry: ImageRegistry) -> EndpointTarget:
    azure = twin_site().azure
    assert azure
    settings = EndpointSettings(name="cloud", kind="azure-ml-endpoint", endpoint="flights-late", ready_timeout_s=60)
    return EndpointTarget("flights", settings, registry.name, open_workspace(azure))


@pytest.mark.registry
def test_traffic_moves_when_the_next_deployment_has_answered_and_moves_back(
    endpoint: EndpointTarget,
    registry: ImageRegistry,
    image: Image,
    layout: LayoutImages,
    model: Trained,
    estate: Estate,
) -> None:
    def published(version: str, digest: str) -> Release:
        publish_image(digest, layout, registry, [version])
        sample = {"dataframe_split": {"columns": model.columns, "data": [["", 0.0, 0]]}}
        return Release("flights", version, digest, registry, _never, sample)

    def deployments() -> dict[str, int]:
        found: Any = endpoint.workspace.ask(lambda client: client.online_endpoints.get("flights-late"))
        return {name.partition("-")[0]: share for name, share in found.traffic.items()}

    first = published("7", image.digest)
    assert endpoint.serves() is None
    endpoint.put(first)
    assert (endpoint.serves(), deployments()) == (first.digest, {"v7": 100})

    metadata = {"model": "flights", "version": "8", "run_key": "def"}
    second = published("8", assemble_image(spec_of(model, metadata=metadata), layout.root, layout.root.parent).digest)
    endpoint.put(second)
    assert (endpoint.serves(), deployments()) == (second.digest, {"v7": 0, "v8": 100})

    broken = published("9", ends_at_once(layout, image.digest))
    with pytest.raises(DeployFailed):
        endpoint.put(broken)
    assert (endpoint.serves(), deployments()) == (second.digest, {"v7": 0, "v8": 100})

    with estate.shelf("azure-ml-onlineEndpoints").changing() as endpoints:  # as a change leaves it that has failed
        endpoints["flights-late"]["properties"]["provisioningState"] = "Failed"
    with pytest.raises(DeployFailed):
        endpoint.put(broken)
    assert (endpoint.serves(), deployments()) == (second.digest, {"v7": 0, "v8": 100})

    estate.journal.clear()
    endpoint.put(first)  # a rollback: it is there still, and only traffic moves
    assert (endpoint.serves(), deployments()) == (first.digest, {"v7": 100, "v8": 0})
    assert not [line for line in estate.journal.lines() if line.method == "PUT" and "/deployments/" in line.path]


@contextmanager
def daemon_front(docker: Docker, path: Path, refused: str, when: Callable[[], object] = lambda: None) -> Iterator[str]:
    """Stand before the daemon and refuse one thing once, as it does when a port cannot be opened; not until *when*."""
    left = [refused.encode()]

    class Front(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.socket(socket.AF_UNIX) as daemon:
                daemon.connect(docker.address.removeprefix("unix://"))
                while ready := select.select([self.request, daemon], [], [])[0]:
                    said = ready[0].recv(1 << 16)
                    if not said:
                        return
                    if ready[0] is self.request and left and left[0] in said.partition(b"\r\n")[0]:
                        left.clear()
                        when()
                        body = b'{"message":"driver failed programming external connectivity"}'
                        head = b"HTTP/1.1 500 X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
                        self.request.sendall(head % len(body) + body)
                    else:
                        (daemon if ready[0] is self.request else self.request).sendall(said)

    with socketserver.ThreadingUnixStreamServer(str(path), Front) as server:
        server.daemon_threads = True
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"unix://{path}"
        server.shutdown()


def _never(_scorer: Scorer) -> None:
    raise AssertionError("rows of the data do not go to an endpoint")


def answers_again(target: DockerTarget, version: str) -> bool:
    """Tell whether the container that came back has loaded its model."""
    with suppress(OSError):
        return served_version(target) == version
    return False


def _refuse(_scorer: Scorer) -> None:
    raise ImageFailed("the image answers differently from the trained model")


def ends_at_once(layout: LayoutImages, digest: str) -> str:
    """Put an image into the layout whose server ends with status 3; return its digest."""
    found = layout.resolve(digest)
    assert found
    config, _ = parts_of(found[1])
    path = layout.local_blob(config.digest)
    assert path
    broken = json.loads(path.read_bytes())
    broken["config"]["Entrypoint"] = [broken["config"]["Entrypoint"][0], "-c", "raise SystemExit(3)"]
    parts = json.loads(found[1]) | {"config": to_json(_put(layout, CONFIG_TYPE, canonical(broken)))}
    return _put(layout, MANIFEST_TYPE, canonical(parts)).digest


def _put(layout: LayoutImages, kind: str, content: bytes) -> Descriptor:
    descriptor = Descriptor(kind, f"sha256:{sha256(content).hexdigest()}", len(content))
    layout.put_manifest(descriptor, content)
    return descriptor
