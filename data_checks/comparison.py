"""Drift as a part of the validation: what is compared with the champion's training data, and judged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from data_checks import profiles
from data_checks.asked import Asked
from data_checks.baseline import Baseline, DriftCheck
from data_checks.conditions import Column
from data_checks.drift import compare
from data_checks.measures import Measure
from data_checks.passes import Passes
from data_checks.profiles import Profile
from data_checks.scan import frame_of
from insitu.batch import Batch, Blob
from insitu.errors import DataError, StateDamaged

_LEAST_ROWS = 10
"""With fewer rows nothing is told: a figure could point at one of them."""


@dataclass(frozen=True)
class Comparison:
    """A drift check over the columns of a batch; without a check there is nothing to do."""

    check: DriftCheck | None
    batch: Batch
    columns: tuple[Column, ...] = ()

    @classmethod
    def of(cls, check: DriftCheck | None, batch: Batch, schema: pa.Schema, asked: Asked) -> Comparison:
        """Return the comparison; raise `DataError` when a column of `[drift]` is not in the data."""
        if check is None:
            return cls(None, batch)
        names = check.limits.columns or [name for name in schema.names if name in asked.columns]
        if missing := sorted(set(names) - set(schema.names)):
            raise DataError(
                f"[drift] in model.toml names columns that the data lacks: {', '.join(missing)}",
                found=f"columns {', '.join(schema.names)}",
            )
        types = frame_of(pa.Table.from_batches([], schema)).schema  # schema.empty_table() imports pandas
        return cls(check, batch, tuple(Column(name, types[name]) for name in names))

    def with_measures_of(self, asked: Asked) -> list[Measure]:
        """Return what must be measured of every blob for both."""
        return list({m.key: m for m in (*asked.measures, *self._measures)}.values())

    def kept(self, passes: Passes) -> dict[str, Any]:
        """Return what the next batch is compared with, once the model of this one is the champion."""
        if self.check is None:
            return {}
        training = self.check.training.blobs
        return {**self._profile(passes, training).to_json(), "blobs": [[blob.name, blob.etag] for blob in training]}

    def found(self, passes: Passes) -> dict[str, Any] | None:
        """Return how far the blobs that the champion was not trained on are from those that it was."""
        baseline = self.check and self.check.baseline
        if not baseline:
            return None
        then, seen = _kept(baseline)
        new = [blob for blob in self.batch.blobs if (blob.name, blob.etag) not in seen] or self.batch.blobs
        now = self._profile(passes, new)
        drift = compare(then, now) if now.rows >= _LEAST_ROWS else {}
        return {
            "champion": baseline.champion,
            "blobs": len(new),
            "rows": now.rows,
            "columns": {name: asdict(found) for name, found in drift.items()},
        }

    def judged(self, found: dict[str, Any] | None) -> Iterator[tuple[str, str, float, float]]:
        """Yield column, figure, value and limit of everything that has a limit."""
        for column, drift in (found or {}).get("columns", {}).items():
            for figure, value in drift.items():
                limit = getattr(self.check and self.check.limits, f"max_{figure}", None)
                if limit is not None and value is not None:
                    yield column, figure, value, limit

    @property
    def _measures(self) -> list[Measure]:
        return profiles.measures(self.columns) if self.check else []

    def _profile(self, passes: Passes, blobs: tuple[Blob, ...] | list[Blob]) -> Profile:
        return profiles.profile(self.columns, passes.merged(self._measures, blobs))


def rounded(found: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the figures of `Comparison.found` with 4 significant digits: they leave the site."""
    columns = {
        name: {figure: value and float(f"{value:.4g}") for figure, value in figures.items()}
        for name, figures in (found or {}).get("columns", {}).items()
    }
    return found and {**found, "columns": columns}


def _kept(baseline: Baseline) -> tuple[Profile, set[tuple[str, str]]]:
    try:
        return Profile.from_json(baseline.profile), {(name, etag) for name, etag in baseline.profile["blobs"]}
    except (KeyError, TypeError, ValueError):
        raise StateDamaged(
            f"the training profile of champion {baseline.champion} in the site's state is damaged",
            next_action="remove profile.json of its run: the drift is not told until the next champion",
        ) from None
