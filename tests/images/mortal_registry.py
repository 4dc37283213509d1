"""A registry that is killed while a blob goes to it, and started again."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from loopback import free_port, listens, wait_until


@dataclass
class Mortal:
    """A registry as a process that can be killed; its folder stays."""

    command: list[str]
    port: int
    kills: int = 0
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def host(self) -> str:
        """`host:port`."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Return when it listens."""
        self._process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(lambda: listens(self.port))

    def kill(self) -> None:
        """Kill it, without any warning, and start it again."""
        assert self._process
        self._process.kill()
        self._process.wait()
        self.kills += 1
        self.start()

    @contextmanager
    def running(self) -> Iterator[Mortal]:
        """Run it for a while."""
        self.start()
        try:
            yield self
        finally:
            assert self._process
            self._process.kill()
            self._process.wait()


@dataclass
class Count:
    """What was sent, by what `on_bytes` is told; acts when a point is passed."""

    points: list[int]
    registry: Mortal
    sent_bytes: int = 0
    at: int = 0

    def __call__(self, there: int) -> None:
        self.sent_bytes += there - self.at if there > self.at else 0
        self.at = there
        if self.points and there >= self.points[0]:
            self.points.pop(0)
            self.registry.kill()


def keeping(folder: Path) -> Mortal:
    """Return a registry that keeps in *folder* every byte that arrived; see `keeping_registry`."""
    port, program = free_port(), Path(__file__).with_name("keeping_registry.py")
    return Mortal([sys.executable, "-S", str(program), str(folder), str(port)], port)
