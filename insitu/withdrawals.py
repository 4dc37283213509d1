"""Rollbacks on record: which version of a model gave way to which; each signed, written once and never changed.

    rollbacks/MODEL/N.json       the order; from here on the version that gave way is withdrawn
    rollbacks/MODEL/N-done.json  what came of it, once alias, tag and deployments have followed

A version that is withdrawn becomes champion by no run any more, only by a rollback to it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from insitu.errors import BlobExists, BlobNotFound, SignatureRefused
from insitu.journal import read_json
from insitu.ports import BlobStore
from insitu.signing import Keys, sign, verify

PAYLOAD_TYPE = "application/vnd.insitu.rollback.v1+json"
_DONE = "-done.json"


@dataclass(frozen=True)
class Rollback:
    """One order.

    Attributes:
        number: From 1, per model.
        was: The version that gives way.
        to: The version that takes its place, with the digest of its image.
        who: The name that was given; nobody checks it.
        when: UTC, ISO form.
    """

    number: int
    model: str
    site: str
    was: str
    to: str
    digest: str
    who: str
    reason: str
    when: str


_ADAPTER = TypeAdapter(Rollback)


@dataclass(frozen=True)
class Withdrawals:
    """The rollbacks of one model at one site."""

    state: BlobStore
    keys: Keys
    site: str
    model: str

    def orders(self) -> Sequence[Rollback]:
        """Return every order, oldest first; raise `SignatureRefused` for one that no trusted key has signed."""
        return [self._read(name) for name in _names(self.state, self.model)]

    def withdrawn(self) -> frozenset[str]:
        """Return the versions that people have rolled back from, and not to since."""
        return frozenset(gone([asdict(one) for one in self.orders()]))

    def give(self, order: Rollback) -> None:
        """Sign the order and write it down; raise `BlobExists` when its number is taken."""
        payload = json.dumps(asdict(order), sort_keys=True, separators=(",", ":")).encode()
        self.state.create(self.name(order), sign(PAYLOAD_TYPE, payload, self.keys.own()))

    def outcome(self, order: Rollback) -> Any:
        """Return what came of the order; None while it is not done."""
        try:
            return read_json(self.state, self.name(order).replace(".json", _DONE))
        except BlobNotFound:
            return None

    def close(self, order: Rollback, outcome: Any) -> None:
        """Write down what came of the order; the first to do so counts."""
        with suppress(BlobExists):
            self.state.create(self.name(order).replace(".json", _DONE), json.dumps(outcome, indent=1).encode())

    def name(self, order: Rollback) -> str:
        """Return the name of the order in the site's state."""
        return f"rollbacks/{self.model}/{order.number}.json"

    def _read(self, name: str) -> Rollback:
        try:
            order = _ADAPTER.validate_json(verify(self.state.read(name), PAYLOAD_TYPE, self.keys.trusted()))
        except ValidationError:
            raise SignatureRefused(f"{name} in the site's state holds no rollback") from None
        except SignatureRefused as exc:
            raise SignatureRefused(
                f"{name} in the site's state is not trusted: {exc.what}",
                found=exc.found,
                wanted=exc.wanted,
                next_action="if the key was changed, name the earlier public key in signing.trusted (docs/gate.md);"
                " else somebody has altered it: find out who, then remove that file",
            ) from None
        if (order.site, order.model, self.name(order)) != (self.site, self.model, name):
            raise SignatureRefused(f"{name} in the site's state is a rollback of something else")
        return order


def told(state: BlobStore, model: str) -> list[dict[str, Any]]:
    """Return every order as JSON values, oldest first, for people to read: signatures are not looked at."""
    found = []
    for name in _names(state, model):
        with suppress(ValueError, KeyError, TypeError):
            found.append(asdict(_ADAPTER.validate_json(base64.b64decode(read_json(state, name)["payload"]))))
    return found


def gone(orders: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the versions that *orders*, oldest first, have withdrawn and not brought back, each with its order."""
    out: dict[str, dict[str, Any]] = {}
    for order in orders:
        out[order["was"]] = order
        out.pop(order["to"], None)
    return out


def _names(state: BlobStore, model: str) -> list[str]:
    names = [name for name in state.names(f"rollbacks/{model}/") if not name.endswith(_DONE)]
    return sorted(names, key=lambda name: (len(name), name))  # 2 before 10
