"""What a job needs, forecast from the model's settings, the batch's size and earlier runs."""

from __future__ import annotations

import platform
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from threading import Thread
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement

from insitu.batch import Batch
from insitu.errors import InsituError, NotReady
from insitu.ports import Check, Need
from insitu.settings import NeedSettings

HEADROOM = 1.25
"""Forecasts are raised by a quarter: memory peaks vary from run to run."""

BASE_BYTES = 400_000_000
"""What a Python process with the usual libraries takes before it reads a row (measured: 350 to 420 MB)."""

AMOUNTS = ("memory", "disk")
"""Checks that a job itself changes while it runs."""

_HERE_BYTES = 1_000_000_000
"""What images and reports of a small model take."""

LATEST = 5
"""How many earlier runs a forecast looks at: an old outlier must not block for ever."""


def forecast(declared: NeedSettings, batch: Batch, earlier: Sequence[Mapping[str, Any]]) -> Need:
    """Return the larger of what model.toml declares and what the latest run records suggest.

    What an earlier run took beyond the interpreter and its libraries is scaled by the growth of the
    batch in bytes, at least 1.
    """
    peaks = [
        BASE_BYTES + max(0, peak - BASE_BYTES) * max(1.0, batch.size_bytes / record["batch"]["bytes"])
        for record in recent(earlier)
        if (peak := record["training"]["peak_memory_bytes"]) and record["batch"]["bytes"]
    ]
    memory = max([declared.memory_mb * 1_000_000, *(int(peak * HEADROOM) for peak in peaks)])
    return Need(declared.cores, memory, declared.disk_mb * 1_000_000 + batch.size_bytes, (batch.container,))


def recent(earlier: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Return those of the run records, oldest first, that a forecast looks at: the latest that have trained."""
    return [record for record in earlier if record.get("training")][-LATEST:]


def check_requirements(requirements: Iterable[str]) -> list[Check]:
    """Return one check per requirement of the training command, against this environment."""
    return [_check_requirement(text) for text in requirements]


def check_command(command: Sequence[str], folder: Path) -> Check:
    """Return whether the program of the training command is there; `python` always is: this one."""
    program = command[0]
    found = program == "python" or shutil.which(program) or (folder / program).is_file()
    next_action = "mend train.command in model.toml"
    return Check("training command", bool(found), program if found else "no such program", program, next_action)


def check_image_platform() -> Check:
    """Images hold this machine's interpreter and libraries, so it must be what images are made of."""
    libc, _ = platform.libc_ver()
    found = f"{platform.system()} with {libc or 'another C library'}"
    next_action = "run on Linux with glibc, e.g. Debian, Ubuntu or Red Hat"
    return Check("image platform", found == "Linux with glibc", found, "Linux with glibc", next_action)


def check_disk_here(folders: Iterable[Path]) -> Check:
    """Return what is free where this machine keeps images and reports, which it does wherever jobs run."""
    there = [next(place for place in (folder, *folder.parents) if place.exists()) for folder in folders]
    free, place = min((shutil.disk_usage(place).free, place) for place in there)
    found, wanted = f"{free / 1e6:,.0f} MB free at {place}", f"{_HERE_BYTES / 1e6:,.0f} MB for images and reports"
    return Check("disk here", free >= _HERE_BYTES, found, wanted, "free some space on this machine (see `df -h`)")


def failed_check(name: str, error: InsituError, wanted: str = "") -> Check:
    """Return *error* as a finding."""
    found = f"{error.what}: {error.found}" if error.found else error.what
    return Check(name, False, found, wanted or error.wanted or "an answer", error.next_action or "")


def side_by_side(probes: Mapping[str, Callable[[], Sequence[Check]]], limit_s: float) -> list[Check]:
    """Run every probe in a thread of its own, and return the checks in the order of the probes; never raises.

    A probe that raises, or has not ended after *limit_s* seconds, is a failed check of its name; one that hangs
    is left behind and does not keep the process from ending.
    """
    found: dict[str, Sequence[Check]] = {}
    threads = [Thread(target=_probe, args=(found, name, probe), daemon=True) for name, probe in probes.items()]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + limit_s
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    next_action = "see to the network between here and there, then look again"
    late = {name: [Check(name, False, f"nothing within {limit_s:g} s", "an answer", next_action)] for name in probes}
    return [check for name in probes for check in found.get(name, late[name])]


def settled(look: Callable[[], Sequence[Check]], pause_s: float) -> Sequence[Check]:
    """Look, and after a failure look again: what comes and goes is ready after two good looks in a row."""
    checks = look()
    if all(check.ok for check in checks):
        return checks
    for _ in range(2):
        time.sleep(pause_s)
        checks = look()
        if not all(check.ok for check in checks):
            return checks
    return checks


def require_ready(checks: Sequence[Check]) -> None:
    """Raise `NotReady` naming every check that failed."""
    failed = [check for check in checks if not check.ok]
    if failed:
        raise NotReady(
            f"the compute is not ready: {', '.join(check.name for check in failed)}",
            found="; ".join(f"{check.name}: {check.found}" for check in failed),
            wanted="; ".join(f"{check.name}: {check.wanted}" for check in failed),
            next_action="; ".join(dict.fromkeys(check.next_action for check in failed)),
        )


def _probe(found: dict[str, Sequence[Check]], name: str, probe: Callable[[], Sequence[Check]]) -> None:
    try:
        found[name] = list(probe())
    except InsituError as error:
        found[name] = [failed_check(name, error)]
    except Exception as exc:  # noqa: BLE001 - whatever it is, the other findings are wanted, too; its text may quote
        found[name] = [Check(name, False, type(exc).__name__, "an answer", "this is a defect of insitu: report it")]


def _check_requirement(text: str) -> Check:
    next_action = f"install it where the training runs: .venv/bin/uv pip install '{text}'"
    try:
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate():
            return Check(f"requirement {text}", True, "not for this system", text)
        found = version(requirement.name)
    except InvalidRequirement:
        return Check(
            f"requirement {text}",
            False,
            "not a requirement",
            "a name with an optional version",
            "mend train.requirements",
        )
    except PackageNotFoundError:
        return Check(f"requirement {requirement.name}", False, "not installed", text, next_action)
    return Check(
        f"requirement {requirement.name}",
        requirement.specifier.contains(found, prereleases=True),
        found,
        text,
        next_action,
    )
