"""The egress ledger of a run: what left the site, in order, each entry bound to the one before.

An entry is written down before its object goes. It holds the digest of the entry before it, so whoever changes, removes
or inserts one has to change all that follow; their last digest, the head, is what statements sign. How many there are
and their head is signed, too, whenever the run's record is written: so none can be cut off the end.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from hashlib import sha256
from typing import Any

from insitu.errors import SignatureRefused, StateDamaged
from insitu.signing import PublicKey, SigningKey, sign, verify

FIELDS = ("what", "destination", "bytes", "sha256", "clearance", "when", "previous")

PAYLOAD_TYPE = "application/vnd.insitu.ledger-head.v1+json"
"""What signed heads are; the signature covers it."""

_ALTERED = "somebody has altered it: find out who; a backup of the site's state has what was there"

Entry = Mapping[str, Any]
"""`what` went to which `destination`: `bytes` with this `sha256`, since the `clearance` lets them, `when`."""


def extended(entries: Sequence[Entry], sent: Mapping[str, Any], clearance: str, when: str) -> list[Entry]:
    """Return *entries* and one more: *sent* (what, destination, bytes, sha256) is about to go. Tried again, it is one.

    An object that went under another clearance, as one that was waived first, is another entry.
    """
    said = {**sent, "clearance": clearance}
    if any(said.items() <= entry.items() for entry in entries):
        return list(entries)
    return [*entries, {**said, "when": when, "previous": head(entries)}]


def head(entries: Sequence[Entry]) -> str:
    """Return the digest that stands for all *entries*; of none, the empty text."""
    return digest_of(entries[-1]) if entries else ""


def digest_of(entry: Entry) -> str:
    """Return the digest of one entry."""
    return f"sha256:{sha256(json.dumps(entry, sort_keys=True, separators=(',', ':')).encode()).hexdigest()}"


def require_whole(entries: Sequence[Entry], signed: Sequence[str] = ()) -> None:
    """Check that each entry follows the one before, and that every head that was *signed* is among them.

    Raises:
        StateDamaged: The number of the first entry that does not, or that signed entries are gone.
    """
    before, heads = "", {""}
    for number, entry in enumerate(entries, 1):
        if set(entry) != set(FIELDS) or entry["previous"] != before:
            raise StateDamaged(
                f"the egress ledger is not as it was written: entry {number} of {len(entries)} does not follow",
                found=str(entry.get("previous", "no digest of it"))[:19] or "no digest of it",
                wanted=before[:19] or "the first entry",
                next_action=_ALTERED,
            )
        before = digest_of(entry)
        heads.add(before)
    if missing := [one for one in signed if one not in heads]:
        raise StateDamaged(
            f"the egress ledger of {len(entries)} entries is not the one that was signed",
            found=f"no entry {missing[0][:19]}",
            wanted="every entry that a statement speaks of",
            next_action=_ALTERED,
        )


def signed_head(entries: Sequence[Entry], run_key: str, when: str, key: SigningKey) -> dict[str, Any]:
    """Return the signed word, as JSON values, that the ledger of a run has these *entries* and no others at *when*."""
    told = {"run_key": run_key, "entries": len(entries), "head": head(entries), "when": when}
    envelope: dict[str, Any] = json.loads(sign(PAYLOAD_TYPE, json.dumps(told, sort_keys=True).encode(), key))
    return envelope


def entries_since(
    entries: Sequence[Entry], run_key: str, envelope: Mapping[str, Any], trusted: Collection[PublicKey]
) -> int:
    """Return how many entries came after the head in *envelope* was signed; see `signed_head`.

    Raises:
        StateDamaged: Entries that were signed are gone or are others, or the word is another run's or nobody's.
    """
    try:
        told = json.loads(verify(json.dumps(envelope).encode(), PAYLOAD_TYPE, trusted))
        count, its_head, its_run = int(told["entries"]), str(told["head"]), str(told["run_key"])
    except (SignatureRefused, ValueError, KeyError, TypeError) as exc:
        found = exc.what if isinstance(exc, SignatureRefused) else type(exc).__name__
        raise _end_is_not_signed("the end of the egress ledger is not signed by this site", found) from None
    if its_run != run_key:
        raise _end_is_not_signed("the end of the egress ledger is signed for another run", its_run[:12])
    if len(entries) < count:
        raise _end_is_not_signed(
            f"{count - len(entries)} of the {count} entries of the egress ledger that were signed are gone",
            f"{len(entries)} entries",
        )
    if head(entries[:count]) != its_head:
        raise _end_is_not_signed(f"the first {count} entries of the egress ledger are not those that were signed", "")
    return len(entries) - count


def _end_is_not_signed(what: str, found: str) -> StateDamaged:
    return StateDamaged(what, found=found or None, wanted="the entries that were signed", next_action=_ALTERED)
