"""The error budget of a holdout: how often it may decide between champion and challenger, and how wrong each time.

A holdout that is asked again and again promotes a lucky challenger in the end (Dwork et al., The reusable holdout,
Science 349, 2015). So the probability of error that the gate allows, 1 - confidence, is one for all comparisons on the
same rows: each gets an equal share of it (Dunn, Multiple comparisons among means, JASA 56, 1961, after Bonferroni),
and when the shares are spent, no verdict but "inconclusive" is given until there are fresh rows. What each comparison
took is written down: settings that change in between, the metric's too, give back nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from insitu.batch import Batch
from insitu.errors import BackendUnavailable, BlobChanged, BlobExists, BlobNotFound
from insitu.journal import read_json
from insitu.ports import BlobStore
from insitu.settings import GateSettings

_TRIES = 20
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Share:
    """What one comparison may take of a holdout's budget.

    Attributes:
        number: Which comparison on these rows it is, from 1.
        comparisons: How many there may be.
        error: Probability of a wrong promotion that this one may take.
        taken: What earlier ones took.
        budget: What all may take together.
    """

    number: int
    comparisons: int
    error: float
    taken: float = 0.0
    budget: float = 1.0

    @property
    def is_spent(self) -> bool:
        """Whether earlier comparisons left less than this one would take."""
        return self.number > self.comparisons or self.taken + self.error > self.budget * (1 + _ROUNDING)


def claim(state: BlobStore, model: str, holdout: Batch, run_key: str, gate: GateSettings) -> Share:
    """Return the share of the run *run_key*, written down before the holdout is looked at; the same at each call.

    Comparisons count together when their holdouts have a blob in common: its version, or its content under any name.

    Raises:
        BackendUnavailable: Others write the ledger all the time.
    """
    name, mine = _name(model), _entry(holdout, run_key, gate)
    for _ in range(_TRIES):
        ledger, etag = _ledger(state, name)
        earlier = list(_before(ledger, run_key))
        if len(earlier) == len(ledger):
            try:
                _write(state, name, [*ledger, mine], etag)
            except (BlobExists, BlobChanged):
                continue
        return _share(earlier, mine, gate)
    raise BackendUnavailable(f"{name} in the site's state is written by others all the time")


def foresee(state: BlobStore, model: str, holdout: Batch, run_key: str, gate: GateSettings) -> Share:
    """Return the share that `claim` would give the run, without taking it."""
    ledger, _ = _ledger(state, _name(model))
    return _share(list(_before(ledger, run_key)), _entry(holdout, run_key, gate), gate)


def _name(model: str) -> str:
    return f"holdouts/{model}.json"


def _entry(holdout: Batch, run_key: str, gate: GateSettings) -> dict[str, Any]:
    return {
        "run_key": run_key,
        "blobs": [[blob.name, blob.etag] for blob in holdout.blobs],
        "contents": [blob.md5 or blob.etag for blob in holdout.blobs],  # of files, the ETag is a hash
        "error": (1 - gate.confidence) / gate.comparisons,
    }


def _share(earlier: Sequence[Mapping[str, Any]], mine: Mapping[str, Any], gate: GateSettings) -> Share:
    before = [entry for entry in earlier if _marks(entry) & _marks(mine)]
    taken = sum(entry.get("error", mine["error"]) for entry in before)
    return Share(len(before) + 1, gate.comparisons, mine["error"], taken, 1 - gate.confidence)


def _marks(entry: Mapping[str, Any]) -> set[Any]:
    """Return what tells that two holdouts have a blob in common."""
    return {*map(tuple, entry["blobs"]), *entry.get("contents", ())}


def _before(ledger: list[dict[str, Any]], run_key: str) -> Iterator[dict[str, Any]]:
    for entry in ledger:
        if entry["run_key"] == run_key:
            return
        yield entry


def _ledger(state: BlobStore, name: str) -> tuple[list[dict[str, Any]], str | None]:
    """Return the comparisons so far, oldest first, and the version that they were read from."""
    try:
        etag = state.stat(name).etag
        return read_json(state, name), etag
    except BlobNotFound:
        return [], None


def _write(state: BlobStore, name: str, ledger: list[dict[str, Any]], etag: str | None) -> None:
    data = json.dumps(ledger, indent=1).encode()
    if etag is None:
        state.create(name, data)
    else:
        state.replace(name, data, etag=etag)
