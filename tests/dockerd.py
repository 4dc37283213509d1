"""A real Docker daemon with its own data, socket and process id file, and no network but the host's."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

import pytest
from loopback import wait_until


@dataclass(frozen=True)
class Docker:
    """A daemon of our own."""

    address: str

    def __call__(self, *arguments: str) -> str:
        """Run one docker command and return what it prints."""
        command = ["docker", "-H", self.address, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@contextmanager
def docker_daemon(folder: Path, *options: str) -> Iterator[Docker]:
    """Run a daemon whose data lies in *folder*, with more *options*; skip the test where none can run."""
    if os.geteuid() != 0:
        pytest.skip("only root can start a Docker daemon")
    if not shutil.which("dockerd") or not shutil.which("skopeo"):
        pytest.skip("the Debian packages docker.io and skopeo are not installed")
    short = Path(mkdtemp(prefix="insitu-docker-"))  # a socket's path has 107 bytes at most
    process = _started(folder, short / "sock", options)
    try:
        yield Docker(f"unix://{short}/sock")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
        for mount in (folder / "exec/netns/default", folder / "data"):  # the daemon leaves them
            subprocess.run(["umount", str(mount)], capture_output=True, check=False)
        shutil.rmtree(short, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)


def _started(folder: Path, socket_path: Path, options: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start a daemon: with layers that share their files or, where the kernel lacks that, with copies."""
    for driver in ("overlay2", "vfs"):
        command = [
            *("dockerd", "--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec"),
            *("--pidfile", f"{folder}/pid", "--host", f"unix://{socket_path}", "--storage-driver", driver),
            *("--iptables=false", "--ip6tables=false", "--bridge=none"),
            *options,
        ]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        wait_until(lambda: process.poll() is not None or b"API listen on" in (folder / "log").read_bytes())  # noqa: B023
        if process.poll() is None:
            return process
    last = (folder / "log").read_text(errors="replace").strip().rpartition("\n")[2]
    pytest.skip(f"a Docker daemon cannot start on this machine: {last[-300:]}")
