"""When people work, on real dates in real time zones, and what a team has in common.

Times are minutes since the epoch in UTC, so that daylight saving is settled once, where
local hours are read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from .records import Person

Stretch = tuple[int, int]
APART = 6 * 60
"""Common stretches less than this many minutes apart belong to the same day."""
MOST_DAYS = 400
DAY = 24 * 60


@dataclass(frozen=True)
class Schedule:
    """Somebody's regular working hours, without their leave: what many people share.

    hours: stretches of local time, in minutes of the day; one that ends where it starts
    or before runs past midnight.
    """

    time_zone: str
    hours: tuple[Stretch, ...]
    days: frozenset[int]

    @classmethod
    def of(cls, person: Person) -> "Schedule":
        hours = tuple(
            (h.start.hour * 60 + h.start.minute, h.end.hour * 60 + h.end.minute)
            for h in person.working_hours
        )
        return cls(person.time_zone, hours, person.working_days)


def _minute(moment: datetime) -> int:
    return int(moment.timestamp() // 60)


def _local(zone: str, day: date, minute: int) -> int:
    """A wall-clock time as a minute in UTC; of a time that daylight saving skips or
    repeats, the first reading.
    """
    return _minute(datetime.combine(day, time(minute // 60, minute % 60), tzinfo=ZoneInfo(zone)))


@lru_cache(maxsize=4096)
def stretches(schedule: Schedule, first: date, last: date) -> tuple[Stretch, ...]:
    """Working time on the local dates from `first` to `last` (at most MOST_DAYS of
    them), in order.
    """
    found: list[Stretch] = []
    for n in range(min((last - first).days + 1, MOST_DAYS)):
        day = first + timedelta(days=n)
        if day.isoweekday() not in schedule.days:
            continue
        for opens, closes in schedule.hours:
            until = day if closes > opens else day + timedelta(days=1)
            start, end = (
                _local(schedule.time_zone, day, opens),
                _local(schedule.time_zone, until, closes),
            )
            if end > start:
                found.append((start, end))
    return _joined(found)


def _joined(found: Sequence[Stretch]) -> tuple[Stretch, ...]:
    joined: list[Stretch] = []
    for start, end in sorted(found):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return tuple(joined)


def _both(a: Sequence[Stretch], b: Sequence[Stretch]) -> list[Stretch]:
    """What two ordered lists of stretches have in common."""
    common: list[Stretch] = []
    i = j = 0
    while i < len(a) and j < len(b):
        start, end = max(a[i][0], b[j][0]), min(a[i][1], b[j][1])
        if start < end:
            common.append((start, end))
        if a[i][1] <= b[j][1]:
            i += 1
        else:
            j += 1
    return common


@dataclass(frozen=True)
class Overlap:
    """Working time that a team shares: hours on the day that has least of it, and on
    how many days there is any.
    """

    hours: float
    days: int


@lru_cache(maxsize=65_536)
def overlap(schedules: frozenset[Schedule], start: datetime, end: datetime) -> Overlap:
    """What people with these schedules share between two moments, on the day that has
    least.

    A first or last day that the moments cut short counts whole: it is regular hours
    that are compared.
    """
    first, last = start.astimezone(UTC).date(), end.astimezone(UTC).date()
    common: Sequence[Stretch] | None = None
    for schedule in schedules:
        mine = stretches(schedule, first - timedelta(days=1), last + timedelta(days=1))
        common = mine if common is None else _both(common, mine)
    low, high = _minute(start), _minute(end)
    days: list[
        list[int]
    ] = []  # [end of the day's last stretch, minutes in common, whether it lies in the window]
    for begin, finish in common or ():
        inside = begin < high and finish > low
        if days and begin - days[-1][0] < APART:
            days[-1] = [finish, days[-1][1] + finish - begin, days[-1][2] | inside]
        else:
            days.append([finish, finish - begin, inside])
    minutes = [day[1] for day in days if day[2]]
    return Overlap(min(minutes, default=0) / 60, len(minutes))


def working_minutes(person: Person, start: datetime, end: datetime) -> float:
    """Minutes that somebody works between two moments, leave and availability taken
    off.
    """
    if end <= start:
        return 0.0
    zone = ZoneInfo(person.time_zone)
    first, last = start.astimezone(zone).date() - timedelta(days=1), end.astimezone(zone).date()
    if not (person.leave or person.available_from or person.available_until):
        return _regular(Schedule.of(person), first, last, _minute(start), _minute(end))
    low, high = _minute(start), _minute(end)
    total = 0
    for begin, finish in stretches(Schedule.of(person), first, last):
        if person.away(datetime.fromtimestamp(begin * 60, zone).date()):
            continue
        total += max(0, min(finish, high) - max(begin, low))
    return float(total)


@lru_cache(maxsize=4096)
def _regular(schedule: Schedule, first: date, last: date, low: int, high: int) -> float:
    return float(
        sum(max(0, min(b, high) - max(a, low)) for a, b in stretches(schedule, first, last))
    )


@lru_cache(maxsize=4096)
def weekly_minutes(schedule: Schedule) -> float:
    """Minutes of regular working hours in a week."""
    return float(
        sum((closes - opens) % DAY for opens, closes in schedule.hours) * len(schedule.days)
    )


def capacity_hours(person: Person, start: datetime, end: datetime) -> float:
    """Hours of their weekly capacity that fall between two moments, in proportion to
    their working time there.
    """
    return (
        person.capacity_hours
        * working_minutes(person, start, end)
        / weekly_minutes(Schedule.of(person))
    )
