"""What the tests of triggers share: a model, a place with data and state, a cheap piece of work, and its auditor."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from insitu.adapters.local.blobs import FolderBlobs
from insitu.crashpoints import crashpoint
from insitu.ports import BlobStore
from insitu.settings import ModelSettings
from insitu.triggers.book import Book
from insitu.triggers.claims import Claim, Claims, StateClaims
from insitu.triggers.watcher import Watcher
from insitu.triggers.work import Job, Outcome, Running


def model(**trigger: Any) -> ModelSettings:
    """Return a model that takes every Parquet blob of its container."""
    return ModelSettings.model_validate(
        {
            "name": "rides",
            "target": {"task": "regression", "label_column": "y"},
            "data": {"container": "rides", "suite": "rides", "blobs": "*.parquet"},
            "train": {"command": ["python", "train.py"]},
            "gate": {"primary": "mae", "metrics": {"mae": {"direction": "lower"}}},
            "trigger": {"rule": "marker", "quiet_s": 3600.0, "retry_s": 0.0, **trigger},
        }
    )


@dataclass(frozen=True)
class Ended:
    """A run that has ended already."""

    ended: Outcome

    def outcome(self) -> Outcome:
        return self.ended

    def stop(self) -> None:
        """Do nothing."""


@dataclass
class Script:
    """A runner whose runs end as they are told to, by the prefixes of their batch; it keeps the jobs."""

    verdict_of: Callable[[Job], str] = lambda _: "done"
    jobs: list[Job] = field(default_factory=list)

    def start(self, job: Job) -> Running:
        self.jobs.append(job)
        return Ended(Outcome(self.verdict_of(job), {"state": "Completed"}))  # type: ignore[arg-type]

    @property
    def names(self) -> list[list[str]]:
        return [[blob.name for blob in job.batch.blobs] for job in self.jobs]


@dataclass(frozen=True)
class Recorder:
    """Work that looks before it does, as every step of the real flow, and leaves one line per batch outside.

    Two that look at once both find nothing: only one at a time keeps the record free of doubles.
    """

    record: Path
    pause_s: float = 0.005

    def start(self, job: Job) -> Running:
        for key in job.batches:
            crashpoint("work:before")
            done = self.record.read_text().split() if self.record.exists() else []
            time.sleep(self.pause_s)
            if key not in done:
                with open(self.record, "a") as record:
                    record.write(f"{key}\n")
            crashpoint("work:after")
        return Ended(Outcome("done", {"state": "Completed"}))

    def counts(self) -> Counter[str]:
        return Counter(self.record.read_text().split() if self.record.exists() else [])


@dataclass(frozen=True)
class NoClaims:
    """The control: everybody gets every work. A set of claims that claims nothing."""

    state: BlobStore
    owner: str

    def take(self, work: str, _now: Callable[[], datetime]) -> Claim:
        return Claim(work, self.owner)

    def look(self, work: str) -> None:
        return None

    def write(self, claim: Claim) -> Claim:
        return claim


@dataclass(frozen=True)
class Place:
    """Data and state of one model, and watchers over them."""

    settings: ModelSettings
    data: BlobStore
    state: BlobStore
    events: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)

    @classmethod
    def in_folder(cls, root: Path, **trigger: Any) -> Place:
        for name in ("data", "state"):
            (root / name).mkdir(parents=True, exist_ok=True)
        return cls(model(**trigger), FolderBlobs(root / "data"), FolderBlobs(root / "state"))

    @property
    def book(self) -> Book:
        return Book(self.state, self.settings)

    def claims(self, owner: str) -> StateClaims:
        trigger = self.settings.trigger
        return StateClaims(self.state, f"{self.book.folder}claims/", owner, trigger.lease_s, trigger.retry_s)

    def watcher(self, runner: Any, owner: str = "one", claims: Claims | None = None) -> Watcher:
        def tell(event: str, said: Mapping[str, Any]) -> None:
            self.events.append((event, said))

        return Watcher(self.book, self.data, claims or self.claims(owner), runner, tell, owner)

    def put(self, *names: str, content: bytes = b"rows") -> None:
        for name in names:
            self.data.create(name, content)

    def overwrite(self, name: str, content: bytes) -> None:
        self.data.replace(name, content, etag=self.data.stat(name).etag)


def go(watcher: Watcher, looks: int = 1) -> None:
    """Let the watcher look, and do everything that is due then."""
    for _ in range(looks):
        watcher.look()
        while watcher.advance() or watcher.busy:
            pass


def arrive(root: Path, number: int) -> None:
    """Let one batch arrive as a producer writes it: two blobs, then the marker; whatever is there stays."""
    folder = root / "data" / f"part={number:03d}"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("a.parquet", "b.parquet", "_SUCCESS"):
        temporary = folder / f".{name}.{os.getpid()}"
        temporary.write_text(json.dumps([number, name]))
        os.replace(temporary, folder / name)
