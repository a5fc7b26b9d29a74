"""When people work: sets of intervals, on real dates in real time zones.

Moments are seconds since the epoch and days are ordinals (`date.toordinal`), in arrays.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .records import Person

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]
Stretch = tuple[int, int]

DAY = 86_400
EPOCH = date(1970, 1, 1).toordinal()
LAST_DAY = date.max.toordinal()


@dataclass(frozen=True)
class Schedule:
    """Regular working hours without absences, which many people have in common.

    Attributes:
        time_zone: An IANA name.
        hours: Stretches of local time, in seconds of the day; one that ends before it
            starts runs past midnight.
        days: ISO weekdays on which stretches start.
    """

    time_zone: str
    hours: tuple[Stretch, ...]
    days: frozenset[int]

    @property
    def weekly_hours(self) -> float:
        """Working hours in a week without a change of clocks."""
        return _weekly_hours(self)


@dataclass(frozen=True)
class Shift:
    """A schedule with days of absence.

    Attributes:
        schedule: The regular hours.
        absences: First and last day of each absence, in order and apart. An absence
            takes away every stretch that starts on one of its days.
    """

    schedule: Schedule
    absences: tuple[Stretch, ...] = ()

    @classmethod
    def of(cls, person: Person) -> "Shift":
        """When a person works."""
        hours = tuple((_second(h.start), _second(h.end)) for h in person.working_hours)
        schedule = Schedule(person.time_zone, hours, person.working_days)
        away = [(leave.start.toordinal(), leave.end.toordinal()) for leave in person.leave]
        if person.available_from is not None:
            away.append((0, person.available_from.toordinal() - 1))
        if person.available_until is not None:
            away.append((person.available_until.toordinal() + 1, LAST_DAY))
        return cls(schedule, _joined(away))

    def within(self, first: int, last: int) -> "Shift":
        """The same with only those absences that matter on some days."""
        if not self.absences:
            return self
        away = tuple(
            (max(a, first), min(b, last)) for a, b in self.absences if a <= last and b >= first
        )
        return Shift(self.schedule, away)

    def is_present(self, days: Integers) -> NDArray[np.bool_]:
        """Whether each day is none of absence."""
        present = np.ones(days.size, bool)
        for first, last in self.absences:
            present &= (days < first) | (days > last)
        return present


@dataclass(frozen=True, eq=False)
class WorkingTime:
    """Disjoint intervals of working time, in order.

    Attributes:
        starts: When each interval begins.
        ends: When it ends.
        days: The local day on which the stretch it belongs to starts.
        worked: Seconds of working time before each interval.
        overlapped: Whether a moment was in two stretches.
    """

    starts: Integers
    ends: Integers
    days: Integers
    worked: Integers
    overlapped: bool

    def before(self, moments: ArrayLike) -> Floats:
        """Hours of working time before each moment."""
        at = np.asarray(moments, np.float64)
        if not self.starts.size:
            return np.zeros(at.shape)
        n = np.searchsorted(self.starts, at, "right") - 1
        inside = np.minimum(at, self.ends[n]) - self.starts[n]
        return np.asarray(np.where(n < 0, 0.0, self.worked[n] + inside) / 3600)

    def between(self, start: datetime, end: datetime) -> float:
        """Hours of working time between two moments."""
        since, until = self.before([start.timestamp(), end.timestamp()])
        return max(0.0, float(until - since))


@lru_cache(maxsize=1024)
def working_time(shift: Shift, first: int, last: int) -> WorkingTime:
    """The working time of the stretches that start on the days from `first` to `last`.

    A moment in two stretches belongs to the one that starts first.
    """
    days = np.arange(first, last + 1)
    schedule = shift.schedule
    weekdays = np.array(sorted(schedule.days))
    days = days[np.isin((days - 1) % 7 + 1, weekdays)]
    days = days[shift.is_present(days)]
    starts, ends = [], []
    for opens, closes in schedule.hours:
        starts.append(_moments(schedule.time_zone, days, opens))
        ends.append(_moments(schedule.time_zone, days + (closes <= opens), closes))
    return _disjoint(
        np.concatenate(starts), np.concatenate(ends), np.tile(days, len(schedule.hours))
    )


def days_around(start: datetime, end: datetime) -> Stretch:
    """The first and last day whose stretches may touch the time between two moments."""
    return days_around_seconds(start.timestamp(), end.timestamp())


def days_around_seconds(start: float, end: float) -> Stretch:
    """The same, of moments in seconds since the epoch."""
    return int(start // DAY) + EPOCH - 2, int(end // DAY) + EPOCH + 1


def capacity_hours(person: Person, start: datetime, end: datetime) -> float:
    """Hours of somebody's weekly capacity between two moments.

    They are in proportion to the working time there.
    """
    if end <= start:
        return 0.0
    shift, days = Shift.of(person), days_around(start, end)
    hours = working_time(shift.within(*days), *days).between(start, end)
    return person.capacity_hours * hours / shift.schedule.weekly_hours


@lru_cache(maxsize=4096)
def _weekly_hours(schedule: Schedule) -> float:
    """The middle one of three weeks, without a time zone."""
    days = np.array([day for day in range(21) if day % 7 + 1 in schedule.days], np.int64)
    starts = [days * DAY + opens for opens, _ in schedule.hours]
    ends = [(days + (closes <= opens)) * DAY + closes for opens, closes in schedule.hours]
    found = _disjoint(
        np.concatenate(starts), np.concatenate(ends), np.tile(days, len(schedule.hours))
    )
    since, until = found.before([7 * DAY, 14 * DAY])
    return float(until - since)


def _disjoint(starts: Integers, ends: Integers, days: Integers) -> WorkingTime:
    """Intervals in order, each without what an earlier one covers."""
    order = np.lexsort((days, starts))
    starts, ends, days = starts[order], ends[order], days[order]
    overlapped = False
    if starts.size:
        covered = np.concatenate([starts[:1], np.maximum.accumulate(ends)[:-1]])
        overlapped = bool((starts < covered).any())
        starts = np.maximum(starts, covered)
        kept = starts < ends
        starts, ends, days = starts[kept], ends[kept], days[kept]
    worked = np.concatenate([[0], np.cumsum(ends - starts)[:-1]])
    return WorkingTime(starts, ends, days, worked, overlapped)


def _moments(zone: str, days: Integers, second: int) -> Integers:
    """A wall-clock time on each of some days.

    Of a time that a change of clocks repeats it is the first; one that is skipped is
    read with the offset before the change (RFC 5545, 3.3.5).
    """
    if not days.size:
        return days
    first, last = int(days[0]), int(days[-1])
    offsets = _offsets(zone, first, last + 1)
    at = (days - EPOCH) * DAY + second - offsets[days - first]
    for n in np.flatnonzero(offsets[days - first] != offsets[days - first + 1]):
        at[n] = _moment(zone, int(days[n]), second)
    return np.asarray(at)


@lru_cache(maxsize=1024)
def _offsets(zone: str, first: int, last: int) -> Integers:
    """Seconds from UTC at the first moment of each day."""
    found, days = ZoneInfo(zone), range(first, last + 1)
    midnights = [datetime.combine(date.fromordinal(day), time(), found) for day in days]
    utc = (np.arange(first, last + 1) - EPOCH) * DAY
    return utc - np.array([int(midnight.timestamp()) for midnight in midnights], np.int64)


def _moment(zone: str, day: int, second: int) -> int:
    at = time(second // 3600, second // 60 % 60, second % 60)
    return int(datetime.combine(date.fromordinal(day), at, ZoneInfo(zone)).timestamp())


def _second(at: time) -> int:
    return at.hour * 3600 + at.minute * 60 + at.second


def _joined(stretches: Sequence[Stretch]) -> tuple[Stretch, ...]:
    """Ranges of days in order, with those that touch joined."""
    joined: list[Stretch] = []
    for first, last in sorted(stretches):
        if last < first:
            continue
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return tuple(joined)
