"""The egress ledger: what is written once stays as it was, or everybody sees that it does not."""

from __future__ import annotations

from typing import Any

import pytest

from insitu.errors import StateDamaged
from insitu.residency.ledger import Entry, extended, head, require_whole


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
