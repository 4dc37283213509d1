"""Names of blobs may tell who somebody is: nothing that leaves holds them, unless a site lets them go as they are."""

from __future__ import annotations

import json
from typing import Any

import pytest

from insitu.residency.names import Naming, outward
from insitu.residency.statement import lines, predicate_of
from insitu.signing import SigningKey

PLANT = "jane-doe-1931-04-02"
NAMES = [f"patient={PLANT}/scans.parquet", "patient=x/scans.parquet"]


def new_key() -> SigningKey:
    key = SigningKey.from_pem(SigningKey.new_pem().encode())
    assert key
    return key


KEY = new_key()


def said(naming: Naming) -> dict[str, Any]:
    return predicate_of(
        {"residency": None, "network": "none"}, {}, {"entries": 0, "head": ""}, outward(NAMES, naming, KEY)
    )


@pytest.mark.parametrize(("naming", "told"), [("none", False), ("keyed", False), ("plain", True)])
def test_a_statement_holds_a_name_only_where_names_may_go_as_they_are(naming: Naming, told: bool) -> None:
    assert (PLANT in json.dumps(said(naming))) is told
    assert any("under the key" in line for line in lines(said(naming))[0]) is (naming == "keyed")


def test_under_a_key_a_name_is_the_same_each_time_and_another_one_under_another_key() -> None:
    assert outward(NAMES, "keyed", KEY) == outward(NAMES, "keyed", KEY)
    assert not {*outward(NAMES, "keyed", KEY)} & {*outward(NAMES, "keyed", new_key())}
    assert len({*outward(NAMES, "keyed", KEY)}) == len(NAMES)


def test_a_statement_of_a_site_that_names_no_blobs_says_nothing_of_them() -> None:
    assert "blobs" not in said("none")
