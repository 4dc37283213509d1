"""A real registry on a free loopback port."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from loopback import free_port, listens, wait_until


@contextmanager
def docker_registry(folder: Path, more: str = "") -> Iterator[str]:
    """Run a registry whose data lies in *folder*, with *more* lines of configuration; yield `host:port`."""
    program = shutil.which("docker-registry")
    if not program:
        pytest.skip("the Debian package docker-registry is not installed")
    port = free_port()
    folder.mkdir(exist_ok=True)
    (folder / "config.yml").write_text(
        "version: 0.1\nlog: {level: error}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder / 'data'}}}, delete: {{enabled: true}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\n{more}"
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, "serve", str(folder / "config.yml")], stdout=log, stderr=log)
    try:
        wait_until(lambda: listens(port))
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()
