"""The smoke test of a finished image: it runs alone, answers the golden rows as the model does, and is measured."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from insitu.agreement import compare, per_row
from insitu.errors import ImageFailed, OutOfMemory
from insitu.ports import SCORING_MEMORY_BYTES, ImageRegistry, Scorer, ScoringHost
from insitu.settings import LimitSettings

_TIMED_ROWS = 9
_SECONDS = re.compile(rb'^insitu_request_seconds_sum\{path="/score"\} (\S+)$', re.MULTILINE)


@dataclass(frozen=True)
class Tried:
    """What a smoke test found.

    Attributes:
        max_difference: Largest deviation from the trained model's answers over the golden rows; None when not asked.
        latency_ms: Milliseconds that the server took for one row, by its own clock and the median of some of them.
        peak_memory_bytes: Most memory that it took; None where the system does not tell.
        smoke: How it was kept in: `host`, `network`, `memory_limit_by`, `memory_limit_bytes`, and whether it was
            `ended` for taking more than it may: then nothing else is known.
    """

    max_difference: float | None
    latency_ms: float | None
    peak_memory_bytes: int | None
    smoke: Mapping[str, Any]


def try_image(
    host: ScoringHost, images: ImageRegistry, digest: str, golden: Path, tolerance: float, limits: LimitSettings
) -> Tried:
    """Run the image and return how it does; one that passes the memory limit of model.toml is not an error.

    Raises:
        OutOfMemory: It takes more than anybody should who has no limit.
        ImageFailed: It does not start, or answers otherwise than the trained model.
    """
    most = limits.max_memory_mb
    memory_bytes = SCORING_MEMORY_BYTES if most is None else int(most * 1e6)
    smoke = {**asdict(host.isolation), "memory_limit_bytes": memory_bytes, "ended": False}
    try:
        with host.run(images, digest, memory_bytes) as scorer:
            gap = compare_answers(scorer, golden, tolerance)
            return Tried(gap, median_latency_ms(scorer, golden), scorer.peak_memory_bytes(), smoke)
    except OutOfMemory:
        if most is None:
            raise
        return Tried(None, None, None, {**smoke, "ended": True})


def compare_answers(scorer: Scorer, golden: Path, tolerance: float) -> float:
    """Return how far the server's answers to the golden rows are from the model's; raise `ImageFailed`."""
    import numpy as np

    expected = json.loads(golden.read_text())
    status, body = scorer.request("POST", "/score", json.dumps(expected["request"]).encode())
    if status != 200:
        raise ImageFailed("the image refuses the golden rows", found=f"status {status}", wanted="status 200")
    wanted = per_row(np.asarray(expected["predictions"], dtype=np.float64))
    try:
        rows = json.loads(body)["predictions"]
        rows = [list(row.values()) if isinstance(row, dict) else row for row in rows]  # of a model that gives a frame
        answers = per_row(np.asarray(rows, dtype=np.float64))
    except (ValueError, TypeError) as exc:
        raise ImageFailed("the image's answers are no numbers", found=type(exc).__name__) from None
    if answers.shape != wanted.shape:
        raise ImageFailed(
            "the image answers in another shape than the trained model",
            found=str(answers.shape),
            wanted=str(wanted.shape),
        )
    rounding, classes = expected.get("rounding", 0.0), expected.get("classes", False)
    found = compare(answers, wanted, tolerance, rounding, classes=classes)
    if not found.holds:
        raise ImageFailed(
            "the image answers differently from the trained model",
            found=f"{found.beyond} of {found.rows} golden rows differ, by up to {found.max_difference:.3g}; "
            f"{found.flips} of another class",
            wanted=f"a difference of at most {tolerance:g} (smoke.tolerance)",
        )
    return found.max_difference


def median_latency_ms(scorer: Scorer, golden: Path) -> float:
    """Return how many milliseconds the server takes for a row, by the median over golden rows and its own clock.

    Raises:
        ImageFailed: It does not answer, or does not tell.
    """
    request, taken_ms = json.loads(golden.read_text())["request"]["dataframe_split"], []
    before_s = _scoring_seconds(scorer)
    for row in request["data"][:_TIMED_ROWS]:
        scorer.request("POST", "/score", json.dumps({"dataframe_split": {**request, "data": [row]}}).encode())
        now_s = _scoring_seconds(scorer)
        taken_ms.append((now_s - before_s) * 1000)
        before_s = now_s
    return round(median(taken_ms), 2)


def _scoring_seconds(scorer: Scorer) -> float:
    status, text = scorer.request("GET", "/metrics")
    found = _SECONDS.search(text)
    if status != 200 or found is None:
        raise ImageFailed("the image's server does not tell how long it takes", found=f"status {status} at /metrics")
    return float(found[1])
