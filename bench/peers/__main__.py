"""`python -m bench.peers NAME`: run one contender on the task that standard input holds."""

from __future__ import annotations

import json
import sys
import time
from contextlib import redirect_stdout
from importlib import import_module

from bench.kit.task import Task


def main(name: str) -> None:
    """Print `{work_s, failed}`; what the contender itself prints goes to standard error."""
    task = Task.from_json(json.load(sys.stdin))
    with redirect_stdout(sys.stderr):
        peer = import_module(f"bench.peers.{name}")
        if hasattr(peer, "prepare"):
            peer.prepare(task)
        started = time.perf_counter()
        failed = peer.check(task)
        work_s = time.perf_counter() - started
    print(json.dumps({"work_s": work_s, "failed": failed}))


if __name__ == "__main__":
    main(sys.argv[1])
