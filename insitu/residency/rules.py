"""What may leave a site as words: closed lists of names, each with the form of its value.

A tag, a label or a fact of an image that is not on a list is refused, and so is one of another form: no free text gets
out by them, no name of a blob, and no number of more than four significant digits (eight full-precision floats could
hold a row).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from insitu.errors import EgressRefused

_HEX, _DIGEST = r"[0-9a-f]{64}", r"sha256:[0-9a-f]{64}"
_NAME, _VERSION = r"[\w-]{1,100}", r"\d{1,9}"
_PERSON = r"[^\x00-\x1f\x7f]{1,100}"
_REFERENCE = r"[^\x00-\x1f\x7f]{1,500}"  # an address or a folder that the site's settings name
_MOMENT = r"\d{4}-\d\d-\d\d(T[\d:.+Z-]{5,20})?"

TAGS: Mapping[str, str] = {
    "insitu.batch": _HEX,
    "insitu.code": _HEX,
    "insitu.site": _NAME,
    "insitu.job": _NAME,
    "insitu.verdict": "promote|reject|inconclusive",
    "insitu.residency": "clear|warned|waived|not scanned",
    "insitu.image": _DIGEST,
    "insitu.reference": _REFERENCE,
    "insitu.decision": _DIGEST,
    "insitu.decision.kind": "gate|approval|override",
    "insitu.decision.expires": _MOMENT,
    "insitu.approver": _PERSON,
}
"""Tags of runs and versions. An approver's name is one that a person gave to be shown."""

FACTS: Mapping[str, str] = {
    "model": _NAME,
    "version": _VERSION,
    "run_key": _HEX,
    "batch_fingerprint": _HEX,
    "code": _HEX,
    "decision": _DIGEST,
    "task": "classification|regression",
}
"""What an image says of itself: its labels `io.insitu.NAME`, and the answer to `GET /metadata`."""

STANDARD: Mapping[str, str] = {
    "org.opencontainers.image.title": _NAME,
    "org.opencontainers.image.version": _VERSION,
    "org.opencontainers.image.revision": r"[0-9a-f]{7,64}",
    "org.opencontainers.image.created": _MOMENT,
    "org.opencontainers.image.base.digest": _DIGEST,
    "org.opencontainers.image.base.name": _REFERENCE,
}
"""Labels and annotations that other tools know."""

_LABEL, _METRIC = "io.insitu.", "metric."
_DIGITS = 4


def require_tags(tags: Mapping[str, str], metrics: frozenset[str], what: str) -> None:
    """Raise `EgressRefused` for a tag that is not on the list, or a metric of other names or more digits."""
    for name, value in tags.items():
        if name.startswith(_METRIC):
            _require_metric(name, value, metrics, what)
        else:
            _require(name, value, TAGS, what)


def require_annotations(annotations: Mapping[str, str], what: str) -> None:
    """Raise `EgressRefused` for what the manifest of an image says and is not on the list: all of it is ours."""
    for name, value in annotations.items():
        if name.startswith(_LABEL):
            _require(name.removeprefix(_LABEL), value, FACTS, what)
        else:
            _require(name, value, STANDARD, what)


def require_labels(labels: Mapping[str, str], what: str) -> None:
    """Raise `EgressRefused` for a label of ours that is not on the list; others came with the base, as it has them."""
    ours = {name: value for name, value in labels.items() if name.startswith(_LABEL)}
    require_annotations(ours, what)


def require_facts(text: str, what: str) -> None:
    """Raise `EgressRefused` when the JSON object *text* says more than an image may say of itself."""
    for name, value in json.loads(text).items():
        _require(name, value, FACTS, what)


def _require(name: str, value: Any, known: Mapping[str, str], what: str) -> None:
    if name not in known:
        raise _refused(f"{what}: {name!a} is not on the list of what may leave", f"one of {', '.join(sorted(known))}")
    if not isinstance(value, str) or not re.fullmatch(known[name], value):
        raise _refused(f"{what}: {name} has another form than what may leave", "its own form (docs/residency.md)")


def _require_metric(name: str, value: str, metrics: frozenset[str], what: str) -> None:
    if name.removeprefix(_METRIC) not in metrics:
        raise _refused(f"{what}: {name!a} is no metric that insitu measures", f"one of {', '.join(sorted(metrics))}")
    try:
        number = float(value)
    except ValueError:
        raise _refused(f"{what}: {name} is no number", "a number") from None
    if math.isfinite(number) and float(f"{number:.{_DIGITS}g}") != number:
        raise _refused(f"{what}: {name} has more than {_DIGITS} significant digits", "a rounded number")


def _refused(what: str, wanted: str) -> EgressRefused:
    return EgressRefused(
        what,
        found="what it holds is not shown",
        wanted=wanted,
        next_action="nothing was sent; report this as a fault of insitu, or of whatever changed its values",
    )
