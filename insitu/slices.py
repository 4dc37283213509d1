"""What the slices of the holdout say about a challenger that is good on the whole."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from insitu.settings import GateSettings, SliceSettings


def objections(slices: Sequence[Mapping[str, Any]], gate: GateSettings) -> tuple[list[str], list[str]]:
    """Return why the slices forbid a promotion, and why they leave it open.

    A slice is proven worse when its whole interval is below the tolerated loss: over all slices of a column the
    probability that this is said of one that is not is the gate's error (Bonferroni). Where each slice must be
    proven not worse, every one has the gate's whole error (Berger, Technometrics 24, 1982: an intersection-union test
    needs no correction).

    Args:
        slices: What `insitu.edge.slices.measure_slices` returned, of all columns.
    """
    against: list[str] = []
    unproven: list[str] = []
    for column, settings in gate.slices.items():
        mine = [entry for entry in slices if entry["column"] == column]
        against += [*_missed(mine, settings, gate), *_gap(mine, settings, gate)]
        for entry in mine:
            low, high = gain_in(entry, gate)
            seen = f"{gate.primary} gains {figure(low)} to {figure(high)}"
            if high < -settings.margin:
                against.append(f"{_name(entry)} is worse: {seen}, wholly below {figure(-settings.margin)}")
            elif settings.proof and not low > -settings.margin:
                unproven.append(f"{_name(entry)} is not proven not worse: {seen}")
    return against, unproven


def figure(gained: float) -> str:
    """Return a gain with its sign and four significant digits, for people: without an exponent where it has few."""
    gained = float(f"{gained:.4g}")  # before it is looked at: 9999.6 is 10,000
    if 1e4 <= abs(gained) < 1e15:
        return f"{gained:+,.0f}"
    return f"{Decimal(f'{gained:.4g}'):+f}" if 1e-9 <= abs(gained) < 1e-4 else f"{gained:+.4g}"


def gain_in(entry: Mapping[str, Any], gate: GateSettings) -> tuple[float, float]:
    """Return the interval of the gain in a slice; of one that says nothing, everything."""
    seen = entry["difference"]
    if not seen or not (_is_number(seen["low"]) and _is_number(seen["high"])):
        return (-math.inf, math.inf) if seen else (math.inf, math.inf)
    if gate.metrics[gate.primary].direction == "higher":
        return seen["low"], seen["high"]
    return -seen["high"], -seen["low"]


def _missed(slices: Sequence[Mapping[str, Any]], settings: SliceSettings, gate: GateSettings) -> Iterator[str]:
    higher = gate.metrics[gate.primary].direction == "higher"
    for entry in slices if settings.floor is not None else ():
        value, floor = entry["challenger"], settings.floor or 0.0
        if value is not None and (value < floor if higher else value > floor):
            wanted = f"at {'least' if higher else 'most'} {floor:.4g}"
            yield f"{_name(entry)}: {gate.primary} is {value:.4g}, wanted {wanted}"


def _gap(slices: Sequence[Mapping[str, Any]], settings: SliceSettings, gate: GateSettings) -> Iterator[str]:
    values = [entry["challenger"] for entry in slices if _is_number(entry["challenger"])]
    if settings.max_gap is not None and values and max(values) - min(values) > settings.max_gap:
        apart = max(values) - min(values)
        yield f"{gate.primary} differs by {apart:.4g} over {slices[0]['column']}, wanted at most {settings.max_gap:.4g}"


def _is_number(value: Any) -> bool:
    return value is not None and math.isfinite(value)


def _name(entry: Mapping[str, Any]) -> str:
    return f"{entry['column']}={entry['slice']} ({entry['rows']:,} rows)"
