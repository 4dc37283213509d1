"""Images on the base of somebody else."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import pytest
from docker_registry import docker_registry
from image_helpers import Trained, spec_of
from made_bases import (
    DOCKER,
    OCI,
    base_image,
    config_of,
    distribution,
    file,
    index_of,
    tar_of,
    without_glibc,
)

from insitu.adapters.local.images import LayoutImages
from insitu.adapters.local.scoring import ProcessScoringHost
from insitu.building import build_image
from insitu.errors import ImageFailed, PublishFailed
from insitu.images.anonymous import Anonymous
from insitu.images.assemble import Image, assemble_image
from insitu.images.bases import Base, BaseReference, fetch_base, look_for_base, repository_with
from insitu.images.blobs import BlobFolder
from insitu.images.client import RegistryImages
from insitu.images.layers import LAYER_TYPE
from insitu.images.manifest import architecture
from insitu.images.publish import publish_image
from insitu.images.unpack import unpack_image
from insitu.ports import Descriptor
from insitu.settings import load_site
from insitu.wiring import open_site

PROJECT = Path(__file__).parents[2]
HERE = f"linux/{architecture()}"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> LayoutImages:
    return LayoutImages(tmp_path_factory.mktemp("bases"))


def named(source: LayoutImages, digest: str) -> BaseReference:
    return BaseReference.of(f"{source.name}@{digest}")


@pytest.fixture(scope="module")
def base(source: LayoutImages, work: Path) -> Base:
    return fetch_base(named(source, distribution(source).digest), source, work / ".bases")


@pytest.fixture(scope="module")
def on_base(model: Trained, base: Base, layout: LayoutImages, work: Path) -> Image:
    return assemble_image(replace(spec_of(model), base=base), layout.root, work)


def test_the_digest_is_the_same_on_another_path_and_without_the_source(
    model: Trained, base: Base, on_base: Image, source: LayoutImages, work: Path, tmp_path: Path
) -> None:
    nowhere = LayoutImages(tmp_path / "nowhere")
    again = fetch_base(named(nowhere, base.digest), nowhere, work / ".bases")
    elsewhere = fetch_base(named(source, base.digest), source, tmp_path / "kept")
    assert (again.layers, again.labels) == (elsewhere.layers, elsewhere.labels) == (base.layers, base.labels)
    built = assemble_image(replace(spec_of(model), base=elsewhere), tmp_path / "layout", work)
    assert built == on_base


def test_the_base_is_part_of_the_digest_and_keeps_what_does_not_collide(
    image: Image, on_base: Image, base: Base, layout: LayoutImages
) -> None:
    document = config_of(layout, on_base.digest)
    config = document["config"]
    assert on_base.digest != image.digest
    assert [layer.title for layer in on_base.layers] == ["base 1", "base 2", "python", "environment", "server", "model"]
    assert on_base.layers[3:] == image.layers[1:]
    assert {layer.descriptor.media_type for layer in on_base.layers} == {LAYER_TYPE}
    assert config["Labels"] == {
        "io.insitu.model": "flights",
        "org.opencontainers.image.base.digest": base.digest,
        "vendor": "somebody",
    }
    assert not {"Cmd", "Healthcheck", "OnBuild", "Volumes"} & config.keys()
    assert (config["User"], config["WorkingDir"]) == ("10001:10001", "/")
    environment = dict(one.split("=", 1) for one in config["Env"])
    assert (environment["PATH"], environment["LANG"]) == ("/usr/local/bin:/usr/bin:/bin", "C.UTF-8")
    assert not {"LD_PRELOAD", "LD_LIBRARY_PATH", "PYTHONSTARTUP"} & environment.keys()
    steps = [one for one in document["history"] if not one.get("empty_layer")]
    assert len(steps) == len(document["rootfs"]["diff_ids"]) == len(on_base.layers)
    assert steps[0] == {"created": "2026-01-02T03:04:05Z", "created_by": "base: insitu: 0"}


def test_a_site_builds_on_the_base_that_it_names(
    model: Trained, on_base: Image, base: Base, source: LayoutImages, layout: LayoutImages, work: Path
) -> None:
    images = {"ROOT": str(work), "BASE": f"{source.name}@{base.digest}"}
    site = load_site(PROJECT, "local", {f"INSITU_SITE__IMAGES__{key}": value for key, value in images.items()})
    (work / ".cache").symlink_to(work)
    assert build_image(open_site(PROJECT, site), layout.root.name, spec_of(model)) == on_base


def test_a_registry_gives_the_base_and_takes_the_image(
    on_base: Image, base: Base, source: LayoutImages, layout: LayoutImages, registry_host: str, tmp_path: Path
) -> None:
    described = json.loads(base.documents[base.digest])["manifests"][1]
    there = RegistryImages(registry_host, "bases/debian")
    publish_image(described["digest"], source, there, ["12"])
    reference = BaseReference.of(f"{there.name}:12@{described['digest']}")
    fetched = fetch_base(reference, there, tmp_path / "kept")
    assert fetched.layers == base.layers
    assert fetched.labels == {
        "org.opencontainers.image.base.digest": described["digest"],
        "org.opencontainers.image.base.name": f"{there.name}:12",
    }
    beside = partial(repository_with, f"{there.name}@{described['digest']}", registry_host, tmp_path / "kept")
    published = publish_image(on_base.digest, layout, RegistryImages(registry_host, "on-base", beside=beside), ["7"])
    assert not {one.sha256 for one in published.sent} & {layer.descriptor.digest[7:] for layer in base.layers}
    if shutil.which("skopeo"):
        command = ["skopeo", "inspect", "--tls-verify=false", f"docker://{published.reference}"]
        inspected = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        assert inspected["Layers"] == [layer.descriptor.digest for layer in on_base.layers]
    with pytest.raises(ImageFailed, match=f'base = "{there.name}:12@{described["digest"]}"'):
        look_for_base(BaseReference.of(f"{there.name}:12"), there, tmp_path / "none")


class Tokens(BaseHTTPRequestHandler):
    """Gives everybody a token, and remembers for what."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        content = b'{"token": "anybody"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


def test_a_registry_that_wants_a_token_of_everybody_is_read(source: LayoutImages, tmp_path: Path) -> None:
    tokens = ThreadingHTTPServer(("127.0.0.1", 0), Tokens)
    Thread(target=tokens.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    auth = f"auth: {{silly: {{realm: 'http://127.0.0.1:{tokens.server_port}/token', service: registry}}}}\n"
    with docker_registry(tmp_path / "registry", auth) as host:
        descriptor = without_glibc(source)
        place = RegistryImages(host, "library/alpine", login=Anonymous(host))
        publish_image(descriptor.digest, source, place, ["3"])
        again = RegistryImages(host, "library/alpine", login=Anonymous(host))
        Tokens.asked.clear()
        fetch_base(BaseReference.of(f"{again.name}@{descriptor.digest}"), again, tmp_path / "kept")
    tokens.shutdown()
    tokens.server_close()
    assert Tokens.asked == ["/token?service=registry&scope=repository%3Alibrary%2Falpine%3Apull"]


def test_it_serves_as_a_process_with_nothing_of_the_base(
    on_base: Image, layout: LayoutImages, model: Trained, work: Path
) -> None:
    body = {"input_data": {"columns": model.columns, "data": model.rows}}
    with ProcessScoringHost(work / "run").run(layout, on_base.digest) as scorer:
        status, answer = scorer.request("POST", "/score", json.dumps(body).encode())
    assert status == 200
    for got, wanted in zip(json.loads(answer)["predictions"], model.expected, strict=True):
        assert got == pytest.approx(wanted, abs=1e-5)
    root = unpack_image(layout, on_base.digest, work / "run")
    assert (root / "lib64").is_symlink()
    assert (root / "etc/passwd").read_bytes() == b"root:x:0:0::/:/bin/sh\n"
    assert not [name for name in ("gone", "dev/null", "opt/python/old") if (root / name).exists()]
    assert (root / "opt/python/lib/libc.so.6").read_bytes() != b"of the base"


def test_what_no_image_can_stand_on_is_refused_by_name(source: LayoutImages, tmp_path: Path) -> None:
    some = tar_of([file("etc/issue")])
    zstd = OCI | {"layer": f"{LAYER_TYPE.removesuffix('gzip')}zstd"}
    foreign = DOCKER | {"layer": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"}
    chart = OCI | {"config": "application/vnd.cncf.helm.config.v1+json"}
    other = base_image(source, [some], architecture="s390x")
    cases = {
        "compressed with zstd": base_image(source, [some], zstd),
        "layer of it is foreign": base_image(source, [some], foreign),
        "no image that can run": base_image(source, [some], chart),
        f"another processor(.|\n)*linux/s390x(.|\n)*{HERE}": other,
        "nothing for this machine's processor(.|\n)*linux/arm/v7, linux/s390x": index_of(
            source, {"linux/s390x": other, "linux/arm/v7": other, "unknown/unknown": other}
        ),
        "tell of other layers": base_image(source, [some], rootfs={"diff_ids": []}),
        "not as OCI has it": base_image(source, [some], config={"Env": [1]}),
        "not as OCI has them": base_image(source, [some], config=[1]),
        "not the manifest": without_layers(source),
    }
    for why, descriptor in cases.items():
        with pytest.raises(ImageFailed, match=why):
            fetch_base(named(source, descriptor.digest), source, tmp_path)
    with pytest.raises(ImageFailed, match="does not have the base"):
        fetch_base(named(source, f"sha256:{'0' * 64}"), source, tmp_path)
    assert not list(tmp_path.rglob("*")), "nothing of a base that is refused is kept"


def without_layers(source: LayoutImages) -> Descriptor:
    return BlobFolder(source.root).add(b'{"schemaVersion":1,"fsLayers":[]}', "application/vnd.docker.v1")


def test_other_bytes_than_the_digest_names_are_refused_and_not_kept(source: LayoutImages, tmp_path: Path) -> None:
    copy = LayoutImages(tmp_path / "copy")
    descriptor = without_glibc(copy)
    base = look_for_base(named(copy, descriptor.digest), copy, tmp_path / "kept")
    path = copy.local_blob(base.layers[0].descriptor.digest)
    assert path
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(PublishFailed, match="is not what was read"):
        fetch_base(named(copy, descriptor.digest), copy, tmp_path / "kept")
    assert not [path for path in (tmp_path / "kept").rglob("*") if path.is_file()]
