"""A swarm of watchers, some of which are killed: `python swarm.py '{"root": ..., "watchers": 12, ...}'`.

It forks its watchers, so that a killed one is replaced in milliseconds, lets batches arrive meanwhile, and prints
what became of them as JSON. The watchers read INSITU_CRASH_AT as every process of insitu does.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from trigger_helpers import NoClaims, Place, Recorder, arrive

from insitu.errors import BackendUnavailable
from insitu.triggers.claims import ClaimLost


@dataclass
class Swarm:
    """The parent: what it wants, and whom it has started."""

    root: Path
    batches: int
    watchers: int = 12
    kills: int = 0
    crash_at: str = ""
    claims: bool = True
    coalesce: bool = False
    seed: int = 1
    limit_s: float = 240.0
    living: dict[int, str] = field(default_factory=dict)
    ends: dict[str, int] = field(default_factory=lambda: {"killed": 0, "crashed": 0, "failed": 0})

    def run(self) -> dict[str, Any]:
        """Return what the record and the ledger say in the end."""
        random.seed(self.seed)
        started, arrived = time.monotonic(), 0
        while not self._is_over(arrived):
            assert time.monotonic() - started < self.limit_s, f"the swarm is not done: {self._told()}"
            if arrived < self.batches:
                arrive(self.root, arrived)
                arrived += 1
            self._reap()
            while len(self.living) < self.watchers:
                self._fork()
            time.sleep(random.uniform(0, 0.04))
            if self.kills > self.ends["killed"] and self.living:
                self._kill(random.choice(list(self.living)), "killed")
        self._reap()
        for pid in list(self.living):
            self._kill(pid, "")
        return self._told() | {"seconds": round(time.monotonic() - started, 1)}

    @property
    def place(self) -> Place:
        return Place.in_folder(self.root, coalesce=self.coalesce, lease_s=1.0)

    @property
    def recorder(self) -> Recorder:
        return Recorder(self.root / "record")

    def _is_over(self, arrived: int) -> bool:
        if arrived < self.batches or self.kills > self.ends["killed"]:
            return False
        queue = self.place.book.queues.read()[0]
        return not queue.entries and len(self.recorder.counts()) >= self.batches

    def _told(self) -> dict[str, Any]:
        counts = self.recorder.counts()
        return {"batches": len(counts), "lines": counts.total(), "quarantined": self._quarantined(), **self.ends}

    def _quarantined(self) -> int:
        return len(self.place.book.queues.read()[0].quarantine)

    def _fork(self) -> None:
        # The first ones have the crash point; those that take their places finish what they leave.
        started = self.ends["crashed"] + list(self.living.values()).count("doomed")
        doomed = bool(self.crash_at) and started < self.watchers
        pid = os.fork()
        if pid == 0:
            self._watch(doomed)
        self.living[pid] = "doomed" if doomed else "sound"

    def _watch(self, doomed: bool) -> NoReturn:
        """Be a watcher: this process never returns to the parent's work."""
        try:
            if doomed:
                os.environ["INSITU_CRASH_AT"] = self.crash_at
            self._go_round()
        finally:
            traceback.print_exc()
            os._exit(1)

    def _go_round(self) -> NoReturn:
        random.seed()
        owner = f"watcher-{os.getpid()}"
        place = self.place
        watcher = place.watcher(self.recorder, owner, None if self.claims else NoClaims(place.state, owner))
        while True:
            with suppress(BackendUnavailable, ClaimLost):
                watcher.look()
                while watcher.advance() or watcher.busy:
                    pass
            time.sleep(random.uniform(0.01, 0.1))

    def _kill(self, pid: int, counted: str) -> None:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        del self.living[pid]
        if counted:
            self.ends[counted] += 1

    def _reap(self) -> None:
        for pid in list(self.living):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                del self.living[pid]
                self.ends["crashed" if os.WIFSIGNALED(status) else "failed"] += 1


if __name__ == "__main__":
    told = json.loads(sys.argv[1])
    print(json.dumps(Swarm(**{**told, "root": Path(told["root"])}).run()))
