"""A flow run is called for when its data is from, and never by a partition that could be somebody."""

from __future__ import annotations

import pytest

from flows.running.naming import became, newest

FINGERPRINT = "0123456789abcdef"


@pytest.mark.parametrize(
    ("blob", "name"),
    [
        ("year=2013/month=10/flights.parquet", "2013-10"),
        ("month=10/flights.parquet", "month 10"),
        ("date=2013-10-01/part-0.csv", "2013-10-01"),
        ("year=2013/customer=Meyer/a.parquet", "year 2013"),
        ("patient=4711/a.parquet", "batch 01234567"),
        ("year=secret/month=10/a.parquet", "month 10"),
        ("october.csv", "batch 01234567"),
    ],
)
def test_only_what_says_when_is_taken_from_a_blobs_name(blob: str, name: str) -> None:
    assert newest(blob, FINGERPRINT) == name


def test_the_outcome_is_the_version_or_what_was_decided_or_the_class_of_the_error() -> None:
    published = {
        "error": None,
        "state": "Completed",
        "model_version": {"version": "4"},
        "decision": {"outcome": "Promoted"},
    }
    failed = {"error": {"code": "E-TRAIN"}, "state": "Failed", "model_version": None, "decision": None}
    rejected = {"error": None, "state": "NotPromoted", "model_version": None, "decision": {"outcome": "Rejected"}}
    assert [became(one) for one in (published, rejected, failed)] == ["v4", "Rejected", "E-TRAIN"]
