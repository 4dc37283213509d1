"""What a job needs, forecast from the model's settings, the batch's size and earlier runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement

from insitu.batch import Batch
from insitu.errors import NotReady
from insitu.ports import Check, Need
from insitu.settings import NeedSettings

HEADROOM = 1.25
"""Forecasts are raised by a quarter: memory peaks vary from run to run."""


def forecast(declared: NeedSettings, batch: Batch, earlier: Iterable[Mapping[str, Any]]) -> Need:
    """Return the larger of what model.toml declares and what *earlier* run records suggest.

    The peak memory of each earlier run is scaled by the growth of the batch in bytes, at least 1.
    """
    peaks = [
        record["training"]["peak_memory_bytes"] * max(1.0, batch.size_bytes / record["batch"]["bytes"])
        for record in earlier
        if record.get("training") and record["batch"]["bytes"]
    ]
    memory = max([declared.memory_mb * 1_000_000, *(int(peak * HEADROOM) for peak in peaks)])
    return Need(declared.cores, memory, declared.disk_mb * 1_000_000 + batch.size_bytes)


def check_requirements(requirements: Iterable[str]) -> list[Check]:
    """Return one check per requirement of the training command, against this environment."""
    return [_check_requirement(text) for text in requirements]


def require_ready(checks: Sequence[Check]) -> None:
    """Raise `NotReady` naming every check that failed."""
    failed = [check for check in checks if not check.ok]
    if failed:
        raise NotReady(
            f"the compute is not ready: {', '.join(check.name for check in failed)}",
            found="; ".join(f"{check.name}: {check.found}" for check in failed),
            wanted="; ".join(f"{check.name}: {check.wanted}" for check in failed),
            todo="; ".join(dict.fromkeys(check.todo for check in failed)),
        )


def _check_requirement(text: str) -> Check:
    todo = f"install it where the training runs: .venv/bin/uv pip install '{text}'"
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
        return Check(f"requirement {requirement.name}", False, "not installed", text, todo)
    return Check(
        f"requirement {requirement.name}", requirement.specifier.contains(found, prereleases=True), found, text, todo
    )
