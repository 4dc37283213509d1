"""The search for planted tokens finds them: without this, finding none would say nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from plants import Plant, disguises, forms, found, held_by

PLANTS = ("Ada-Lovelace-1815", 8273.918273645, 918273645)


@pytest.mark.parametrize("plant", PLANTS)
@pytest.mark.parametrize("disguise", disguises(b""))
def test_a_token_is_found_in_every_form(plant: Plant, disguise: str) -> None:
    for form in forms(plant):
        content = disguises(b"some words " + form + b" and more words")[disguise]
        assert held_by(b"POST /a HTTP/1.1\nhost: a\n\n" + content, [plant, "another"]) == [plant]


def test_nothing_is_found_where_nothing_is() -> None:
    for form in disguises(b"Ada-Lovelace-1816 8273.9 some words").values():
        assert held_by(form, PLANTS) == []


def test_bodies_and_lines_are_searched(tmp_path: Path) -> None:
    (tmp_path / "bodies").mkdir()
    (tmp_path / "bodies" / "000001-a.example").write_bytes(disguises(b"x Ada-Lovelace-1815 x")["base64"])
    (tmp_path / "bodies" / "000002-a.example").write_bytes(b"nothing")
    (tmp_path / "egress.jsonl").write_text('{"path": "/a?b=Ada-Lovelace-1815"}\n')
    assert found(tmp_path, PLANTS) == {name: [PLANTS[0]] for name in ("egress.jsonl", "000001-a.example")}
