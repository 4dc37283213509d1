"""Waivers on record: what of a model people let leave although the scan does not; each signed.

    waivers/MODEL/N.json   the waiver: what it is about, who gave it, why, until when; or that it was taken back

That it was taken back is written over it, with the waiver as it was inside, so there is no second file to take away
after which it would count again; only one that an earlier insitu took back has such a file, N-revoked.json, until it is
taken back again. One that has ended, was taken back, is not as it was signed, or is by somebody whom the site does not
let decide, is as if it were not there.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from insitu.acts import Act
from insitu.decisions import iso
from insitu.errors import BlobChanged, BlobExists, BlobNotFound, LeakFound, SignatureRefused, UsageError
from insitu.ports import BlobStore
from insitu.residency.waivers import Find, Scope
from insitu.signing import Keys, sign, verify

PAYLOAD_TYPE = "application/vnd.insitu.waiver.v1+json"
REVOKED_TYPE = "application/vnd.insitu.waiver-revocation.v1+json"
WAIVED = "waived"
"""The journal's name of what left by waivers, and by which."""

_BESIDE = "-revoked.json"
Status = Literal["counts", "ended", "revoked", "not allowed", "altered"]


@dataclass(frozen=True)
class Waiver:
    """What a person lets leave.

    Attributes:
        number: From 1, per model.
        scope: What it is about.
        who: The name that was given; nobody checks it.
        when: UTC, ISO form.
        expires: Until when it counts.
    """

    number: int
    model: str
    site: str
    scope: Scope
    who: str
    reason: str
    when: str
    expires: str


@dataclass(frozen=True)
class Known:
    """A waiver as it lies in the state; None where it cannot be read as what a trusted key has signed."""

    name: str
    digest: str
    status: Status
    waiver: Waiver | None

    def told(self) -> dict[str, Any]:
        """Return who let what leave, as JSON values."""
        if self.waiver is None:
            return {"record": self.name, "digest": self.digest}
        told = {key: getattr(self.waiver, key) for key in ("number", "who", "when", "reason", "expires")}
        return {**told, "record": self.name, "digest": self.digest}

    def to_json(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        scope = self.waiver and asdict(self.waiver.scope) | {"columns": list(self.waiver.scope.columns)}
        return {**self.told(), "status": self.status, "scope": scope}

    def render(self) -> str:
        """Return one line for people."""
        if self.waiver is None:
            return f"{self.name}: {self.status}, it does not count"
        one = self.waiver
        but = "" if self.status == "counts" else f": {self.status}, it does not count"
        return f"waiver {one.number} by {one.who} until {one.expires}: {one.scope.told}{but}"


@dataclass(frozen=True)
class Revocation:
    """That a waiver was taken back.

    Attributes:
        name: Of the waiver in the state.
        waiver: Its envelope as it was.
        who: The name that was given; nobody checks it.
        when: UTC, ISO form.
    """

    name: str
    site: str
    waiver: str
    who: str
    reason: str
    when: str


_ADAPTER, _REVOCATION = TypeAdapter(Waiver), TypeAdapter(Revocation)


@dataclass(frozen=True)
class Waivers:
    """The waivers of one model at one site.

    Attributes:
        allowed: Whether the site lets people waive anything.
        approvers: Who may; none: anybody.
    """

    state: BlobStore
    keys: Keys
    site: str
    model: str
    allowed: bool
    approvers: tuple[str, ...] = ()

    @property
    def folder(self) -> str:
        """Where they are."""
        return f"waivers/{self.model}/"

    def all(self, now: datetime) -> list[Known]:
        """Return every waiver, oldest first, and whether it counts."""
        names = set(self.state.names(self.folder))
        given = sorted((name for name in names if not name.endswith(_BESIDE)), key=lambda name: (len(name), name))
        return [self._known(name, now, is_revoked=name.removesuffix(".json") + _BESIDE in names) for name in given]

    def standing(self, now: datetime) -> list[Known]:
        """Return those that count."""
        return [one for one in self.all(now) if one.status == "counts"]

    def give(self, scope: Scope, act: Act, expires: datetime, now: datetime) -> Known:
        """Sign a waiver and write it down; return it. The caller has seen that the site allows it."""
        if expires <= now:
            raise UsageError("the waiver would end before it counts", found=iso(expires))
        number = len(self.all(now)) + 1
        while True:
            waiver = Waiver(number, self.model, self.site, scope, act.who, act.reason, iso(now), iso(expires))
            try:
                self.state.create(f"{self.folder}{number}.json", self._signed(PAYLOAD_TYPE, waiver))
            except BlobExists:
                number += 1
            else:
                return self._known(f"{self.folder}{number}.json", now)

    def revoke(self, number: int, act: Act, now: datetime) -> Known:
        """Take a waiver back, once and for all; return it. Raise `UsageError` when there is none of that number."""
        name = f"{self.folder}{number}.json"
        try:
            etag = self.state.stat(name).etag  # first: what is written over is then what was looked at
            envelope = self.state.read(name, etag=etag)
            if self._revoked(name, envelope) is None:
                waiver = envelope.decode(errors="replace")
                revocation = Revocation(name, self.site, waiver, act.who, act.reason, iso(now))
                self.state.replace(name, self._signed(REVOKED_TYPE, revocation), etag=etag)
        except BlobNotFound:
            raise UsageError(
                f"{self.model} has no waiver {number}", next_action=f"see `insitu waivers list {self.model}`"
            ) from None
        except BlobChanged:  # somebody else takes it back
            return self.revoke(number, act, now)
        return self._known(name, now)

    def settled(self, waived: Iterable[Mapping[str, Any]], now: datetime) -> list[dict[str, Any]]:
        """Return what was *waived*, each find with the waiver by which it may leave now: its own, or another.

        Raises:
            LeakFound: One of them is not waived any more.
        """
        known, taken, finds = self.all(now), Counter[str](), list(waived)
        for one in finds:
            taken[one["waiver"]["digest"]] += one["count"]
        return [{**one, "waiver": self._by(one, known, taken).told()} for one in finds]

    def _by(self, waived: Mapping[str, Any], known: Sequence[Known], taken: Counter[str]) -> Known:
        """Return the waiver for a find; *taken*: how many records each has let pass, which another's add to."""
        find, own = Find.of(waived), waived["waiver"]["digest"]
        fitting = [one for one in known if one.status == "counts" and one.waiver and one.waiver.scope.covers(find)]
        for one in sorted(fitting, key=lambda one: one.digest != own):
            if one.digest == own:  # the scan has counted all that it lets pass together
                return one
            most = one.waiver.scope.most if one.waiver else None
            if most is None or taken[one.digest] + find.count <= most:
                taken[one.digest] += find.count
                return one
        was = [one.render() for one in known if one.name == waived["waiver"]["record"]]
        raise LeakFound(
            f"the model of {self.model} may not leave: what was waived is not waived any more",
            found=f"{find.told}; {was[0] if was else 'its waiver is gone'}",
            wanted="a waiver that counts until the image is published",
            next_action=f"train a model that keeps no rows, or have it waived anew: insitu waive {self.model}",
        )

    def _signed(self, kind: str, value: Waiver | Revocation) -> bytes:
        payload = json.dumps(asdict(value), sort_keys=True, separators=(",", ":")).encode()
        return sign(kind, payload, self.keys.own())

    def _known(self, name: str, now: datetime, *, is_revoked: bool = False) -> Known:
        envelope, revoked = self.state.read(name), is_revoked
        while found := self._revoked(name, envelope):  # once; of two at once an earlier insitu kept one in the other
            envelope, revoked = found.waiver.encode(), True
        digest = f"sha256:{sha256(envelope).hexdigest()}"
        try:
            waiver = _ADAPTER.validate_json(verify(envelope, PAYLOAD_TYPE, self.keys.trusted()))
        except (SignatureRefused, ValidationError):
            return Known(name, digest, "revoked" if revoked else "altered", None)
        about = (waiver.site, waiver.model, f"{self.folder}{waiver.number}.json")
        if about != (self.site, self.model, name):
            return Known(name, digest, "revoked" if revoked else "altered", None)
        return Known(name, digest, "revoked" if revoked else self._status(waiver, now), waiver)

    def _revoked(self, name: str, envelope: bytes) -> Revocation | None:
        """Return that the waiver was taken back, where that is what lies there."""
        with suppress(SignatureRefused, ValidationError):
            found = _REVOCATION.validate_json(verify(envelope, REVOKED_TYPE, self.keys.trusted()))
            if (found.site, found.name) == (self.site, name):
                return found
        return None

    def _status(self, waiver: Waiver, now: datetime) -> Status:
        if now >= datetime.fromisoformat(waiver.expires):
            return "ended"
        may = self.allowed and (not self.approvers or waiver.who in self.approvers)
        return "counts" if may else "not allowed"
