"""What a validation of many blobs would read, from a look at some of them: opening each takes a millisecond."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from data_checks.baseline import DriftCheck
from data_checks.report import Outlook
from data_checks.suite import Suite
from insitu.batch import Batch, Blob
from insitu.ports import BlobStore
from insitu.settings import ReadingSettings

MOST_LOOKED_AT = 200
"""Blobs of which nothing is kept, and as many of which something is, that are opened."""


def foresee_some(
    suite: Suite,
    store: BlobStore,
    batch: Batch,
    *,
    reading: ReadingSettings,
    state: BlobStore,
    drift: DriftCheck,
    most: int = MOST_LOOKED_AT,
) -> Outlook:
    """Return what `engine.validate` would read; of many blobs it is an estimate, and `looked_at` is how many were.

    Raises:
        SettingsError, DataError, BlobChanged, BackendUnavailable: As `engine.foresee` does, about the blobs looked at.
    """
    from data_checks.engine import foresee
    from data_checks.statistics import Statistics

    with Statistics(state, batch.container, reading) as statistics:
        kept = statistics.held(batch.blobs) if len(batch.blobs) > most else frozenset()
    groups = [[b for b in batch.blobs if b.name in kept], [b for b in batch.blobs if b.name not in kept]]
    parts = []
    for blobs in filter(None, groups):
        some = Batch.of(batch.container, _spread(blobs, most))
        of_some = replace(drift, training=some)
        found = foresee(suite, store, some, reading=reading, state=state, drift=of_some)
        parts.append(_scaled(found, blobs, some))
    return parts[0] if len(parts) == 1 else _together(*parts)


def _spread(blobs: Sequence[Blob], most: int) -> Sequence[Blob]:
    """Return at most *most* of the blobs, from the first to the last."""
    if len(blobs) <= most:
        return blobs
    return [blobs[round(n * (len(blobs) - 1) / (most - 1))] for n in range(most)]


def _scaled(found: Outlook, blobs: Sequence[Blob], some: Batch) -> Outlook:
    """Return what was found of *some*, for all of *blobs*: by their bytes."""
    times = sum(blob.size_bytes for blob in blobs) / (some.size_bytes or 1) if len(blobs) > len(some.blobs) else 1.0
    return replace(
        found,
        blobs=len(blobs),
        looked_at=len(some.blobs),
        known_blobs=round(found.known_blobs * len(blobs) / len(some.blobs)),
        rows=None if found.rows is None else round(found.rows * times),
        bytes_to_read=round(found.bytes_to_read * times),
    )


def _together(one: Outlook, other: Outlook) -> Outlook:
    rows = None if one.rows is None or other.rows is None else one.rows + other.rows
    return replace(
        one,
        blobs=one.blobs + other.blobs,
        looked_at=one.looked_at + other.looked_at,
        known_blobs=one.known_blobs + other.known_blobs,
        rows=rows,
        columns=max(one.columns, other.columns),
        bytes_to_read=one.bytes_to_read + other.bytes_to_read,
        second_pass=tuple(dict.fromkeys((*one.second_pass, *other.second_pass))),
        notes=tuple(dict.fromkeys((*one.notes, *other.notes))),
    )
