"""What a job needs, forecast from the model's settings, the batch's size and earlier runs."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement

from insitu.batch import Batch
from insitu.errors import NotReady
from insitu.ports import Check, Need
from insitu.settings import NeedSettings

HEADROOM = 1.25
"""Forecasts are raised by a quarter: memory peaks vary from run to run."""

BASE_BYTES = 400_000_000
"""What a Python process with the usual libraries takes before it reads a row (measured: 350 to 420 MB)."""

LATEST = 5
"""How many earlier runs a forecast looks at: an old outlier must not block for ever."""


def forecast(declared: NeedSettings, batch: Batch, earlier: Sequence[Mapping[str, Any]]) -> Need:
    """Return the larger of what model.toml declares and what the latest run records suggest.

    What an earlier run took beyond the interpreter and its libraries is scaled by the growth of the
    batch in bytes, at least 1.
    """
    peaks = [
        BASE_BYTES + max(0, peak - BASE_BYTES) * max(1.0, batch.size_bytes / record["batch"]["bytes"])
        for record in [record for record in earlier if record.get("training")][-LATEST:]
        if (peak := record["training"]["peak_memory_bytes"]) and record["batch"]["bytes"]
    ]
    memory = max([declared.memory_mb * 1_000_000, *(int(peak * HEADROOM) for peak in peaks)])
    return Need(declared.cores, memory, declared.disk_mb * 1_000_000 + batch.size_bytes)


def check_requirements(requirements: Iterable[str]) -> list[Check]:
    """Return one check per requirement of the training command, against this environment."""
    return [_check_requirement(text) for text in requirements]


def check_command(command: Sequence[str], folder: Path) -> Check:
    """Return whether the program of the training command is there; `python` always is: this one."""
    program = command[0]
    found = program == "python" or shutil.which(program) or (folder / program).is_file()
    next_action = "mend train.command in model.toml"
    return Check("training command", bool(found), program if found else "no such program", program, next_action)


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
