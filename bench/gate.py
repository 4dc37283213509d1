"""How often the gate is wrong, against a naive one, over simulated histories of retrains on one holdout.

A history is a champion and twelve challengers that are, in truth, exactly as good (for `better`), or exactly worse by
the margin (for `not_worse`): each promotion is a false one. The naive gate promotes what scores at least as well, the
usual one what a 95 % interval over the same rows allows, each time anew.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

from bench.harness import Row, interleaved, report
from insitu.budget import Share
from insitu.edge.metrics import Vector, measure
from insitu.edge.paired import Difference, difference
from insitu.gate import Evidence, decide, detectable_gain
from insitu.settings import GateSettings, MetricSettings

HISTORIES, RETRAINS, ROWS, TRIALS = 2_000, 12, 2_000, 500
_NOISE = 1.0
_MARGIN = 0.01
_POPULATION = 2_000_000
_LARGE_ROWS = 1_000_000


def gate_of(policy: str) -> GateSettings:
    """Return a gate over the area under the ROC curve, as model.toml would set it."""
    metrics = {"roc_auc": MetricSettings(direction="higher")}
    limits = {"margin": _MARGIN} if policy == "not_worse" else {}
    return GateSettings.model_validate({"metrics": metrics, "primary": "roc_auc", "policy": policy, **limits})


def labels(random: np.random.Generator, n: int) -> tuple[Vector, Vector]:
    """Return what is to be known of *n* rows, and their labels."""
    hidden = random.normal(size=n)
    return hidden, (random.random(n) < 1 / (1 + np.exp(-hidden))).astype(np.float64)


def scores(random: np.random.Generator, hidden: Vector, noise: float) -> Vector:
    """Return the scores of a model that sees *hidden* through *noise*."""
    return 1 / (1 + np.exp(-(hidden + random.normal(0, noise, len(hidden)))))


def noise_for(gain: float) -> float:
    """Return the noise of a model whose area is larger by *gain* than the champion's, by bisection."""
    random = np.random.default_rng(5)
    hidden, y = labels(random, _POPULATION)
    unit = random.normal(size=_POPULATION)

    def area(noise: float) -> float:
        return measure(["roc_auc"], y, hidden + noise * unit)["roc_auc"]

    wanted, low, high = area(_NOISE) + gain, 0.0, 3.0
    for _ in range(14):
        middle = (low + high) / 2
        low, high = (middle, high) if area(middle) > wanted else (low, middle)
    return (low + high) / 2


def history(seed: int, policy: str, noise: float) -> dict[str, bool]:
    """Return per gate whether it promoted at least one of twelve challengers with *noise*."""
    random, gate = np.random.default_rng(seed), gate_of(policy)
    hidden, y = labels(random, ROWS)
    champion = scores(random, hidden, _NOISE)
    promoted = {"ours": False, "naive": False, "usual": False}
    limit = -gate.margin if policy == "not_worse" else gate.min_gain
    for number in range(1, RETRAINS + 1):
        challenger = scores(random, hidden, noise)
        share = Share(number, gate.comparisons, (1 - gate.confidence) / gate.comparisons)
        found = difference("roc_auc", y, challenger, champion, share.error)
        usual = difference("roc_auc", y, challenger, champion, 0.025)
        promoted["ours"] |= verdict(gate, found, share) == "promote"
        promoted["usual"] |= usual.low > limit
        promoted["naive"] |= found.estimate >= limit
    return promoted


def verdict(gate: GateSettings, found: Difference, share: Share) -> str:
    """Return what our gate says."""
    evidence = Evidence(ROWS, {"roc_auc": 0.7}, {"roc_auc": 0.7}, found.to_json(), share)
    return decide(evidence, gate, "1").verdict


def wrong(policy: str, noise: float) -> dict[str, float]:
    """Return per gate the share of histories with at least one false promotion."""
    with ProcessPoolExecutor(2) as pool:
        ends = list(pool.map(partial(history, policy=policy, noise=noise), range(HISTORIES), chunksize=50))
    return {name: sum(end[name] for end in ends) / len(ends) for name in ends[0]}


def power() -> tuple[float, float]:
    """Return the gain that is called detectable, and how often the gate finds a challenger that is better by it."""
    gate, share = gate_of("better"), Share(1, 12, 0.05 / 12)
    random = np.random.default_rng(9)

    def comparisons(noise: float) -> Iterator[Difference]:
        while True:
            hidden, y = labels(random, ROWS)
            pair = scores(random, hidden, noise), scores(random, hidden, _NOISE)
            yield difference("roc_auc", y, *pair, share.error)

    gain = detectable_gain(next(comparisons(_NOISE)).to_json(), ROWS, ROWS, share.error)
    found = islice(comparisons(noise_for(gain)), TRIALS)
    return gain, sum(verdict(gate, each, share) == "promote" for each in found) / TRIALS


def large(metric: str = "average_precision") -> None:
    """Find the interval of a million rows."""
    random = np.random.default_rng(1)
    hidden, y = labels(random, _LARGE_ROWS)
    difference(metric, y, scores(random, hidden, 0.9), scores(random, hidden, _NOISE), 0.05 / 12)


def large_apart() -> float:
    """Find the interval of a million rows in a process of its own; return its peak memory in MB."""
    code = "import resource; from bench.gate import large; large(); "
    code += "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000)"
    return float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Measure false promotions, power, and the cost of a large holdout."""
    worse = noise_for(-_MARGIN)
    rows: list[Any] = []
    for policy, noise, what in (("better", _NOISE, "equal challenger"), ("not_worse", worse, "worse by the margin")):
        rates = wrong(policy, noise)
        for reference in ("naive", "usual"):
            name = "score at least as good" if reference == "naive" else "95 % interval, each time"
            rows.append(Row(f"{what}, {policy}", rates["ours"], rates[reference], name, "of histories", 0.05))
    gain, found = power()
    rows.append(Row(f"missed, gain {gain:.3f} (detectable)", 1 - found, 0.2, "20 %", "of challengers", 0.2))
    seconds, direct = interleaved([large, partial(large, "roc_auc")])
    rows.append(Row("interval of 1,000,000 rows", seconds, direct, "DeLong's of the same rows", "s", 10))
    rows.append(Row("its memory", large_apart(), 500, "500 MB", "MB", 500))
    report("gate", rows, ["numpy", "scipy"])


if __name__ == "__main__":
    main()
