"""Base images made by hand, as registries have them: of a distribution, and of one whose C library is another."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import tarfile
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from insitu.adapters.local.images import LayoutImages
from insitu.images.blobs import BlobFolder
from insitu.images.layers import LAYER_TYPE
from insitu.images.libraries import libraries_of
from insitu.images.manifest import CONFIG_TYPE, MANIFEST_TYPE, architecture, canonical, to_json
from insitu.ports import Descriptor

INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER = {
    "layer": "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "config": "application/vnd.docker.container.image.v1+json",
    "manifest": "application/vnd.docker.distribution.manifest.v2+json",
}
OCI = {"layer": LAYER_TYPE, "config": CONFIG_TYPE, "manifest": MANIFEST_TYPE}
CONFIG = {
    "Cmd": ["bash"],
    "Entrypoint": ["/docker-entrypoint.sh"],
    "Env": ["PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8", "PYTHONSTARTUP=/x", "LD_PRELOAD=/lib/evil.so"],
    "Healthcheck": {"Test": ["CMD", "false"]},
    "Labels": {"vendor": "somebody", "io.insitu.decision": "forged", "org.opencontainers.image.base.name": "theirs"},
    "OnBuild": ["RUN false"],
    "User": "root",
    "Volumes": {"/data": {}},
    "WorkingDir": "/data",
}


def tar_of(members: Sequence[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return packed.getvalue()


def file(name: str, content: bytes = b"", mode: int = 0o644) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.mode = mode
    return info, content


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, target, 0o755
    return info, b""


def base_image(layout: LayoutImages, tars: Sequence[bytes], types: dict[str, str] = OCI, **changes: Any) -> Descriptor:
    """Return the manifest of an image of these layers; *changes* are of its configuration document."""
    blobs = BlobFolder(layout.root)
    history = [{"created": "2026-01-02T03:04:05Z", "created_by": f"insitu: {number}"} for number in range(len(tars))]
    document = {
        "architecture": architecture(),
        "os": "linux",
        "config": CONFIG,
        "history": [*history, {"created_by": "CMD", "empty_layer": True}],
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{sha256(tar).hexdigest()}" for tar in tars]},
        **changes,
    }
    layers = [blobs.add(gzip.compress(tar, mtime=0), types["layer"]) for tar in tars]
    config = blobs.add(canonical(document), types["config"])
    manifest = {"schemaVersion": 2, "mediaType": types["manifest"], "config": to_json(config)}
    return blobs.add(canonical(manifest | {"layers": [to_json(one) for one in layers]}), types["manifest"])


def index_of(layout: LayoutImages, images: dict[str, Descriptor]) -> Descriptor:
    """Return an index of images by platform, as `linux/arm64/v8`."""
    entries = []
    for platform, image in images.items():
        names = dict(zip(("os", "architecture", "variant"), platform.split("/"), strict=False))
        entries.append(to_json(image) | {"platform": names})
    content = canonical({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries})
    return BlobFolder(layout.root).add(content, INDEX)


def distribution(layout: LayoutImages) -> Descriptor:
    """Return an index whose image for this machine has a shell and its libraries, below links as Debian has them."""
    shell = Path(shutil.which("sh") or "/bin/sh").resolve()
    needed = libraries_of([shell])
    first = [link(name, f"usr/{name}") for name in ("bin", "lib", "lib64")]
    loader = Path(needed.loader)
    first.append(file(f"usr{loader.parent}/{loader.name}", loader.resolve().read_bytes(), 0o755))
    first += [file(f"usr/lib/{name}", path.resolve().read_bytes()) for name, path in needed.files.items()]
    first.append(file("usr/bin/sh", shell.read_bytes(), 0o4755))
    first += [link("usr/bin/ash", "usr/bin/sh", tarfile.LNKTYPE), link("etc/mtab", "/proc/mounts")]
    first += [file("etc/passwd", b"root:x:0:0::/:/bin/sh\n"), link("dev/null", "", tarfile.CHRTYPE)]
    first += [file("opt/python/lib/libc.so.6", b"of the base"), file("opt/python/old"), file("gone")]
    second = [file(".wh.gone"), file("etc/os-release", b"ID=madeup\n")]
    image = base_image(layout, [tar_of(first), tar_of(second)], DOCKER)
    other = base_image(layout, [], architecture="riscv64")
    return index_of(layout, {"linux/riscv64": other, f"linux/{architecture()}": image, "unknown/unknown": other})


def without_glibc(layout: LayoutImages) -> Descriptor:
    """Return an image with no loader that we could use, and with nothing else to stand on."""
    return base_image(layout, [tar_of([file("lib/ld-musl.so.1", b"musl"), file("etc/alpine-release", b"3.99\n")])])


def config_of(layout: LayoutImages, digest: str) -> dict[str, Any]:
    found = json.loads(BlobFolder(layout.root).path(digest).read_bytes())
    return dict(json.loads(BlobFolder(layout.root).path(found["config"]["digest"]).read_bytes()))
