"""Measuring ours and a reference side by side: interleaved rounds, medians, a table and a JSON file."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Row:
    """One comparison; *target* is the most that *ours* may be, in *unit*."""

    what: str
    ours: float
    reference: float
    reference_name: str
    unit: str
    target: float

    @classmethod
    def relative(cls, what: str, ours: float, reference: float, reference_name: str, unit: str, most: float) -> Row:
        """Return the comparison whose target is *most* times the reference of the same run."""
        return cls(what, ours, reference, reference_name, unit, most * reference)

    def to_json(self) -> dict[str, Any]:
        """Return the row of the bench file."""
        return {
            "what": self.what,
            "ours": round(self.ours, 4),
            "reference": round(self.reference, 4),
            "reference_name": self.reference_name,
            "unit": self.unit,
            "ratio": round(self.ours / self.reference, 3),
            "target": round(self.target, 4),
            "holds": self.ours <= self.target,
        }


def interleaved(
    contenders: Sequence[Callable[[], Any]], rounds: int = 3, before: Callable[[], Any] = lambda: None
) -> list[float]:
    """Return the median seconds of each contender over *rounds*, run in turns; *before* each is not measured."""
    seconds: list[list[float]] = [[] for _ in contenders]
    for _ in range(rounds):
        for taken, contender in zip(seconds, contenders, strict=True):
            before()
            started = time.perf_counter()
            contender()
            taken.append(time.perf_counter() - started)
    return [statistics.median(taken) for taken in seconds]


def run(*command: str, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> None:
    """Run a command quietly; raise `CalledProcessError` with its output when it fails."""
    subprocess.run(command, cwd=cwd, env=env, check=True, capture_output=True)


def report(name: str, rows: Sequence[Row], packages: Sequence[str], *, keep: bool = True) -> None:
    """Print the table and write `var/bench/NAME.json`, unless it is not to be kept."""
    found = [row.to_json() for row in rows]
    versions = {"python": sys.version.split()[0]} | {package: version(package) for package in packages}
    path = ROOT / "var" / "bench" / f"{name}.json"
    if keep:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"name": name, "versions": versions, "rows": found}, indent=1))
    for row in found:
        verdict = "holds" if row["holds"] else "MISSED"
        print(
            f"{row['what']:<34} {row['ours']:>9.3f} {row['unit']}   {row['ratio']:>7.2f} x {row['reference_name']:<40}"
            f" target {row['target']:g} {row['unit']}: {verdict}"
        )
