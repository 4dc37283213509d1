"""Whose work it is: a claim by conditional create, with a lease and an epoch.

A claim is a blob that is named for the work, and the work is named for its blobs' ETags and the rule. Its holder knows
the version that he wrote last; every further write names it. Whoever takes over from one that has been silent for the
lease writes another version with the next epoch, so a holder that comes back finds every write refused, by the store.
Whether a lease is over is told by the store's own times: clocks of the watchers do not matter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol

from insitu.crashpoints import crashpoint
from insitu.errors import BlobNotFound, InsituError
from insitu.ports import BlobStore
from insitu.triggers import documents

State = Literal["working", "free", "failed", "done"]


class ClaimLost(InsituError):
    """Another watcher has taken the work over."""

    code = "E-CLAIM"


@dataclass(frozen=True)
class Claim:
    """One version of a claim.

    Attributes:
        epoch: How often the work was taken, from 1.
        failures: How many attempts have failed.
        waits: How many attempts have found another run of the model under way.
        outcome: What is known of the last attempt.
        beats: How often the holder has said that it is alive.
        etag: The version in the store.
    """

    work: str
    owner: str
    epoch: int = 1
    state: State = "working"
    failures: int = 0
    waits: int = 0
    outcome: dict[str, Any] | None = None
    beats: int = 0
    etag: str = ""


class Claims(Protocol):
    """Gives a work to one watcher at a time."""

    def take(self, work: str, now: Callable[[], datetime]) -> Claim | None:
        """Return the claim of the caller; None when it is another's, or not due."""
        ...

    def look(self, work: str) -> Claim | None:
        """Return the claim as it is; None when there is none."""
        ...

    def write(self, claim: Claim) -> Claim:
        """Write what the holder has changed; return the new version; raise `ClaimLost`."""
        ...


@dataclass(frozen=True)
class StateClaims:
    """Claims as blobs `FOLDER/WORK.json` of the site's state."""

    state: BlobStore
    folder: str
    owner: str
    lease_s: float
    retry_s: float

    def take(self, work: str, now: Callable[[], datetime]) -> Claim | None:
        """Return the claim of the caller; None when it is another's, or not due."""
        found = self._read(work)
        if found is None:
            return self._put(Claim(work, self.owner), None)
        there, written = found
        if there.state == "done" or not self._is_due(there, now() - written):
            return None
        mine = replace(there, owner=self.owner, epoch=there.epoch + 1, state="working", beats=0)
        return self._put(mine, there.etag)

    def look(self, work: str) -> Claim | None:
        """Return the claim as it is; None when there is none."""
        found = self._read(work)
        return found[0] if found else None

    def write(self, claim: Claim) -> Claim:
        """Write what the holder has changed; return the new version; raise `ClaimLost`."""
        written = self._put(replace(claim, beats=claim.beats + 1), claim.etag)
        if written is None:
            raise ClaimLost(
                f"work {claim.work[:12]} was taken over by another watcher",
                found=f"epoch {claim.epoch} is over",
                next_action="nothing: the other one goes on with it",
            )
        return written

    def _is_due(self, there: Claim, silent: timedelta) -> bool:
        wait_s = {
            "working": self.lease_s,
            "failed": self.retry_s * 2 ** max(0, there.failures - 1),
            "free": 0.0,
        }[there.state]
        return there.state == "free" or silent.total_seconds() > wait_s

    def _read(self, work: str) -> tuple[Claim, datetime] | None:
        """Return the claim and when it was written, of the same version."""
        while True:
            try:
                blob = self.state.stat(self._name(work))
            except BlobNotFound:
                return None
            found = documents.read(self.state, self._name(work))
            if found and found[1] == blob.etag:
                return Claim(**{**found[0], "etag": blob.etag}), blob.last_modified

    def _put(self, claim: Claim, etag: str | None) -> Claim | None:
        """Write a version over the version *etag*; None when that is not there any more."""
        crashpoint("watch:claim-to-write")
        written = documents.write(self.state, self._name(claim.work), asdict(replace(claim, etag="")), etag)
        crashpoint("watch:claim-written")
        return replace(claim, etag=written) if written else None

    def _name(self, work: str) -> str:
        return f"{self.folder}{work}.json"
