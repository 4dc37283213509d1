"""What Prefect's schedules do on the days when clocks change, asked with a clock that stands at a day of our choice."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from flows.deploying.schedules import clock_changes, odd_days

SEEN_FROM = datetime(2026, 12, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("timezone", "cron", "told"),
    [
        (
            "Europe/Berlin",
            "30 2 * * *",
            [
                "on 2027-03-28 02:30 does not exist: it fires at 01:30",
                "on 2027-10-31 02:30 comes twice: it fires once, the first time",
            ],
        ),
        (
            "Europe/Berlin",
            "*/30 * * * *",
            [
                "on 2027-03-28 02:00, 02:30 do not exist: it does not fire at 02:00, 02:30",
                "on 2027-10-31 02:00, 02:30 come twice: it is silent for 90 minutes",
            ],
        ),
        (
            "America/New_York",
            "15 2 * * *",
            ["on 2027-03-14 02:15 does not exist: it fires at 01:15"],
        ),
        (
            "America/New_York",
            "* * * * *",
            [
                "on 2027-03-14 02:00 to 02:59 do not exist: it does not fire at 02:00 to 02:59",
                "on 2027-11-07 01:00 to 01:59 come twice: it is silent for 61 minutes",
            ],
        ),
        (  # clocks change by half an hour
            "Australia/Lord_Howe",
            "15 2 * * *",
            ["on 2027-10-03 02:15 does not exist: it fires at 01:45"],
        ),
        (
            "Australia/Lord_Howe",
            "45 1 * * *",
            ["on 2027-04-04 01:45 comes twice: it fires once, the first time"],
        ),
    ],
)
def test_a_fire_time_that_does_not_exist_or_exists_twice_is_told(timezone: str, cron: str, told: list[str]) -> None:
    assert [str(day) for day in odd_days(cron, timezone, SEEN_FROM)] == told


@pytest.mark.parametrize(
    ("timezone", "cron"),
    [
        ("UTC", "30 2 * * *"),
        ("UTC", "* * * * *"),
        ("Asia/Kolkata", "30 2 * * *"),  # no change of clocks at all
        ("Europe/Berlin", "0 3 * * *"),  # the first moment after a change in spring
        ("Europe/Berlin", "30 1 * * *"),
        ("Europe/Berlin", "30 2 1 * *"),  # never on the day of a change
    ],
)
def test_nothing_is_told_where_every_fire_time_exists_once(timezone: str, cron: str) -> None:
    assert odd_days(cron, timezone, SEEN_FROM) == []


def test_only_what_lies_ahead_is_told() -> None:
    day_after = datetime(2027, 3, 29, tzinfo=UTC)
    (told,) = odd_days("30 2 * * *", "Europe/Berlin", day_after, timedelta(days=300))
    assert told.day.isoformat() == "2027-10-31"
    assert odd_days("30 2 * * *", "Europe/Berlin", day_after, timedelta(days=200)) == []


@pytest.mark.parametrize(
    ("timezone", "moments"),
    [
        ("Europe/Berlin", ["2027-03-28T01:00", "2027-10-31T01:00"]),
        ("America/New_York", ["2027-03-14T07:00", "2027-11-07T06:00"]),
        ("Australia/Lord_Howe", ["2027-04-03T15:00", "2027-10-02T15:30"]),
        ("UTC", []),
    ],
)
def test_changes_of_clocks_are_found_to_the_second(timezone: str, moments: list[str]) -> None:
    changes = clock_changes(ZoneInfo(timezone), SEEN_FROM, timedelta(days=366))
    assert [change.at.replace(tzinfo=None).isoformat(timespec="minutes") for change in changes] == moments
