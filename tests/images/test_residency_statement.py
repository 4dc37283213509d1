"""What is said about records in an image: it must agree with what is there, and says what was not looked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from attested import KEY, STRANGER, TRUSTED, Attested, tiny_image
from plants import held_by

from insitu.errors import SignatureRefused
from insitu.images.attest import attach_statements
from insitu.images.described import describe
from insitu.images.inventory import inventory
from insitu.images.statements import RESIDENCY, residency
from insitu.residency.statement import predicate_of
from insitu.verifying import Verified, verify_image

SCAN = {
    "scanner": "insitu-residency/1",
    "verdict": "clear",
    "rows": 281_373,
    "rows_looked_for": 281_373,
    "fitted": 7,
    "entries": 6_279_823,
    "threshold_bits": 50.9,
    "bytes_scanned": 337_513,
    "rows_found": 0,
    "cells_found": 0,
    "holders": [],
    "seconds": 3.0,
}
LEDGER = {"entries": 7, "head": f"sha256:{'a' * 64}"}


def stated(root: Path, key: Any = KEY, **trained: Any) -> Attested:
    """Return a tiny image, with a residency statement."""
    made = tiny_image(root)
    image = describe(made.images, made.digest)
    files = inventory(made.images, image.layers).model
    told = predicate_of({"residency": SCAN, "network": "none", **trained}, files, LEDGER)
    attach_statements(made.images, made.image, [residency(image, told)], key)
    return made


def verified(made: Attested) -> Verified:
    return verify_image(made.images, made.digest, TRUSTED)


def test_what_was_looked_for_and_what_was_not_are_told(tmp_path: Path) -> None:
    found = verified(stated(tmp_path))
    assert any("281,373 of 281,373 rows were looked for" in line for line in found.proved)
    assert any("saw no network but its own loopback, and none of the daemons" in line for line in found.proved)
    assert any("7 objects had been listed before they left" in line for line in found.proved)
    assert any("XOR" in line for line in found.unproved)
    assert not any("no residency statement" in line for line in found.unproved)


def test_a_model_that_nobody_scanned_and_a_job_with_a_network_are_not_called_proof(tmp_path: Path) -> None:
    found = verified(stated(tmp_path, residency=None, network="shared"))
    assert any("nobody scanned it" in line for line in found.unproved)
    assert any("shared a network" in line for line in found.unproved)
    assert not any("rows were looked for" in line for line in found.proved)


def test_of_a_proxy_counts_are_told_and_no_name(tmp_path: Path) -> None:
    asked = {
        "allowed": {"hub.example:443": 12},
        "refused": {"ada-lovelace-1815.example:443": 2, "elsewhere.example:443": 1},
    }
    made = stated(tmp_path, network="proxy", destinations=asked)
    proved = "no network but a proxy that led to the site's stores alone (1 reached, 3 requests to others refused)"
    assert any(proved in line for line in verified(made).proved)
    layout = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    assert held_by(layout, ["ada-lovelace-1815", "hub.example", "had listed"]) == []
    assert held_by(layout, ["sha256"]) == ["sha256"]


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("files", {"model.onnx": "0" * 64}),
        ("files", {}),
        ("scan", {"verdict": "clear"}),
        ("ledger", None),
        ("not_checked", None),
        ("network", KeyError),
    ],
)
def test_a_statement_that_does_not_fit_or_says_less_is_refused(tmp_path: Path, part: str, value: Any) -> None:
    made = stated(tmp_path)

    def change(statement: dict[str, Any]) -> None:
        if value is KeyError:
            del statement["predicate"][part]
        else:
            statement["predicate"][part] = value

    made.resign(RESIDENCY, change)
    with pytest.raises(SignatureRefused, match="residency statement"):
        verified(made)


def test_a_statement_by_a_stranger_proves_nothing(tmp_path: Path) -> None:
    found = verified(stated(tmp_path, key=STRANGER))
    assert any("no residency statement" in line for line in found.unproved)
    assert any("not trusted" in line for line in found.others)


def test_a_statement_about_another_image_is_refused(tmp_path: Path) -> None:
    made, other = stated(tmp_path / "one"), tiny_image(tmp_path / "two", version="2")
    statement = made.statement(RESIDENCY)
    attach = describe(other.images, other.digest)
    attach_statements(other.images, other.image, [residency(attach, statement["predicate"])], KEY)
    other.exchange(RESIDENCY, statement)
    with pytest.raises(SignatureRefused, match="subject"):
        verified(other)


def test_the_time_that_a_scan_took_is_not_said(tmp_path: Path) -> None:
    assert "seconds" not in stated(tmp_path).statement(RESIDENCY)["predicate"]["scan"]
