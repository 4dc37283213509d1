"""What a contender is told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.kit.place import Place
from insitu.batch import Batch


@dataclass(frozen=True)
class Task:
    """Check the blobs of *batch* in *place*.

    Attributes:
        sas: A token for the place; empty for a folder.
        statistics: A folder for what is kept between runs.
        scratch: An empty folder that goes away afterwards.
    """

    place: Place
    batch: Batch
    sas: str
    statistics: Path
    scratch: Path

    @property
    def is_csv(self) -> bool:
        """Whether the blobs are CSV; Parquet otherwise."""
        return self.batch.blobs[0].name.endswith(".csv")

    @property
    def urls(self) -> list[str]:
        """Addresses of the blobs with their token, or paths of files."""
        if not self.place.url:
            return [str(Path(self.place.folder, self.place.container, blob.name)) for blob in self.batch.blobs]
        return [f"{self.place.address(blob.name)}?{self.sas}" for blob in self.batch.blobs]

    def to_json(self) -> dict[str, Any]:
        """Return the task as JSON values."""
        return {
            "place": self.place.to_json(),
            "batch": self.batch.to_json(),
            "sas": self.sas,
            "statistics": str(self.statistics),
            "scratch": str(self.scratch),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Task:
        """Return the task that `to_json` described."""
        return cls(
            Place(**value["place"]),
            Batch.from_json(value["batch"]),
            value["sas"],
            Path(value["statistics"]),
            Path(value["scratch"]),
        )
