"""What a cron schedule does where the clocks of its zone change: local times that do not exist, or exist twice.

In UTC nothing of this happens. What is told is what Prefect's own scheduler does, asked for the days in question.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

from prefect.server.schemas.schedules import CronSchedule

_AROUND = timedelta(days=1)
_HOUR = timedelta(hours=1)
_PAGE = 1000
"""More fires than this Prefect never tells at once."""


@dataclass(frozen=True)
class ClockChange:
    """A moment at which the clocks of a zone change.

    Attributes:
        at: The moment, in UTC.
        before, after: What local time is ahead of UTC until then, and from then on.
    """

    at: datetime
    before: timedelta
    after: timedelta

    @property
    def strange(self) -> tuple[datetime, datetime]:
        """The local times, from and up to, that do not exist (clocks go forward) or exist twice (back)."""
        one, other = (self.at.replace(tzinfo=None) + shift for shift in (self.before, self.after))
        return min(one, other), max(one, other)

    @property
    def forward(self) -> bool:
        """Whether the clocks go forward."""
        return self.after > self.before


@dataclass(frozen=True)
class OddDay:
    """A day on which a schedule does not do what it says."""

    day: date
    why: str
    does: str

    def __str__(self) -> str:
        return f"on {self.day} {self.why}: it {self.does}"


def clock_changes(zone: ZoneInfo, start: datetime, length: timedelta) -> Iterator[ClockChange]:
    """Yield every change of the clocks of *zone* in the time after *start*."""
    moment = start.astimezone(UTC)
    end = moment + length
    while moment < end:
        later = moment + 24 * _HOUR
        if _ahead(zone, moment) != _ahead(zone, later):
            at = _moment_between(zone, moment, later)
            yield ClockChange(at, _ahead(zone, moment), _ahead(zone, later))
        moment = later


def odd_days(cron: str, timezone: str, start: datetime, length: timedelta = timedelta(days=366)) -> list[OddDay]:
    """Return the days in the time after *start* on which the schedule meets a change of the clocks.

    Args:
        cron: The schedule, as Prefect reads it.
        timezone: The zone whose clocks it follows.
        start: From when on it is looked at; aware.
        length: For how long.
    """
    zone = ZoneInfo(timezone)
    told = (_odd_day(cron, zone, change) for change in clock_changes(zone, start, length))
    return [day for day in told if day]


def _odd_day(cron: str, zone: ZoneInfo, change: ClockChange) -> OddDay | None:
    first, last = change.strange
    meant = _fires(cron, "UTC", first - _AROUND, last + _AROUND)
    hit = [local for local in meant if first <= local < last]
    if not hit:
        return None
    moments = _fires(cron, zone.key, change.at - _AROUND, change.at + _AROUND)
    times = _clock(hit)
    if change.forward:
        return OddDay(first.date(), f"{times} {_do(hit)} not exist", _in_a_gap(meant, moments, zone, hit))
    return OddDay(first.date(), f"{times} {_do(hit, 'comes', 'come')} twice", _in_an_overlap(meant, moments, zone, hit))


def _in_a_gap(meant: Sequence[datetime], moments: Sequence[datetime], zone: ZoneInfo, hit: Sequence[datetime]) -> str:
    """Say what fires instead, or that nothing does."""
    instead = [local for local in _local(moments, zone) if local not in meant]
    return f"fires at {_clock(instead)}" if instead else f"does not fire at {_clock(hit)}"


def _in_an_overlap(
    meant: Sequence[datetime], moments: Sequence[datetime], zone: ZoneInfo, hit: Sequence[datetime]
) -> str:
    """Say how often it fires, and for how long it is silent."""
    fired = [local for local in _local(moments, zone) if local in hit]
    usual, silent = (max((b - a for a, b in pairwise(some)), default=timedelta()) for some in (meant, moments))
    if len(fired) > len(set(fired)):
        return f"fires twice at {_clock(sorted({one for one in fired if fired.count(one) > 1}))}"
    if usual and silent >= 2 * usual:
        return f"is silent for {silent // timedelta(minutes=1)} minutes"
    which = [moment for moment in moments if moment.astimezone(zone).replace(tzinfo=None) in hit]
    folds = {moment.astimezone(zone).fold for moment in which}
    return "does not fire" if not which else f"fires once, the {'second' if folds == {1} else 'first'} time"


def _fires(cron: str, timezone: str, start: datetime, end: datetime) -> list[datetime]:
    """Return when Prefect's scheduler fires: in UTC, or for naive bounds as local times that no clock change bends."""
    zone, schedule = start.tzinfo, CronSchedule(cron=cron, timezone=timezone)
    moment, last = (bound if zone else bound.replace(tzinfo=UTC) for bound in (start, end))
    fires: list[datetime] = []
    while True:
        page = asyncio.run(schedule.get_dates(_PAGE, moment, last))
        fires += [datetime.fromtimestamp(fire.timestamp(), UTC) for fire in page]
        if len(page) < _PAGE:
            return [fire.replace(tzinfo=zone) for fire in fires]
        moment = fires[-1] + timedelta(seconds=1)


def _local(moments: Sequence[datetime], zone: ZoneInfo) -> list[datetime]:
    return [moment.astimezone(zone).replace(tzinfo=None) for moment in moments]


def _ahead(zone: ZoneInfo, moment: datetime) -> timedelta:
    ahead = moment.astimezone(zone).utcoffset()
    assert ahead is not None
    return ahead


def _moment_between(zone: ZoneInfo, moment: datetime, later: datetime) -> datetime:
    """Return the first second at which local time is ahead of UTC by something else than at *moment*."""
    before = _ahead(zone, moment)
    while later - moment > timedelta(seconds=1):
        middle = moment + (later - moment) // timedelta(seconds=2) * timedelta(seconds=1)
        moment, later = (middle, later) if _ahead(zone, middle) == before else (moment, middle)
    return later


def _clock(times: Sequence[datetime]) -> str:
    some = [f"{time:%H:%M}" for time in times]
    return ", ".join(some) if len(some) < 4 else f"{some[0]} to {some[-1]}"


def _do(times: Sequence[datetime], one: str = "does", many: str = "do") -> str:
    return one if len(times) == 1 else many
