"""The account of a dataset: how many of its rows all that left of it could hold together, run by run.

It lies in the site's state as `capacity/CONTAINER.json`, oldest first. A run counts once, however often it starts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from insitu.errors import BlobNotFound
from insitu.journal import change_json, read_json
from insitu.ports import BlobStore


@dataclass(frozen=True)
class Account:
    """What left of one container at a site, whatever model it was for."""

    state: BlobStore
    container: str

    @property
    def name(self) -> str:
        """Where it is."""
        return f"capacity/{self.container}.json"

    def entries(self) -> Sequence[Mapping[str, Any]]:
        """Return what was taken: `run_key`, `model`, `rows`, `when` of each run, oldest first."""
        try:
            entries: list[dict[str, Any]] = read_json(self.state, self.name)
        except BlobNotFound:
            return []
        return entries

    def taken_before(self, run_key: str, rows: int) -> int:
        """Return how many rows others took before the run took *rows*, or so far where it has not."""
        total = 0
        for entry in self.entries():
            if entry["run_key"] == run_key:
                if entry["rows"] >= rows:
                    break
                continue
            total += entry["rows"]
        return total

    def take(self, run_key: str, model: str, rows: int) -> bool:
        """Write down that the run takes *rows*, before they leave; what it took before is part of that.

        Return whether it is more than before.
        """
        mine = {"run_key": run_key, "model": model, "rows": rows, "when": datetime.now(UTC).isoformat("T", "seconds")}

        def taken(entries: list[dict[str, Any]] | None) -> list[dict[str, Any]]:
            there = entries or []
            if any(entry["run_key"] == run_key and entry["rows"] >= rows for entry in there):
                return there
            return [*(entry for entry in there if entry["run_key"] != run_key), mine]

        before = next((entry["rows"] for entry in self.entries() if entry["run_key"] == run_key), -1)
        change_json(self.state, self.name, taken)
        return before < rows

    def give_back(self, run_key: str, rows: int) -> None:
        """Write down that of what the run took no more than *rows* left."""

        def left(entries: list[dict[str, Any]] | None) -> list[dict[str, Any]]:
            return [{**one, "rows": rows} if one["run_key"] == run_key else one for one in entries or []]

        change_json(self.state, self.name, left)
