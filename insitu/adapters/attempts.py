"""Which job a run key has: one at a time, whoever asks, and another name after one that failed."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass

from insitu.errors import BlobChanged, BlobExists, BlobNotFound
from insitu.journal import read_json
from insitu.ports import BlobStore


@dataclass(frozen=True)
class Attempt:
    """One try at a run's job.

    Attributes:
        number: From 1 on.
        started: Whether the service was seen to have it.
    """

    job_id: str
    number: int
    started: bool = False


@dataclass(frozen=True)
class Attempts:
    """The tries at the job of one run key: at most one at a time, whoever asks."""

    state: BlobStore
    key: str

    @property
    def _name(self) -> str:
        return f"jobs/{self.key}/attempt.json"

    def newest(self) -> Attempt | None:
        """Return the last try, if there was one."""
        with suppress(BlobNotFound):
            return Attempt(**read_json(self.state, self._name))
        return None

    def open(self, last: Attempt | None, number: int) -> Attempt:
        """Return the try after *last*: with this number, or the one that somebody else has opened meanwhile."""
        attempt = Attempt(job_name(self.key, number), number)
        try:
            self._write(attempt, over=last)
        except (BlobExists, BlobChanged):
            return self.newest() or attempt
        return attempt

    def mark_started(self, attempt: Attempt) -> None:
        """Write down that the service has it."""
        if not attempt.started:
            with suppress(BlobChanged):  # somebody else did
                self._write(Attempt(attempt.job_id, attempt.number, True), over=attempt)

    def _write(self, attempt: Attempt, over: Attempt | None) -> None:
        data = json.dumps(vars(attempt)).encode()
        if over is None:
            self.state.create(self._name, data)
            return
        etag = self.state.stat(self._name).etag
        if json.loads(self.state.read(self._name, etag=etag)) != vars(over):
            raise BlobChanged(f"{self._name} was written by another process")
        self.state.replace(self._name, data, etag=etag)


def job_name(key: str, number: int) -> str:
    """Return the name of a run's job: its key, and a number from the second attempt on."""
    return key if number == 1 else f"{key}-{number}"
