"""A process and all that it starts, watched from outside: seconds, CPU and memory."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

_SAMPLE_S = 0.02
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")
_PSS = re.compile(rb"^Pss:\s+(\d+) kB", re.MULTILINE)


@dataclass(frozen=True)
class Taken:
    """What a process took.

    Attributes:
        total_s: From its start to its end.
        cpu_s: User and system time of the tree, of all cores, sampled every 100 ms.
        rss_mb: Highest sum of resident memory over the tree, sampled every 20 ms; a page that two
            processes share counts twice.
        pss_mb: The same with shared pages counted once; 0 unless asked for.
        answer: The JSON object that it printed last.
    """

    total_s: float
    cpu_s: float
    rss_mb: float
    pss_mb: float
    answer: Mapping[str, Any]


def watched(command: Sequence[str], stdin: str, *, env: Mapping[str, str], cwd: Path, pss: bool = False) -> Taken:
    """Run *command* with *stdin* to its end.

    Asking for *pss* slows the process down: the kernel walks its pages at every sample.

    Raises:
        RuntimeError: It failed; the message is the end of what it wrote to standard error.
    """
    started = time.perf_counter()
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, cwd=cwd, env=env, start_new_session=True,
    )  # fmt: skip
    tree = _Tree(process.pid, pss)
    sampler = threading.Thread(target=tree.sample)
    sampler.start()
    try:
        out, err = process.communicate(stdin)
        total_s = time.perf_counter() - started
    finally:
        tree.ended.set()
        sampler.join()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}\n{err[-3000:]}")
    return Taken(total_s, tree.cpu_s, tree.rss_mb, tree.pss_mb, json.loads(out.splitlines()[-1]))


@dataclass
class _Tree:
    """The processes of the session *root* and what they start; *ended* stops the sampling."""

    root: int
    pss: bool
    ended: threading.Event = field(default_factory=threading.Event)
    rss_mb: float = 0
    pss_mb: float = 0
    _members: set[int] = field(default_factory=set)
    _strangers: set[int] = field(default_factory=set)
    _ticks: dict[int, int] = field(default_factory=dict)

    @property
    def cpu_s(self) -> float:
        """CPU seconds so far, as last seen of each process."""
        return sum(self._ticks.values()) / _TICKS

    def sample(self) -> None:
        """Sample until *ended*; looking through all processes is dear, and done at every fifth sample."""
        for number in count():
            if self.ended.wait(_SAMPLE_S):
                return
            if number % 5 == 0:
                self._find_members()
            self.rss_mb = max(self.rss_mb, sum(map(_rss_bytes, self._members)) / 1e6)
            if self.pss:
                self.pss_mb = max(self.pss_mb, sum(map(_pss_bytes, self._members)) / 1e6)

    def _find_members(self) -> None:
        for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):  # noqa: PTH208 - names are wanted, no paths
            if pid in self._strangers:
                continue
            parent, session, ticks = _stat(pid)
            if session == self.root or parent in self._members:
                self._members.add(pid)
                self._ticks[pid] = max(ticks, self._ticks.get(pid, 0))
            else:
                self._strangers.add(pid)


def _stat(pid: int) -> tuple[int, int, int]:
    """Return parent, session and CPU ticks; a process that is gone has none."""
    fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    if not fields:
        return 0, 0, 0
    return int(fields[1]), int(fields[3]), int(fields[11]) + int(fields[12])


def _rss_bytes(pid: int) -> int:
    fields = _read(f"/proc/{pid}/statm").split()
    return int(fields[1]) * _PAGE_BYTES if fields else 0


def _pss_bytes(pid: int) -> int:
    found = _PSS.search(_read(f"/proc/{pid}/smaps_rollup"))
    return int(found[1]) * 1024 if found else 0


def _read(path: str) -> bytes:
    """Return what the kernel says of a process; nothing when it is gone."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""
