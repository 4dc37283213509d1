"""What keeps a process in: no network, and no more memory than it may have, as far as this machine lets us."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from uuid import uuid4

from insitu.enclosure import without_network

CGROUPS = Path("/sys/fs/cgroup")
_LEAST_BYTES = 1 << 20
_FORGOTTEN_S = 60.0


@dataclass(frozen=True)
class Confined:
    """How a command is run so that it stays in.

    Args:
        prefix: What is put before the command.
        group: Its control group, which counts its memory; None where the process limits itself.
    """

    prefix: tuple[str, ...]
    group: Path | None

    def was_killed(self) -> bool:
        """Tell whether the kernel ended a process of it for want of memory."""
        for name in ("memory.events", "memory.oom_control") if self.group else ():
            with suppress(OSError):
                assert self.group
                found = re.search(r"^oom_kill (\d+)$", (self.group / name).read_text(), re.MULTILINE)
                if found and int(found[1]):
                    return True
        return False


@contextmanager
def confined(memory_bytes: int) -> Iterator[Confined]:
    """Yield how a command is run without a network and with at most *memory_bytes*; it ends within the block."""
    shell, network = shutil.which("sh") or "/bin/sh", without_network()
    if parent := group_parent():
        _sweep(parent)
        group = parent / f"insitu-{uuid4().hex[:12]}"
        group.mkdir()
        try:
            _limit(group, memory_bytes)
            # The shell enters the group before it becomes the command: nothing is counted elsewhere.
            enter = (shell, "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(group))
            yield Confined((*enter, *network), group)
        finally:
            with suppress(OSError):  # something that it started is on its way out: the next one sweeps it up
                group.rmdir()
    else:
        # Of its private memory: what it has mapped of files, and its address space, say little of what it takes.
        yield Confined((shell, "-c", 'ulimit -d "$0" && exec "$@"', str(memory_bytes // 1024), *network), None)


@cache
def group_parent() -> Path | None:
    """Return the control group below which we may make others that limit memory; None where there is none."""
    for parent in _parents(Path("/proc/self/cgroup")):
        probe = parent / f"insitu-{uuid4().hex[:12]}"
        try:
            probe.mkdir()
        except OSError:
            continue
        try:
            _limit(probe, _LEAST_BYTES)
        except OSError:
            continue
        else:
            return parent
        finally:
            with suppress(OSError):
                probe.rmdir()
    return None


def _parents(told: Path) -> Iterator[Path]:
    """Yield where our own groups may be: below ours or, of version 2, beside it, as a group has processes or groups."""
    try:
        lines = [line.split(":", 2) for line in told.read_text().splitlines()]
    except OSError:
        return
    for _, controllers, path in lines:
        if "memory" in controllers.split(","):
            yield CGROUPS / "memory" / path.lstrip("/")
            yield CGROUPS / "memory"
        elif not controllers:
            ours = CGROUPS / path.lstrip("/")
            yield from (ours, ours.parent) if ours != CGROUPS else (ours,)


def _sweep(parent: Path) -> None:
    """Remove groups that processes which were killed have left; one with a process in it cannot be removed."""
    for group in parent.glob("insitu-*"):
        with suppress(OSError):
            if time.time() - group.stat().st_mtime > _FORGOTTEN_S:  # a younger one may be about to be entered
                group.rmdir()


def _limit(group: Path, memory_bytes: int) -> None:
    """Limit the memory of a group, and its swap where it has a limit of its own; raise `OSError`."""
    first = group / "memory.max"
    if first.exists():
        first.write_text(str(memory_bytes))
        with suppress(OSError):
            (group / "memory.swap.max").write_text("0")
    else:
        (group / "memory.limit_in_bytes").write_text(str(memory_bytes))
        with suppress(OSError):
            (group / "memory.memsw.limit_in_bytes").write_text(str(memory_bytes))
