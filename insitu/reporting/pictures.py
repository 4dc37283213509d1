"""Pictures of what the gate saw: aggregates over ten rows or more, in colours and marks that all can tell apart."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from insitu.gate import gain, limit_of
from insitu.journal import Journal
from insitu.lineage import metric_history
from insitu.ports import BlobStore
from insitu.reporting.drawing import BAD, FAINT, GOOD, MARKS, OPEN, Picture, finished, new_figure, plain
from insitu.settings import GateSettings
from insitu.slices import gain_in
from insitu.training import INPUTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_STYLES: Mapping[str, Mapping[str, Any]] = {
    "challenger": {"color": "#0072b2", "linestyle": "-", "marker": "o"},
    "champion": {"color": "#d55e00", "linestyle": "--", "marker": "s"},
}
"""Two colours, and two marks for print."""

_MOST_VERSIONS = 20


@dataclass(frozen=True)
class Point:
    """The primary metric of one version, on the holdout of its own run."""

    version: str
    value: float


def pictures_of(
    curves: Mapping[str, Any],
    difference: Mapping[str, Any] | None,
    slices: Sequence[Mapping[str, Any]],
    gate: GateSettings,
    history: Sequence[Point] = (),
) -> Iterator[Picture]:
    """Yield what there is to see: curves, gains on the whole and in slices, and the metric over the versions."""
    drawn = {role: seen for role, seen in curves.items() if seen}
    if drawn:
        first = "ROC" if "roc" in next(iter(drawn.values())) else "Residuals"
        yield Picture(f"{first} and calibration curves", curves_figure(drawn))
    if difference:
        what = "Gain on the whole and in slices" if slices else "Gain on the whole"
        yield Picture(what, forest_figure(difference, slices, gate))
    if len(history) > 1:
        yield Picture(f"{gate.primary} over the versions", history_figure(history, gate))


def kept_pictures(state: BlobStore, record: Mapping[str, Any]) -> list[Picture]:
    """Return the pictures of a recorded run, as its gate saw them; none of a run that did not come so far."""
    journal = Journal(state, record["model"], record["run_key"])
    trained, inputs = journal.entry("train"), journal.entry(INPUTS)
    if not trained or not inputs:  # or it is of an earlier version of insitu
        return []
    gate, seen = GateSettings.model_validate(inputs["settings"]["gate"]), trained["value"]
    history = [Point(*one) for one in metric_history(state, record["model"], gate.primary)]
    if record["state"] == "Unfinished":
        history.append(Point("this", seen["metrics"]["challenger"][gate.primary]))
    return list(pictures_of(seen["curves"], seen["difference"], seen["slices"], gate, history))


def curves_figure(curves: Mapping[str, Any]) -> Figure:
    """Draw ROC or residuals, and calibration, of challenger and champion."""
    figure = new_figure(8, 3.6)
    left, right = figure.subplots(1, 2)
    for role, seen in curves.items():
        (_roc if "roc" in seen else _residuals)(left, seen, role)
        style = {"label": role, "markersize": 4, **_STYLES[role]}
        right.plot(*(_column(seen["calibration"], key) for key in ("predicted", "observed")), **style)
    every = [b[key] for seen in curves.values() for b in seen["calibration"] for key in ("predicted", "observed")]
    ends = (min(0.0, *every), max(every)) if every else (0.0, 1.0)  # a small holdout has no bins
    right.plot(ends, ends, color=FAINT, linewidth=0.8)
    right.set(title="Calibration, by tenths of the rows", xlabel="mean answer", ylabel="mean label")
    for axes in (left, right):
        axes.legend(frameon=False)
    return finished(figure)


def _roc(axes: Axes, seen: Mapping[str, Any], role: str) -> None:
    style = {key: value for key, value in _STYLES[role].items() if key != "marker"}
    axes.plot(seen["roc"]["false_positive_rate"], seen["roc"]["true_positive_rate"], label=role, **style)
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=0.8)
    axes.set(title="ROC", xlabel="false positive rate", ylabel="true positive rate")


def _residuals(axes: Axes, seen: Mapping[str, Any], role: str) -> None:
    bins = seen["residuals"]
    axes.plot(_column(bins, "share"), _column(bins, "residual"), label=role, markersize=4, **_STYLES[role])
    axes.axhline(0, color=FAINT, linewidth=0.8)
    axes.set(title="Residuals, means of tenths", xlabel="share of the rows", ylabel="label minus answer")


def forest_figure(difference: Mapping[str, Any], slices: Sequence[Mapping[str, Any]], gate: GateSettings) -> Figure:
    """Draw the interval of the gain on all rows and in each slice, with the limit that it must clear."""
    rows = list(_forest(difference, slices, gate))
    figure = new_figure(8, 1.3 + 0.32 * len(rows))
    axes = figure.subplots()
    for at, (_, low, middle, high, limit) in enumerate(rows):
        colour = GOOD if low > limit else BAD if high < limit else OPEN
        axes.plot([low, high], [at, at], color=colour, linewidth=2)
        axes.plot([middle], [at], color=colour, marker=MARKS[colour], markersize=7)
        axes.plot([limit, limit], [at - 0.4, at + 0.4], color="black", linewidth=1.2)
    axes.axvline(0, color=FAINT, linewidth=0.8, zorder=0)
    axes.set_yticks(range(len(rows)), [name for name, *_ in rows])
    axes.invert_yaxis()
    unit = gate.metrics[gate.primary].unit
    axes.set(
        title="upright mark: the limit; circle: above it, diamond: not sure, cross: below it",
        xlabel=f"gain in {gate.primary}{f' ({unit})' if unit else ''}, challenger over champion",
    )
    axes.title.set_fontsize(9)
    return finished(figure)


def _forest(
    difference: Mapping[str, Any], slices: Sequence[Mapping[str, Any]], gate: GateSettings
) -> Iterator[tuple[str, float, float, float, float]]:
    """Yield name, low end, estimate, high end and limit of each line; without those that say nothing."""
    higher = gate.metrics[gate.primary].direction == "higher"
    estimate, low, high = gain(difference, higher)
    yield "all rows", low, estimate, high, limit_of(gate)
    for entry in slices:
        if all(map(math.isfinite, gain_in(entry, gate))) and entry["column"] in gate.slices:
            estimate, low, high = gain(entry["difference"], higher)
            name = f"{entry['column']}={entry['slice']} ({entry['rows']:,})"
            yield plain(name[:60]), low, estimate, high, -gate.slices[entry["column"]].margin


def history_figure(history: Sequence[Point], gate: GateSettings) -> Figure:
    """Draw the primary metric of the latest versions, each on the holdout of its own run."""
    shown = history[-_MOST_VERSIONS:]
    figure = new_figure(8, 2.8)
    axes = figure.subplots()
    axes.plot(range(len(shown)), [point.value for point in shown], **_STYLES["challenger"])
    metric = gate.metrics[gate.primary]
    if metric.floor is not None:
        axes.axhline(metric.floor, color=BAD, linestyle="--", linewidth=1, label="floor")
        axes.legend(frameon=False)
    axes.set_xticks(range(len(shown)), [point.version for point in shown])
    axes.set(
        title=f"{metric.direction} is better; each on the holdout of its own run", xlabel="version", ylabel=gate.primary
    )
    return finished(figure)


def _column(bins: Sequence[Mapping[str, float]], key: str) -> list[float]:
    return [one[key] for one in bins]
