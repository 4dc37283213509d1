"""What the site's state holds about the triggers of one model, and where.

triggers/MODEL/queue.json       what is to be done, and what is quarantined
               known/XX.json    the ledger
               batches/KEY.json one batch: its blobs, rule, when and why it was found, the work that it became
               work/KEY.json    the blobs that a work's run uses
               claims/KEY.json  whose work it is, and what became of it
               waiting.json     what is incomplete, since when, and what it waits for
               scan.json        who looked last
               whole.json       who looked last at all prefixes, where only some are open
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from insitu.batch import Batch
from insitu.errors import BlobNotFound
from insitu.ports import BlobStore
from insitu.settings import ModelSettings
from insitu.triggers import documents
from insitu.triggers.ledger import Ledger
from insitu.triggers.queue import Queues
from insitu.triggers.rules import prefix_of


@dataclass(frozen=True)
class Book:
    """The triggers of one model at one site."""

    state: BlobStore
    model: ModelSettings
    _blobs: dict[str, frozenset[tuple[str, str]]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def folder(self) -> str:
        """Where everything lies in the state."""
        return f"triggers/{self.model.name}/"

    @cached_property
    def queues(self) -> Queues:
        """What is to be done."""
        return Queues(self.state, f"{self.folder}queue.json")

    @cached_property
    def ledger(self) -> Ledger:
        """Which version of which blob is in which batch."""
        return Ledger(self.state, f"{self.folder}known/")

    def prefix(self, name: str) -> str:
        """Return the prefix whose batches hold the blob."""
        return prefix_of(name, self.model.trigger.depth)

    def now(self, owner: str) -> datetime:
        """Return the time of the state's own clock; leaves word who looked."""
        return documents.server_now(self.state, f"{self.folder}scan.json", owner)

    def last_look(self) -> tuple[str, datetime] | None:
        """Return who looked last, and when by the state's clock; None when nobody has."""
        try:
            when = self.state.stat(f"{self.folder}scan.json").last_modified
        except BlobNotFound:
            return None
        found = documents.read(self.state, f"{self.folder}scan.json")
        return (str(found[0]["owner"]), when) if found else None

    def note_whole_look(self, owner: str) -> None:
        """Leave word that everything was looked at."""
        documents.server_now(self.state, f"{self.folder}whole.json", owner)

    def last_whole_look(self) -> datetime | None:
        """Return when everything was last looked at, by the state's clock; None when nobody has left word."""
        try:
            return self.state.stat(f"{self.folder}whole.json").last_modified
        except BlobNotFound:
            return None

    def batch(self, key: str) -> dict[str, Any] | None:
        """Return what was kept of a batch."""
        return self._document(f"batches/{key}.json")

    def keep_batch(self, key: str, value: dict[str, Any]) -> None:
        """Keep a batch; one that is there stays as it is."""
        documents.write(self.state, f"{self.folder}batches/{key}.json", value, None)

    def blobs(self, key: str) -> frozenset[tuple[str, str]]:
        """Return name and ETag of the batch's blobs."""
        if key not in self._blobs:
            kept = self.batch(key) or {"batch": {"blobs": []}}
            self._blobs[key] = frozenset((blob["name"], blob["etag"]) for blob in kept["batch"]["blobs"])
        return self._blobs[key]

    def batch_keys(self) -> list[str]:
        """Return the keys of all batches that were ever found."""
        names = self.state.names(f"{self.folder}batches/")
        return [name.rpartition("/")[2].removesuffix(".json") for name in names]

    def note_work(self, key: str, work: str) -> None:
        """Write into the batch that it became *work*."""

        def edit(found: dict[str, Any] | None) -> dict[str, Any] | None:
            if found is None or work in found["works"]:
                return None
            return {**found, "works": [*found["works"], work]}

        documents.change(self.state, f"{self.folder}batches/{key}.json", edit)

    def keep_manifest(self, work: str, batch: Batch) -> None:
        """Keep the blobs of a work; what is there is the same."""
        documents.write(self.state, f"{self.folder}work/{work}.json", batch.to_json(), None)

    def manifest(self, work: str) -> Batch | None:
        """Return the blobs of a work."""
        kept = self._document(f"work/{work}.json")
        return Batch.from_json(kept) if kept else None

    def waiting(self) -> dict[str, Any]:
        """Return by prefix what is incomplete: `seen`, `since`, `blobs`, `first` (a name), `waits`."""
        return self._document("waiting.json") or {}

    def keep_waiting(self, value: dict[str, Any]) -> None:
        """Keep what is incomplete; of two watchers at once the later one's word stands."""
        documents.change(self.state, f"{self.folder}waiting.json", lambda found: value if value != found else None)

    def _document(self, name: str) -> dict[str, Any] | None:
        found = documents.read(self.state, f"{self.folder}{name}")
        return found[0] if found else None
