"""The egress ledger of a run: what left the site, in order, each entry bound to the one before.

An entry is written down before its object goes. It holds the digest of the entry before it, so whoever changes, removes
or inserts one has to change all that follow; their last digest, the head, is what statements sign.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

from insitu.errors import StateDamaged

FIELDS = ("what", "destination", "bytes", "sha256", "clearance", "when", "previous")

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
                next_action="somebody has altered it: find out who; a backup of the site's state has what was there",
            )
        before = digest_of(entry)
        heads.add(before)
    if missing := [one for one in signed if one not in heads]:
        raise StateDamaged(
            f"the egress ledger of {len(entries)} entries is not the one that was signed",
            found=f"no entry {missing[0][:19]}",
            wanted="every entry that a statement speaks of",
            next_action="somebody has altered it: find out who; a backup of the site's state has what was there",
        )
