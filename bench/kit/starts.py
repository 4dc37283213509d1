"""A thousand processes that begin the same run in the same moment."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any, NoReturn

from insitu.adapters.local.blobs import FolderBlobs
from insitu.leases import Lease, of_model, take


def starts(root: Path, processes: int = 1000) -> dict[str, Any]:
    """Return how many got the lease of one run, how many others named the winner, and how long it took."""
    root.mkdir()
    begin, told, end = os.pipe(), os.pipe(), os.pipe()
    children = [_fork(root, begin, told, end) for _ in range(processes)]
    for unused in (begin[0], told[1], end[0]):
        os.close(unused)
    time.sleep(2)  # until each of them waits
    started = time.perf_counter()
    os.close(begin[1])
    answers: list[str] = []
    with open(told[0]) as lines:
        while len(answers) < processes:
            answers.append(lines.readline())
        seconds = time.perf_counter() - started
        os.close(end[1])  # the winner has worked until now
    for child in children:
        os.waitpid(child, 0)
    found = [json.loads(answer) for answer in answers]
    (winner,) = {one["pid"] for one in found if one["won"]} or {0}
    return {
        "won": sum(one["won"] for one in found),
        "named": sum(not one["won"] and one["pid"] == winner for one in found),
        "seconds": round(seconds, 2),
    }


def _fork(root: Path, begin: tuple[int, int], told: tuple[int, int], end: tuple[int, int]) -> int:
    pid = os.fork()
    if pid == 0:
        _start(root, begin, told, end)
    return pid


def _start(root: Path, begin: tuple[int, int], told: tuple[int, int], end: tuple[int, int]) -> NoReturn:
    """Be one of them: wait for the moment, take the lease, and keep it until all have answered."""
    for unused in (begin[1], told[0], end[1]):
        os.close(unused)
    os.read(begin[0], 1)
    lease = take(FolderBlobs(root), of_model("flights"), "a run")
    answer = {"won": isinstance(lease, Lease), "pid": os.getpid() if isinstance(lease, Lease) else lease.holder.pid}
    os.write(told[1], json.dumps(answer).encode() + b"\n")
    os.read(end[0], 1)
    os._exit(0)
