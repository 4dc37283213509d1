"""The record of a run, signed by its site: whoever may write the site's state can change it, but not unseen."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any

from insitu.decisions import digest_of
from insitu.errors import SettingsError, SignatureRefused, StateDamaged
from insitu.journal import Journal
from insitu.signing import Keys, PublicKey, sign, verify

RECORD = "record"
"""The journal's name of it."""

SIGNATURE = "signature"
"""Its field with the envelope, whose payload is the digest of all other fields: None where the site had no key."""

_PAYLOAD_TYPE = "application/vnd.insitu.run-record.v1+json"


def keep_record(journal: Journal, keys: Keys, record: Mapping[str, Any]) -> dict[str, Any]:
    """Write the record of a run over what was there, and return it, signed."""
    envelope = None
    with suppress(SettingsError):  # the site's key is not where its settings say
        envelope = json.loads(sign(_PAYLOAD_TYPE, _digest(record).encode(), keys.own()))
    signed = {**record, SIGNATURE: envelope}
    journal.keep(RECORD, signed)
    return signed


def change_record(journal: Journal, keys: Keys, record: Mapping[str, Any], **fields: Any) -> None:
    """Write *record* with other *fields*; one that is not as this site signed it is not signed again."""
    changed = {**record, **fields}
    try:
        require_signed(record, keys.trusted())
    except StateDamaged:
        journal.keep(RECORD, changed)
    else:
        keep_record(journal, keys, changed)


def require_signed(record: Mapping[str, Any], trusted: Collection[PublicKey]) -> None:
    """Raise `StateDamaged` when *record* is not as one of the *trusted* keys has signed it."""
    envelope, wanted = record.get(SIGNATURE), "what the site has signed"
    if not envelope:
        raise StateDamaged("the run record is not signed", wanted=wanted)
    try:
        signed = verify(json.dumps(envelope).encode(), _PAYLOAD_TYPE, trusted).decode()
    except SignatureRefused as exc:
        raise StateDamaged("the run record is not signed by this site", found=exc.what, wanted=wanted) from None
    if signed != _digest(record):
        raise StateDamaged("the run record is not as it was signed", wanted=wanted)


def _digest(record: Mapping[str, Any]) -> str:
    return digest_of({key: value for key, value in record.items() if key != SIGNATURE})
