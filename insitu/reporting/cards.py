"""What people read about a run: tables of validation, drift, gate and slices; aggregates only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from insitu.gate import gain
from insitu.lineage import counted, significant
from insitu.reports import blobs_of
from insitu.settings import GateSettings
from insitu.slices import gain_in


class Measured(Protocol):
    """What a table of metrics is made of: what a training or the record of one has."""

    @property
    def metrics(self) -> Mapping[str, Mapping[str, float]]:
        """Per role (`challenger`, `champion`) and metric."""
        ...

    @property
    def difference(self) -> Mapping[str, Any] | None:
        """Primary metric, challenger minus champion."""
        ...

    @property
    def slices(self) -> Sequence[Mapping[str, Any]]:
        """The primary metric in slices of the holdout."""
        ...


def validation_table(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one row per expectation, the failed ones first."""
    return [
        {
            "result": "holds" if outcome["success"] else f"FAILS: {outcome['reason']}",
            "expectation": outcome["expectation"],
            "columns": ", ".join(outcome["columns"]),
            "unexpected": _count(outcome["unexpected_count"]),
            "rows": _count(outcome["rows"]),
            "blobs": blobs_of(outcome),
        }
        for outcome in sorted(report["outcomes"], key=lambda outcome: bool(outcome["success"]))
    ]


def validation_summary(report: Mapping[str, Any]) -> str:
    """Return how many expectations hold on how many rows."""
    held = report["expectations"] - report["failed"]
    return f"{held} of {report['expectations']} expectations hold on {counted(report['rows'], 'row')}"


def drift_table(drift: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one row per column, the one that moved most first."""
    columns = sorted(drift["columns"].items(), key=lambda item: -(item[1]["psi"] or 0))
    return [{"column": name, **{figure: _number(value) for figure, value in found.items()}} for name, found in columns]


def gate_table(trained: Measured, gate: GateSettings) -> list[dict[str, Any]]:
    """Return one row per metric: challenger, champion, floor or ceiling, and the primary's gain."""
    return [_gate_row(name, trained, gate) for name in gate.metrics]


def _gate_row(name: str, trained: Measured, gate: GateSettings) -> dict[str, Any]:
    metric = gate.metrics[name]
    row = {
        "metric": f"{name}{f' in {metric.unit}' if metric.unit else ''} ({metric.direction} is better)",
        "challenger": _number(trained.metrics["challenger"][name]),
        "champion": _number(trained.metrics.get("champion", {}).get(name)),
        "floor or ceiling": _number(metric.floor),
        "gain": "",
    }
    if name == gate.primary and trained.difference:
        estimate, low, high = gain(trained.difference, metric.direction == "higher")
        row["gain"] = f"{estimate:+.4g} ({low:+.4g} to {high:+.4g})"
    return row


def slices_table(trained: Measured, gate: GateSettings) -> list[dict[str, Any]]:
    """Return one row per slice of the holdout that is large enough to be told of: rows, metric, gain."""
    return [
        {
            "slice": f"{entry['column']}={entry['slice']}",
            "rows": _count(entry["rows"]),
            gate.primary: _number(entry["challenger"]),
            "gain": "{:+.4g} to {:+.4g}".format(*gain_in(entry, gate)) if entry["difference"] else "",
        }
        for entry in trained.slices
    ]


def markdown_table(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return *rows* as a Markdown table."""
    rows = list(rows)
    columns = list(rows[0])
    cells = ([str(row[c]).replace("|", "\\|") for c in columns] for row in rows)
    lines = [columns, ["---"] * len(columns), *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{significant(float(value)):g}"
