"""This machine as the training compute."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from insitu.ports import Check, Need
from insitu.readiness import check_image_platform


@dataclass(frozen=True)
class LocalCompute:
    """`Compute` of this machine; *work* lies on the disk that jobs fill.

    Attributes:
        reserve_memory_bytes: Left to everything else on this machine.
        reserve_disk_bytes: Left free on the disk.
    """

    work: Path
    reserve_memory_bytes: int
    reserve_disk_bytes: int

    def wake(self) -> None:
        """Nothing: this machine runs."""

    def readiness(self, need: Need) -> Sequence[Check]:
        """Compare cores, available memory and free disk with *need*."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.work.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.work).free
        return [
            Check(
                "cores", cores >= need.cores, str(cores), str(need.cores), "use a larger machine, or lower needs.cores"
            ),
            check_image_platform(),
            _amount("memory", _available_memory_bytes(), need.memory_bytes + self.reserve_memory_bytes),
            _amount("disk", free, need.disk_bytes + self.reserve_disk_bytes, f" free at {self.work}"),
        ]


def _amount(name: str, found_bytes: int, wanted_bytes: int, where: str = "") -> Check:
    next_action = f"free {name} on this machine, or lower needs.{name}_mb in model.toml if the job needs less"
    return Check(name, found_bytes >= wanted_bytes, _mb(found_bytes) + where, _mb(wanted_bytes), next_action)


def _mb(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.0f} MB"


def _available_memory_bytes() -> int:
    """Return memory that a job can take: the machine's, or less where a control group caps it."""
    try:
        with open("/proc/meminfo") as file:
            fields = dict(line.split(":", 1) for line in file)
        available = int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):
        available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        counted = dict(line.split() for line in Path("/sys/fs/cgroup/memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no control group, or "max"
        return available
    # Cached files count as used and are given back at need.
    return min(available, limit - used + int(counted.get("inactive_file", 0)))
