"""When people work, on real dates in real time zones, and what a team has in common.

Times are minutes since the epoch in UTC, so that daylight saving matters only where
local hours are read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from .records import Person

Stretch = tuple[int, int]
"""Start and end, in minutes."""
MAX_GAP = 6 * 60
"""Common stretches less than this many minutes apart belong to the same day."""
MAX_DAYS = 400
DAY = 24 * 60


@dataclass(frozen=True)
class Schedule:
    """Regular working hours without leave, which many people have in common.

    Attributes:
        time_zone: An IANA name.
        hours: Stretches of local time, in minutes of the day; one that ends where it
            starts or before runs past midnight.
        days: ISO weekdays.
    """

    time_zone: str
    hours: tuple[Stretch, ...]
    days: frozenset[int]

    @classmethod
    def of(cls, person: Person) -> "Schedule":
        """The schedule of a person."""
        hours = tuple(
            (h.start.hour * 60 + h.start.minute, h.end.hour * 60 + h.end.minute)
            for h in person.working_hours
        )
        return cls(person.time_zone, hours, person.working_days)


@dataclass(frozen=True)
class Overlap:
    """Working time that a team shares.

    Attributes:
        hours: On the day with the least of it.
        days: How many days have any.
    """

    hours: float
    days: int


@lru_cache(maxsize=4096)
def stretches(schedule: Schedule, first: date, last: date) -> tuple[Stretch, ...]:
    """Working time on the local dates from `first` to `last`, in order.

    At most MAX_DAYS of them are read.
    """
    found: list[Stretch] = []
    for n in range(min((last - first).days + 1, MAX_DAYS)):
        day = first + timedelta(days=n)
        if day.isoweekday() not in schedule.days:
            continue
        for opens, closes in schedule.hours:
            until = day if closes > opens else day + timedelta(days=1)
            start = _local_minute(schedule.time_zone, day, opens)
            end = _local_minute(schedule.time_zone, until, closes)
            if end > start:
                found.append((start, end))
    return _union(found)


@lru_cache(maxsize=65_536)
def overlap(schedules: frozenset[Schedule], start: datetime, end: datetime) -> Overlap:
    """The working time that people with these schedules share between two moments.

    The first and last day count whole, because regular hours are compared.
    """
    first, last = start.astimezone(UTC).date(), end.astimezone(UTC).date()
    common: Sequence[Stretch] | None = None
    for schedule in schedules:
        mine = stretches(schedule, first - timedelta(days=1), last + timedelta(days=1))
        common = mine if common is None else _intersection(common, mine)
    low, high = _minute(start), _minute(end)
    # Each day: end of its last stretch, common minutes, whether it is in the window.
    days: list[tuple[int, int, bool]] = []
    for begin, finish in common or ():
        inside = begin < high and finish > low
        if days and begin - days[-1][0] < MAX_GAP:
            _, minutes, was_inside = days.pop()
            days.append((finish, minutes + finish - begin, was_inside or inside))
        else:
            days.append((finish, finish - begin, inside))
    shared = [minutes for _, minutes, inside in days if inside]
    return Overlap(min(shared, default=0) / 60, len(shared))


def working_minutes(person: Person, start: datetime, end: datetime) -> float:
    """Minutes that somebody works between two moments, without leave."""
    if end <= start:
        return 0.0
    zone = ZoneInfo(person.time_zone)
    first, last = start.astimezone(zone).date() - timedelta(days=1), end.astimezone(zone).date()
    schedule, low, high = Schedule.of(person), _minute(start), _minute(end)
    if not person.has_absences:
        return _regular_minutes(schedule, first, last, low, high)
    return float(
        sum(
            max(0, min(until, high) - max(begin, low))
            for begin, until in stretches(schedule, first, last)
            if not person.is_absent(datetime.fromtimestamp(begin * 60, zone).date())
        )
    )


@lru_cache(maxsize=4096)
def weekly_minutes(schedule: Schedule) -> float:
    """Minutes of regular working hours in a week."""
    daily = sum((closes - opens) % DAY for opens, closes in schedule.hours)
    return float(daily * len(schedule.days))


def capacity_hours(person: Person, start: datetime, end: datetime) -> float:
    """Hours of somebody's weekly capacity between two moments.

    They are in proportion to the working time there.
    """
    minutes = person.capacity_hours * working_minutes(person, start, end)
    return minutes / weekly_minutes(Schedule.of(person))


@lru_cache(maxsize=4096)
def _regular_minutes(schedule: Schedule, first: date, last: date, low: int, high: int) -> float:
    return float(
        sum(max(0, min(b, high) - max(a, low)) for a, b in stretches(schedule, first, last))
    )


def _minute(moment: datetime) -> int:
    return int(moment.timestamp() // 60)


def _local_minute(zone: str, day: date, minute: int) -> int:
    """A wall-clock time as a minute in UTC.

    Of a time that daylight saving skips or repeats, it is the first reading.
    """
    return _minute(datetime.combine(day, time(minute // 60, minute % 60), tzinfo=ZoneInfo(zone)))


def _union(found: Sequence[Stretch]) -> tuple[Stretch, ...]:
    """Stretches in order, with those that overlap joined."""
    joined: list[Stretch] = []
    for start, end in sorted(found):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return tuple(joined)


def _intersection(a: Sequence[Stretch], b: Sequence[Stretch]) -> list[Stretch]:
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
