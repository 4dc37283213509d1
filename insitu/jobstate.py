"""What an edge job on another machine and those who wait for it leave for each other in the site's state.

    jobs/KEY/attempt.json      which job a run key has now, and whether it was started
    jobs/JOB/spec.json         what the job shall do                               (who waits)
    jobs/JOB/beat.json         how far it is, or that it was called off            (both)
    jobs/JOB/log/OFFSET        what its command printed, piece by piece: private   (the job)
    jobs/JOB/left.json         result or failure, and the parcel of its files      (the job)

`beat.json` settles every race: the job claims it before it begins, overwrites only its own version, and
with the last one its end holds. Who calls a job off overwrites it, too: whoever comes second finds that out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Literal

from insitu.errors import BlobChanged, BlobExists, BlobNotFound
from insitu.journal import read_json, write_json
from insitu.ports import BlobStore

MANIFEST = "manifest.json"
"""Beside the code that travels: every file of it with its hex sha256."""

_OFFSET_DIGITS = 15


@dataclass(frozen=True)
class Beat:
    """A sign of life, the last one of an end.

    Attributes:
        owner: Which process gave it; empty when the job was called off before it began.
        count: Which beat it is; two looks that find the same one saw no life in between.
        phase: What the job does now.
        log_bytes: How much of its log is in the state.
        end: `left` when `left.json` holds; `canceled` or `broken` when the job was called off before.
    """

    owner: str = ""
    count: int = 0
    phase: str = ""
    log_bytes: int = 0
    end: Literal["", "left", "canceled", "broken"] = ""


@dataclass(frozen=True)
class JobState:
    """One job's part of the site's state."""

    state: BlobStore
    job_id: str

    def name(self, what: str) -> str:
        """Return the blob that holds *what* about this job."""
        return f"jobs/{self.job_id}/{what}"

    def put_spec(self, spec: Mapping[str, Any]) -> None:
        """Say what the job shall do."""
        write_json(self.state, self.name("spec.json"), spec)

    def spec(self) -> dict[str, Any]:
        """Return what the job shall do; raise `BlobNotFound`."""
        found: dict[str, Any] = read_json(self.state, self.name("spec.json"))
        return found

    def is_known(self) -> bool:
        """Tell whether there ever was such a job."""
        try:
            self.state.stat(self.name("spec.json"))
        except BlobNotFound:
            return False
        return True

    def claim(self, first: Beat) -> str | None:
        """Begin: return the version to overwrite next; None when the job was called off, or another began it."""
        try:
            return self.state.create(self.name("beat.json"), _dump(first)).etag
        except BlobExists:
            etag = self.state.stat(self.name("beat.json")).etag
            return etag if self._beat_at(etag) == first else None  # the same: an answer was lost

    def beat(self, beat: Beat, etag: str) -> str | None:
        """Give a sign of life; return the version to overwrite next, None when the job was called off."""
        name = self.name("beat.json")
        while True:
            try:
                return self.state.replace(name, _dump(beat), etag=etag).etag
            except BlobChanged:
                etag = self.state.stat(name).etag
            if self._beat_at(etag).end in ("canceled", "broken"):
                return None  # else it is the job's own beat before, whose answer was lost

    def last_beat(self) -> Beat | None:
        """Return the last sign of life, if there was one."""
        with suppress(BlobNotFound):
            return Beat(**read_json(self.state, self.name("beat.json")))
        return None

    def call_off(self, end: Literal["canceled", "broken"] = "canceled") -> bool:
        """See to it that the job does not end well any more; return False when it has ended already."""
        name, off = self.name("beat.json"), _dump(Beat(end=end))
        while True:
            try:
                self.state.create(name, off)
                return True
            except BlobExists:
                etag = self.state.stat(name).etag
            with suppress(BlobChanged):
                if found := self._beat_at(etag).end:
                    return found != "left"
                self.state.replace(name, off, etag=etag)
                return True

    def _beat_at(self, etag: str) -> Beat:
        return Beat(**json.loads(self.state.read(self.name("beat.json"), etag=etag)))

    def put_log(self, offset: int, data: bytes) -> None:
        """Add the log's bytes from *offset* on."""
        with suppress(BlobExists):  # sent before, and the answer was lost
            self.state.create(self.name(f"log/{offset:0{_OFFSET_DIGITS}}"), data)

    def log(self, offset: int) -> bytes:
        """Return the log from *offset* on."""
        return b"".join(self._log_from(offset))

    def _log_from(self, offset: int) -> Iterator[bytes]:
        prefix = self.name("log/")
        starts = [int(name.removeprefix(prefix)) for name in self.state.names(prefix)]
        first = max((start for start in starts if start <= offset), default=0)
        for start in starts:
            if start >= first:
                data = self.state.read(f"{prefix}{start:0{_OFFSET_DIGITS}}")
                yield data[max(0, offset - start) :]

    def leave(self, left: Mapping[str, Any]) -> None:
        """Put down result or failure, and the files; it holds with the beat that says so."""
        write_json(self.state, self.name("left.json"), left)

    def left(self) -> dict[str, Any]:
        """Return what the job left: `{"result", "failure", "files"}`; raise `BlobNotFound`."""
        found: dict[str, Any] = read_json(self.state, self.name("left.json"))
        return found


def _dump(beat: Beat) -> bytes:
    return json.dumps(asdict(beat)).encode()
