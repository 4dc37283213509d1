"""Run an image without a container engine: its own loader, interpreter and libraries, as a process.

The server listens on a unix socket, so it needs no port, and where the kernel allows it no network.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from insitu.adapters.local.confinement import Confined, confined, group_parent
from insitu.enclosure import without_network
from insitu.errors import ImageFailed, OutOfMemory
from insitu.images.manifest import parts_of
from insitu.images.unpack import unpack_image
from insitu.ports import SCORING_MEMORY_BYTES, ImageRegistry, Isolation, Scorer

_POLL_S = 0.02
_STOP_S = 15
_NO_MEMORY = ("MemoryError", "bad_alloc")
# The server's own line, which holds any class and nothing else, or the last line of a traceback.
_CLASS = re.compile(
    r"^(?:the model cannot be loaded: |(?=[\w.]*(?:Error|Exception|Warning|Exit)(?::|$)))((?:\w+\.)*[A-Z]\w*)(?=:|$)",
    re.MULTILINE,
)
_ROOTED = ("PYTHONHOME", "PYTHONPATH", "PATH", "INSITU_MODEL")


@dataclass(frozen=True)
class ProcessScoringHost:
    """`ScoringHost` for images that insitu assembled, on a machine of the same kind.

    Args:
        work: Folder for unpacked images; may be removed at any time when nothing runs.
        ready_timeout_s: How long a server may take to load its model.
    """

    work: Path
    ready_timeout_s: float = 120.0

    @property
    def isolation(self) -> Isolation:
        """A process: without a network, and in a control group of its own, where this machine allows that."""
        network: Literal["none", "shared"] = "none" if without_network() else "shared"
        return Isolation("process", network, "cgroup" if group_parent() else "rlimit")

    @contextmanager
    def run(self, images: ImageRegistry, digest: str, memory_bytes: int = SCORING_MEMORY_BYTES) -> Iterator[Scorer]:
        """Start the image and wait until it is ready; see `ScoringHost`."""
        root = unpack_image(images, digest, self.work)
        config = _config(images, digest)
        # The socket's path may have 107 bytes at most, wherever the project is.
        with tempfile.TemporaryDirectory(prefix="insitu-", dir="/tmp") as scratch, confined(memory_bytes) as kept:
            path, errors = Path(scratch, "s"), Path(scratch, "err")
            command = [*kept.prefix, *_command(root, config), "--uds", str(path), "--end-with", str(os.getpid())]
            with errors.open("wb+") as printed:
                process = subprocess.Popen(
                    command,
                    env=_environment(root, config) | {"HOME": scratch, "TMPDIR": scratch},
                    cwd=scratch,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=printed,
                    start_new_session=True,
                )
            try:
                scorer = SocketScorer(path, process.pid)
                self._wait(process, scorer, errors)
                yield scorer
            except ImageFailed:
                _look_for_want(kept, errors, memory_bytes)
                raise
            finally:
                _stop(process)

    def _wait(self, process: subprocess.Popen[bytes], scorer: SocketScorer, errors: Path) -> None:
        deadline = time.monotonic() + self.ready_timeout_s
        while not _ready(scorer):
            if (status := process.poll()) is not None:
                reason = _class_in(errors) or f"exit status {status}"
                raise ImageFailed("the image's server ended before it was ready", found=reason)
            if time.monotonic() > deadline:
                raise ImageFailed(
                    "the image's server did not become ready",
                    found=_class_in(errors),
                    wanted=f"an answer at /ready within {self.ready_timeout_s:.0f} s",
                )
            time.sleep(_POLL_S)


def _look_for_want(kept: Confined, errors: Path, memory_bytes: int) -> None:
    """Raise `OutOfMemory` where that is what ended the server, or kept it from its model."""
    if kept.was_killed() or (kept.group is None and _class_in(errors) in _NO_MEMORY):
        raise out_of_memory(memory_bytes) from None


def out_of_memory(memory_bytes: int) -> OutOfMemory:
    """Return what says that a server took more than *memory_bytes*."""
    return OutOfMemory(
        "the image's server takes more memory than it may, and was ended",
        found=f"more than {memory_bytes / 1e6:,.0f} MB",
        wanted=f"at most {memory_bytes / 1e6:,.0f} MB",
        next_action="make the model smaller, or raise limits.max_memory_mb in model.toml",
    )


def _ready(scorer: SocketScorer) -> bool:
    try:
        return scorer.request("GET", "/ready")[0] == 200
    except ImageFailed:  # nobody listens yet
        return False


def _class_in(errors: Path) -> str | None:
    return class_in(errors.read_text(errors="replace"))


def class_in(printed: str) -> str | None:
    """Return the last exception class that a server wrote; its text may hold values and stays where it is."""
    found = _CLASS.findall(printed[-20_000:])
    return found[-1] if found else None


def _config(images: ImageRegistry, digest: str) -> dict[str, Any]:
    found = images.resolve(digest)
    if found is None:
        raise ImageFailed(f"{images.name} has no image {digest}")
    with tempfile.TemporaryDirectory(prefix="insitu-") as scratch:
        path = Path(scratch) / "config"
        images.fetch_blob(parts_of(found[1])[0], path)
        return dict(json.loads(path.read_bytes())["config"])


def _environment(root: Path, config: dict[str, Any]) -> dict[str, str]:
    """Return the image's environment, and nothing of this process's, with its paths under *root*."""
    values = dict(str(one).split("=", 1) for one in config["Env"])
    return {
        name: _rooted(root, value) if name in _ROOTED else value
        for name, value in values.items()
        if name != "LD_LIBRARY_PATH"  # given to the loader, lest this system's programs see it
    }


def _rooted(root: Path, paths: str) -> str:
    return ":".join(f"{root}{path}" for path in paths.split(":"))


def _command(root: Path, config: dict[str, Any]) -> list[str]:
    """Return the entry point, run by the image's loader with the image's libraries only."""
    values = dict(str(one).split("=", 1) for one in config["Env"])
    if "LD_LIBRARY_PATH" not in values:  # on the base of somebody else the entry point names our own loader
        return [_rooted(root, one) if one.startswith("/") else str(one) for one in config["Entrypoint"]]
    interpreter, *arguments = config["Entrypoint"]
    loaders = sorted(root.glob("lib*/ld-linux-*.so.*"))
    if not loaders:
        raise ImageFailed("the image has no loader", next_action="only images that insitu assembled run as a process")
    program = f"{root}{interpreter}"
    return [
        str(loaders[0]),
        *("--inhibit-cache", "--inhibit-rpath", program),
        *("--library-path", _rooted(root, values["LD_LIBRARY_PATH"])),
        *(program, *arguments),
    ]


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the server and whatever it started; return when it is gone."""
    _signal(process, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_S)
    _signal(process, signal.SIGKILL)
    process.wait()


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


@dataclass(frozen=True)
class SocketScorer:
    """`Scorer` over a unix socket."""

    path: Path
    pid: int
    timeout_s: float = 60.0

    def peak_memory_bytes(self) -> int | None:
        """Return the most memory that the server had resident, as Linux counts it (proc(5)); None elsewhere."""
        try:
            found = re.search(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{self.pid}/status").read_text(), re.MULTILINE)
        except OSError:
            return None
        return int(found[1]) * 1024 if found else None

    def request(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Return status and body of one HTTP request; raise `ImageFailed` when nobody answers."""
        connection = UnixConnection(self.path, self.timeout_s)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as exc:
            raise ImageFailed("the image's server does not answer", found=type(exc).__name__) from exc
        finally:
            connection.close()


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
