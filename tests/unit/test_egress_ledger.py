"""The egress ledger: what is written once stays as it was, or everybody sees that it does not."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from insitu.errors import StateDamaged
from insitu.residency.ledger import Entry, entries_since, extended, head, require_whole, signed_head
from insitu.signing import SigningKey

KEY, STRANGER = (SigningKey(Ed25519PrivateKey.generate()) for _ in range(2))


def sent(number: int) -> dict[str, Any]:
    return {"what": f"model file {number}", "destination": "registry", "bytes": number, "sha256": f"{number:064x}"}


def ledger(count: int = 4) -> list[Entry]:
    entries: list[Entry] = []
    for number in range(count):
        entries = extended(entries, sent(number), "scanned", f"2026-01-01T00:00:0{number}+00:00")
    return entries


def test_an_object_is_listed_once_however_often_it_is_tried() -> None:
    assert extended(ledger(), sent(2), "scanned", "2026-02-02T00:00:00+00:00") == ledger()


def test_the_same_object_under_another_clearance_or_to_another_place_is_another_entry() -> None:
    assert len(extended(ledger(), sent(2), "waived", "2026-02-02T00:00:00+00:00")) == 5
    assert len(extended(ledger(), sent(2) | {"destination": "elsewhere"}, "scanned", "later")) == 5


def test_a_whole_ledger_and_an_empty_one_pass() -> None:
    require_whole(ledger(), signed=["", head(ledger(2)), head(ledger())])
    require_whole([], signed=[""])


@pytest.mark.parametrize("field", ["what", "destination", "bytes", "sha256", "clearance", "when", "previous"])
@pytest.mark.parametrize("number", [0, 1, 3])
def test_an_entry_that_was_changed_is_noticed(number: int, field: str) -> None:
    entries = ledger()
    entries[number] = {**entries[number], field: "other"}
    with pytest.raises(StateDamaged, match="the egress ledger"):
        require_whole(entries, signed=[head(ledger())])


def test_entries_that_were_removed_swapped_or_put_between_are_noticed() -> None:
    whole, signed = ledger(), [head(ledger())]
    others = extended([*whole[:2]], sent(9), "scanned", "later")
    for entries in (whole[1:], whole[:1] + whole[2:], whole[:-1], [], whole[::-1], [*others, *whole[2:]]):
        with pytest.raises(StateDamaged):
            require_whole(entries, signed)


def test_what_comes_after_a_signature_does_not_break_it() -> None:
    require_whole(extended(ledger(), sent(9), "scanned", "later"), signed=[head(ledger())])


def test_a_field_that_nobody_wrote_is_noticed() -> None:
    entries = ledger()
    entries[-1] = {**entries[-1], "note": "harmless"}
    with pytest.raises(StateDamaged, match="entry 4 of 4"):
        require_whole(entries)


def signed(entries: list[Entry], run_key: str = "run-1", key: SigningKey = KEY) -> dict[str, Any]:
    return signed_head(entries, run_key, "2026-01-01T00:01:00+00:00", key)


def since(entries: list[Entry], envelope: dict[str, Any], run_key: str = "run-1") -> int:
    return entries_since(entries, run_key, envelope, [KEY.public])


def test_a_ledger_whose_end_is_signed_may_grow_and_that_is_counted() -> None:
    assert since(ledger(), signed(ledger())) == 0
    assert since(ledger(6), signed(ledger())) == 2
    assert since([], signed([])) == 0
    assert since(ledger(1), signed([])) == 1


def test_whatever_is_cut_off_a_signed_end_is_noticed() -> None:
    for left in range(4):
        require_whole(ledger(left))  # the chain alone does not tell
        with pytest.raises(StateDamaged, match=f"{4 - left} of the 4 entries of the egress ledger that were signed"):
            since(ledger(left), signed(ledger()))


def test_a_signed_end_that_was_swapped_is_noticed() -> None:
    other = extended(ledger(3), sent(9), "scanned", "later")
    for entries in (other, [*other, *ledger()[3:]]):
        with pytest.raises(StateDamaged, match="not those that were signed"):
            since(entries, signed(ledger()))


def test_a_signature_of_another_run_of_a_stranger_or_of_nobody_is_noticed() -> None:
    for envelope in (signed(ledger(), key=STRANGER), {}, {**signed(ledger()), "payload": signed(ledger(3))["payload"]}):
        with pytest.raises(StateDamaged, match="not signed by this site"):
            since(ledger(), envelope)
    with pytest.raises(StateDamaged, match="signed for another run"):
        since(ledger(), signed(ledger(), "run-2"))
