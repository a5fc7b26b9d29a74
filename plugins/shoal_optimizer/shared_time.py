"""The working time that a team shares, day by day.

A common moment belongs to the earliest of the days on which its people's stretches
start. A rule of hours a day holds on each day on which all of them work: a day on which
somebody is absent does not count, and without a common day nothing is shared.
Days count whole, so that a task may begin or end within one. But a team shares no more
than it does in the window altogether, which matters for a window within one day.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .working_time import Floats, Integers, Schedule, Shift, days_around, working_time


@dataclass(frozen=True)
class Overlap:
    """Working time that a team shares.

    Attributes:
        hours: On the day with the least of it, or in the whole window if that is less.
        days: How many days have any.
        most: On the day with the most of it, or in the whole window if that is less.
    """

    hours: float
    days: int
    most: float


@dataclass(frozen=True, eq=False)
class Common:
    """What some shifts have in common, as intervals.

    Attributes:
        starts: When each begins, in seconds since the epoch.
        ends: When it ends.
        days: The day it counts to.
        owners: The day of each shift's own stretch, shape (shifts, intervals).
    """

    starts: Integers
    ends: Integers
    days: Integers
    owners: Integers


@lru_cache(maxsize=65_536)
def overlap(shifts: frozenset[Shift], start: datetime, end: datetime) -> Overlap:
    """The working time that these people share between two moments."""
    if end <= start:
        return Overlap(0.0, 0, 0.0)
    first, last = days_around(start, end)
    members = tuple(dict.fromkeys(shift.within(first - 1, last + 1) for shift in shifts))
    common = _common(members, first - 1, last + 1)
    hours, inside = _hours_of_days(common, start, end)
    shared = hours[inside]
    if not shared.size:
        return Overlap(0.0, 0, 0.0)
    total = float(_hours_within(common, start.timestamp(), end.timestamp()).sum())
    least, most = float(shared.min()), float(shared.max())
    return Overlap(min(least, total), int(shared.size), min(most, total))


def share_enough(
    shifts: Sequence[Shift], start: datetime, end: datetime, hours: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether each two of some shifts share that many hours a day.

    A third person can take away the days on which two share too few. So two who share
    enough on some day may be in a team, and two who do not may not.

    Args:
        shifts: Distinct shifts.
        start: The beginning of the window.
        end: Its end.
        hours: The hours that the two must share on each of their common days.

    Returns:
        Whether they do on each day on which both work, and whether on some day; both
        have the shape (shifts, shifts).
    """
    count = len(shifts)
    enough = np.zeros((2, count, count), bool)
    if end <= start:
        return enough[0], enough[1]
    first, last = days_around(start, end)
    groups: dict[Schedule, list[int]] = {}
    for n, shift in enumerate(shifts):
        groups.setdefault(shift.schedule, []).append(n)
    days = np.arange(first - 1, last + 2)
    present = np.array([shift.is_present(days) for shift in shifts]).reshape(count, days.size)
    schedules = list(groups)
    for n, s in enumerate(schedules):
        for t in schedules[: n + 1]:
            mine, theirs = groups[s], groups[t]
            if _is_overlapped(s, first, last) or _is_overlapped(t, first, last):
                # Who owns a moment in two stretches depends on the absences.
                found = np.array(
                    [
                        [_shares(shifts[a], shifts[b], start, end, hours) for b in theirs]
                        for a in mine
                    ]
                ).transpose(2, 0, 1)
            else:
                common = _common((Shift(s), Shift(t)), first - 1, last + 1)
                window = (start.timestamp(), end.timestamp())
                found = _pairs_share(common, present[mine], present[theirs], days[0], window, hours)
            enough[np.ix_([0, 1], mine, theirs)] = found
            enough[np.ix_([0, 1], theirs, mine)] = found.transpose(0, 2, 1)
    return enough[0], enough[1]


def _is_overlapped(schedule: Schedule, first: int, last: int) -> bool:
    return working_time(Shift(schedule), first - 1, last + 1).overlapped


def _shares(
    one: Shift, other: Shift, start: datetime, end: datetime, hours: float
) -> tuple[bool, bool]:
    found = overlap(frozenset({one, other}), start, end)
    return found.hours >= hours - 1e-9 and found.days > 0, found.most >= hours - 1e-9


def _pairs_share(
    common: Common,
    mine: NDArray[np.bool_],
    theirs: NDArray[np.bool_],
    first: int,
    window: tuple[float, float],
    hours: float,
) -> NDArray[np.bool_]:
    """Whether each pair of absences leaves enough, shape (2, mine, theirs)."""
    low, high = window
    lasted = (common.ends - common.starts) / 3600
    touches = (common.starts < high) & (common.ends > low)
    here = mine[:, common.owners[0] - first].astype(float)
    there = theirs[:, common.owners[1] - first].astype(float)
    enough = (here * _hours_within(common, low, high)) @ there.T >= hours - 1e-9
    long, short = np.zeros((2, len(mine), len(theirs)), bool)
    _, day_of = np.unique(common.days, return_inverse=True)
    inside = np.bincount(day_of, touches) > 0
    owners = np.abs(np.diff(common.owners, axis=1)).sum(axis=0)
    mixed = np.bincount(day_of[1:], (owners > 0) & (np.diff(day_of) == 0), inside.size) > 0
    whole = np.flatnonzero(np.append(True, np.diff(day_of) > 0)[: day_of.size])
    whole = whole[(inside & ~mixed)[day_of[whole]]]  # one cell stands for such a day
    few = np.bincount(day_of, lasted)[day_of[whole]] < hours - 1e-9
    long |= here[:, whole[~few]] @ there[:, whole[~few]].T > 0
    short |= here[:, whole[few]] @ there[:, whole[few]].T > 0
    for day in np.flatnonzero(inside & mixed):
        cells = np.flatnonzero(day_of == day)
        a, b = here[:, cells], there[:, cells]
        total, touched = (a * lasted[cells]) @ b.T, (a * touches[cells]) @ b.T > 0
        long |= touched & (total >= hours - 1e-9)
        short |= touched & (total < hours - 1e-9)
    return np.stack([long & ~short & enough, long & enough])


def _hours_within(common: Common, low: float, high: float) -> Floats:
    """Hours of each interval that lie between two moments."""
    inside = np.minimum(common.ends, high) - np.maximum(common.starts, low)
    return np.asarray(np.maximum(inside, 0.0) / 3600)


def _hours_of_days(
    common: Common, start: datetime, end: datetime
) -> tuple[Floats, NDArray[np.bool_]]:
    """Hours of each day, and whether some of them lie in the window."""
    _, index = np.unique(common.days, return_inverse=True)
    hours = np.bincount(index, (common.ends - common.starts) / 3600).astype(float)
    touches = (common.starts < end.timestamp()) & (common.ends > start.timestamp())
    return hours, np.bincount(index, touches) > 0


@lru_cache(maxsize=4096)
def _common(shifts: tuple[Shift, ...], first: int, last: int) -> Common:
    """The intersection of the shifts' working time on some days."""
    times = [working_time(shift, first, last) for shift in shifts]
    found = times[0]
    starts, ends, owners = found.starts, found.ends, found.days[None, :]
    for other in times[1:]:
        # Interval i meets the others from low[i] to high[i].
        low = np.searchsorted(other.ends, starts, "right")
        high = np.searchsorted(other.starts, ends, "left")
        counts = np.maximum(high - low, 0)
        i = np.repeat(np.arange(starts.size), counts)
        j = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + low[i]
        owners = np.vstack([owners[:, i], other.days[j][None, :]])
        starts, ends = np.maximum(starts[i], other.starts[j]), np.minimum(ends[i], other.ends[j])
    return Common(starts, ends, owners.min(axis=0), owners)
