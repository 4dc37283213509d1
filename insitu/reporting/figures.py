"""Figures of a model's runs: small, each with its numbers as a table, and with marks beside colours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from insitu.gate import PUBLISHED, gain, limit_of
from insitu.lineage import SHIFTED, STEPS
from insitu.pages import count, duration, number, size
from insitu.reporting.drawing import (
    BAD,
    BLUE,
    FAINT,
    GOOD,
    GREEN,
    GREY,
    MARKS,
    OPEN,
    PURPLE,
    VERMILION,
    Picture,
    finished,
    new_figure,
    plain,
)
from insitu.reporting.records import Record, name_of
from insitu.settings import GateSettings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_RUNS = 24
_MOST_TICKS = 8
_MOST_METRICS = 4
_SERIES = ((BLUE, "o"), (VERMILION, "s"), (GREEN, "^"), (PURPLE, "D"), (GREY, "v"))
_WIDTH, _HEIGHT = 4.2, 2.4  # inches: the letters are as large as those of a page on a phone


@dataclass(frozen=True)
class Plot:
    """A figure on a page, and its numbers for those who do not see it or want to know."""

    title: str
    svg: Markup
    words: str
    rows: Sequence[Mapping[str, Any]] = ()
    wide: bool = False


def plots_of(records: Sequence[Record], gate: GateSettings | None) -> Iterator[Plot]:
    """Yield the figures about a model's runs, oldest first: none about what nothing is known of."""
    shown = list(records)[-_MOST_RUNS:]
    judged = [record for record in shown if record["training"]]
    if gate and judged:
        for metric in list(gate.metrics)[:_MOST_METRICS]:
            yield _metric_plot(judged, metric, gate)
        if compared := [record for record in judged if _difference(record)]:
            yield _gain_plot(compared, gate)
    if drifted := [record for record in shown if (record["validation"] or {}).get("drift")]:
        yield _drift_plot(drifted)
    if timed := [record for record in shown if any(record["seconds"].values())]:
        yield _duration_plot(timed)
    if built := [record for record in shown if record["image"]]:
        yield _size_plot(built)
    if left := [record for record in shown if record["egress"]]:
        yield _egress_plot(left)


def _metric_plot(records: Sequence[Record], metric: str, gate: GateSettings) -> Plot:
    settings = gate.metrics[metric]
    figure, axes = _axes()
    axes.plot(*_points(records, "challenger", metric), color=BLUE, linewidth=1)
    for passed, face in ((True, BLUE), (False, "none")):
        some = [(at, one) for at, one in enumerate(records) if _passed(one) is passed]
        places, values = [at for at, _ in some], [_compared(one, "challenger", metric) for _, one in some]
        label = "published" if passed else "not published"
        if places:
            axes.plot(places, _gaps(values), "o", color=BLUE, markerfacecolor=face, markersize=6, label=label)
    if any(_compared(one, "champion", metric) is not None for one in records):
        style: Any = {
            "color": VERMILION,
            "marker": "s",
            "linestyle": "none",
            "markersize": 4,
            "label": "champion, same rows",
        }
        axes.plot(*_points(records, "champion", metric), **style)
    if settings.floor is not None:
        axes.axhline(
            settings.floor,
            color=FAINT,
            linestyle="--",
            linewidth=1,
            label="floor" if settings.direction == "higher" else "ceiling",
        )
    _name_runs(axes, records)
    axes.set(ylabel=plain(f"{metric}{f' in {settings.unit}' if settings.unit else ''}"))
    _legend(axes)
    rows = [
        {
            "run": name_of(one),
            "challenger": number(_compared(one, "challenger", metric)),
            "champion": number(_compared(one, "champion", metric)),
            "holdout rows": count(one["training"]["rows"]),
        }
        for one in records
    ]
    title = f"{metric} ({settings.direction} is better)"
    return _plot(
        f"metric-{list(gate.metrics).index(metric)}", title, figure, rows, "Each on the holdout of its own run."
    )


def _gain_plot(records: Sequence[Record], gate: GateSettings) -> Plot:
    higher, limit = gate.metrics[gate.primary].direction == "higher", limit_of(gate)
    gains = [gain(one["training"]["difference"], higher) for one in records]
    figure, axes = _axes()
    for at, (estimate, low, high) in enumerate(gains):
        colour = GOOD if low > limit else BAD if high < limit else OPEN
        axes.plot([at, at], [low, high], color=colour, linewidth=2)
        axes.plot([at], [estimate], color=colour, marker=MARKS[colour], markersize=6)
    axes.axhline(0, color=FAINT, linewidth=0.8, zorder=0)
    axes.axhline(limit, color="black", linestyle="--", linewidth=1)
    axes.annotate("limit", (1, limit), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=8)
    _name_runs(axes, records)
    axes.set(ylabel=plain(f"gain in {gate.primary}"))
    rows = [
        {"run": name_of(one), "gain": f"{estimate:+.4g}", "from": f"{low:+.4g}", "to": f"{high:+.4g}"}
        for one, (estimate, low, high) in zip(records, gains, strict=True)
    ]
    title = f"Gain in {gate.primary} over the champion, with its interval"
    words = "Circle: above the limit; diamond: not sure; cross: below it."
    return _plot("gain", title, figure, rows, words)


def _drift_plot(records: Sequence[Record]) -> Plot:
    drifts = [one["validation"]["drift"]["columns"] for one in records]
    names = list(dict.fromkeys(name for one in drifts for name in one))
    names.sort(key=lambda name: -max(_psi(one, name) or 0 for one in drifts))
    figure, axes = _axes(height=_HEIGHT + 0.3)
    for name, (colour, mark) in zip(names, _SERIES, strict=False):
        values = _gaps(_psi(one, name) for one in drifts)
        axes.plot(
            range(len(records)), values, color=colour, marker=mark, markersize=4, linewidth=1, label=plain(name[:24])
        )
    most = max((_psi(one, name) or 0 for one in drifts for name in names), default=0)
    if most > SHIFTED / 4:  # else the line would press the others to the ground
        axes.axhline(SHIFTED, color=FAINT, linestyle="--", linewidth=1, label="commonly a shift")
    axes.set_ylim(bottom=0)
    _name_runs(axes, records)
    axes.set(ylabel="psi")
    _legend(axes)
    rows = [
        {"column": name}
        | {name_of(record): number(_psi(one, name)) for record, one in zip(records, drifts, strict=True)}
        for name in names
    ]
    more = f" The {len(_SERIES)} that moved most." if len(names) > len(_SERIES) else ""
    words = (
        f"New data against the champion's, as population stability index; above {SHIFTED:g} is commonly a shift.{more}"
    )
    return _plot("drift", "Drift per column over the batches", figure, rows, words)


def _duration_plot(records: Sequence[Record]) -> Plot:
    taken = {step: [one["seconds"][step] for one in records if one["seconds"].get(step)] for step in STEPS}
    taken = {step: seconds for step, seconds in taken.items() if seconds}
    figure, axes = _axes()
    for at, seconds in enumerate(taken.values()):
        axes.plot([min(seconds), max(seconds)], [at, at], color=FAINT, linewidth=1.5)
        for value, mark, face in ((median(seconds), "|", BLUE), (seconds[-1], "o", BLUE)):
            axes.plot([value], [at], color=face, marker=mark, markersize=10 if mark == "|" else 6)
    axes.set_xscale("log")
    axes.set_yticks(range(len(taken)), list(taken))
    axes.set_ylim(len(taken) - 0.5, -0.5)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set(xlabel="seconds")
    rows = [
        {
            "step": step,
            "latest": duration(seconds[-1]),
            "median": duration(median(seconds)),
            "shortest": duration(min(seconds)),
            "longest": duration(max(seconds)),
        }
        for step, seconds in taken.items()
    ]
    words = "Circle: the latest run; bar: the median; line: from the shortest to the longest."
    return _plot("durations", "Duration of each step", figure, rows, words)


def _size_plot(records: Sequence[Record]) -> Plot:
    figure, axes = _axes()
    axes.plot(range(len(records)), [one["image"]["size_bytes"] / 1e6 for one in records], "o-", color=BLUE, linewidth=1)
    axes.set_ylim(0, 1.15 * max(one["image"]["size_bytes"] for one in records) / 1e6)
    _name_runs(axes, records)
    axes.set(ylabel="MB")
    rows = [
        {
            "run": name_of(one),
            "image": size(one["image"]["size_bytes"]),
            "model layer": size(next((x["size_bytes"] for x in one["image"]["layers"] if x["title"] == "model"), None)),
            "batch": size(one["batch"]["bytes"]),
            "rows": count((one["validation"] or {}).get("rows")),
        }
        for one in records
    ]
    return _plot("sizes", "Size of the image", figure, rows, "All layers, compressed.")


def _egress_plot(records: Sequence[Record]) -> Plot:
    totals = [sum(entry["bytes"] for entry in one["egress"]) for one in records]
    figure, axes = _axes()
    axes.bar(range(len(records)), [total / 1e6 for total in totals], color=BLUE, width=0.6)
    axes.set(ylabel="MB")
    _name_runs(axes, records)
    rows = [
        {"run": name_of(one), "objects": count(len(one["egress"])), "bytes": count(total)}
        for one, total in zip(records, totals, strict=True)
    ]
    words = "What was handed to registries, services and deployments; no row of the data."
    return _plot("egress", "What left the site with each run", figure, rows, words)


def _axes(height: float = _HEIGHT) -> tuple[Figure, Axes]:
    figure = new_figure(_WIDTH, height)
    axes = figure.subplots()
    axes.grid(axis="both", color=FAINT, linewidth=0.3)
    axes.set_axisbelow(True)
    return figure, axes


def _name_runs(axes: Axes, records: Sequence[Record]) -> None:
    """Label the runs by version, or by day; only some where they are many."""
    step = -(-len(records) // _MOST_TICKS)
    places = range(len(records) - 1, -1, -step)  # the newest has a label
    axes.set_xticks(places, [_short_name(records[at]) for at in places])
    axes.set_xlim(-0.5, len(records) - 0.5)


def _short_name(record: Record) -> str:
    version = record["model_version"]
    return f"v{version['version']}" if version else str(record["finished"])[5:10]


def _legend(axes: Axes) -> None:
    axes.legend(frameon=False, fontsize=8, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.12))


def _plot(name: str, title: str, figure: Figure, rows: Sequence[Mapping[str, Any]], words: str) -> Plot:
    described = f"{words} The numbers are in the table below."
    return Plot(title, Picture(title, finished(figure)).svg(name, described), words, rows)


def _points(records: Sequence[Record], role: str, metric: str) -> tuple[range, list[float]]:
    return range(len(records)), _gaps(_compared(one, role, metric) for one in records)


def _gaps(values: Any) -> list[float]:
    return [float("nan") if value is None else value for value in values]


def _compared(record: Record, role: str, metric: str) -> float | None:
    value: float | None = record["training"]["compared"].get(role, {}).get(metric)
    return value


def _difference(record: Record) -> bool:
    seen = record["training"]["difference"]
    return bool(seen) and all(seen[key] is not None for key in ("estimate", "low", "high"))


def _psi(columns: Mapping[str, Mapping[str, float | None]], name: str) -> float | None:
    return columns.get(name, {}).get("psi")


def _passed(record: Record) -> bool:
    return (record["decision"] or {}).get("outcome") in PUBLISHED
