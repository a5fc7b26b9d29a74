"""Who has time when: working time, and the work that is committed in it.

Everything that asks whether somebody has time asks here, for the window of a task.

Committed work may be done at any time in its own window, below the limit. A set of such
work can be done when no interval holds more of it than there is time, counting what
must be done within the interval (Dertouzos, "Control robotics", 1974). So the time left
in a window is the least, over all intervals around it, of the interval's time less the
work that must be done within it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from .records import Person, Task
from .working_time import (
    Floats,
    Integers,
    Schedule,
    Shift,
    WorkingTime,
    days_around,
    days_around_seconds,
    working_time,
)

Window = tuple[datetime, datetime]
TOLERANCE = 1e-9
"""Hours by which work may exceed the time somebody has, for rounding."""
MAX_MOMENTS = 50
"""Earlier assignments of one person, the latest, beside which new work must fit."""


@dataclass(frozen=True)
class Commitment:
    """Work of one person for an assigned task.

    Attributes:
        task: The id of the task.
        start: When it may begin, in seconds since the epoch.
        end: Until when it must be done.
        hours: What is left of it.
    """

    task: str
    start: float
    end: float
    hours: float


class Calendar:
    """The working time of people, and their commitments, from a moment on.

    Args:
        people: The people; they are the columns of every array.
        assigned: The tasks that have a team.
        now: The moment. Of work that has begun, the share of the working time that has
            passed counts as done. Work whose deadline has passed is not counted.
        only_now: Whether new work must fit at the moment only, and not also beside what
            was left at each earlier assignment.
    """

    def __init__(
        self,
        people: Sequence[Person],
        assigned: Sequence[Task],
        now: datetime,
        *,
        only_now: bool = False,
    ) -> None:
        self.people = tuple(people)
        self.now = now
        self.only_now = only_now
        self.capacities = np.array([person.capacity_hours for person in people], float)
        self.base = np.array([person.workload for person in people], float)
        self.index = {person.id: n for n, person in enumerate(people)}
        """Person id → column."""
        self.shifts = [Shift.of(person) for person in people]
        schedules: dict[Schedule, int] = {}
        self._schedule_of = [
            schedules.setdefault(shift.schedule, len(schedules)) for shift in self.shifts
        ]
        self._times: dict[tuple[Shift, int, int], WorkingTime] = {}
        self._assigned = list(assigned)
        self._work: list[list[Task]] = [[] for _ in people]
        for task in self._assigned:
            for id in task.team:
                if (n := self.index.get(id)) is not None:
                    self._work[n].append(task)
        self._commitments = [self._as_of(n, now) for n in range(len(self.people))]
        self._earlier: dict[int, list[list[Commitment]]] = {}

    def without(self, task: str) -> "Calendar":
        """The same without the work for one task."""
        if all(other.id != task for other in self._assigned):
            return self
        rest = [other for other in self._assigned if other.id != task]
        return Calendar(self.people, rest, self.now, only_now=self.only_now)

    def among(self, people: Sequence[str]) -> "Calendar":
        """The calendar of these people only."""
        found = [self.people[self.index[id]] for id in people]
        return Calendar(found, self._assigned, self.now, only_now=self.only_now)

    def commitments(self, n: int) -> Sequence[Commitment]:
        """The committed work of one person."""
        return self._commitments[n]

    def capacity(self, start: datetime, end: datetime, *, absences: bool = True) -> Floats:
        """Hours of everyone's capacity between two moments.

        Args:
            start: The first moment.
            end: The last one.
            absences: Whether absences count as time off.

        Returns:
            Shape (people,).
        """
        return np.asarray(self.capacities_between([start], [end], absences=absences)[0, 0])

    def capacities_between(
        self, starts: Sequence[datetime], ends: Sequence[datetime], *, absences: bool = True
    ) -> Floats:
        """Hours of everyone's capacity: shape (starts, ends, people)."""
        if not len(starts) or not len(ends):
            return np.zeros((len(starts), len(ends), len(self.people)))
        first, last = days_around(min(starts), max(*ends, *starts))
        shape = (len(starts), len(ends))
        since, until = _seconds(starts), _seconds(ends)
        shifts, shift_of = self.distinct_shifts(first, last, absences=absences)
        weeks = np.empty((*shape, len(shifts)))
        for n, shift in enumerate(shifts):
            time = self._time(shift, first, last)
            hours = time.before(until)[None, :] - time.before(since)[:, None]
            weeks[:, :, n] = np.maximum(hours, 0.0) / shift.schedule.weekly_hours
        return np.asarray(weeks[:, :, shift_of] * self.capacities)

    def distinct_shifts(
        self, first: int, last: int, *, absences: bool = True
    ) -> tuple[list[Shift], Integers]:
        """The shifts that differ on some days, and the index of each person's."""
        number: dict[Shift, int] = {}
        regular: dict[int, int] = {}  # those without absences differ by schedule only
        found = np.empty(len(self.people), np.int64)
        for n, shift in enumerate(self.shifts):
            s = self._schedule_of[n]
            if not (absences and shift.absences) and s in regular:
                found[n] = regular[s]
                continue
            mine = shift.within(first, last) if absences else Shift(shift.schedule)
            found[n] = number.setdefault(mine, len(number))
            if not mine.absences:
                regular[s] = int(found[n])
        return list(number), found

    def free_hours(
        self,
        starts: Sequence[datetime],
        ends: Sequence[datetime],
        limit: float,
        *,
        absences: bool = True,
    ) -> Floats:
        """The most hours of new work that fit between two moments.

        Args:
            starts: When the work may begin.
            ends: Until when it must be done.
            limit: Percent of capacity that all work together may take.
            absences: Whether absences count as time off.

        Returns:
            Shape (starts, ends, people); negative where the commitments do not fit.
        """
        hours = self.capacities_between(starts, ends, absences=absences)
        free = hours * np.maximum(limit - self.base, 0.0) / 100
        for n, commitments in enumerate(self._commitments):
            if commitments:
                free[:, :, n] = self._free_of(n, starts, ends, limit, absences)
        return free

    def committed_hours(self, starts: Sequence[datetime], ends: Sequence[datetime]) -> Floats:
        """Hours of committed work in some spans, spread evenly over each one's window.

        That is over the working time of its window, or where there is none, over the
        window.

        Args:
            starts: When each span begins.
            ends: When it ends.

        Returns:
            Shape (spans, people).
        """
        found = np.zeros((len(starts), len(self.people)))
        since, until = _seconds(starts), _seconds(ends)
        for n, mine in enumerate(self._commitments):
            for work in mine:
                first, last = days_around_seconds(work.start, work.end)
                time = self._time(self.shifts[n].within(first, last), first, last)
                begin, finish = (
                    np.clip(since, work.start, work.end),
                    np.clip(until, work.start, work.end),
                )
                parts = time.before(finish) - time.before(begin)
                whole = time.before(np.array([work.start, work.end]))
                total = float(whole[1] - whole[0])
                if total <= 0:
                    parts, total = finish - begin, work.end - work.start
                found[:, n] += work.hours * np.asarray(parts) / total
        return found

    def loads(
        self, start: datetime, end: datetime, limit: float, *, absences: bool = True
    ) -> Floats:
        """Everyone's load in a window, in percent of their capacity there.

        That is their stated base load, and what of the committed work cannot be done
        outside of the window below the limit.

        Returns:
            Shape (people,).
        """
        loads = self.base.copy()
        busy = [n for n, mine in enumerate(self._commitments) if mine]
        if not busy or end <= start:
            return loads
        hours = self.capacity(start, end, absences=absences)
        for n in busy:
            if hours[n] > 0:
                free = float(self._free_of(n, [start], [end], limit, absences)[0, 0])
                share = max(limit - self.base[n], 0.0)
                loads[n] += max(0.0, share - 100 * free / hours[n])
        return loads

    def _free_of(
        self,
        n: int,
        starts: Sequence[datetime],
        ends: Sequence[datetime],
        limit: float,
        absences: bool,
    ) -> Floats:
        """The hours that fit into one person's time: shape (starts, ends).

        They fit beside the work as it is now, and as it was at each assignment: of
        tasks begun together, more counts as done than could have been since.
        """
        if self.only_now:
            return self._free_beside(self._commitments[n], n, starts, ends, limit, absences)
        if n not in self._earlier:
            live = [task for task in self._work[n] if task.deadline > self.now]
            made = {task.assigned_at for task in live if task.assigned_at}
            moments = sorted(moment for moment in made if moment < self.now)[-MAX_MOMENTS:]
            self._earlier[n] = [self._as_of(n, moment) for moment in moments]
        views = [self._commitments[n], *self._earlier[n]]
        found = [self._free_beside(view, n, starts, ends, limit, absences) for view in views]
        return np.asarray(np.min(found, axis=0))

    def _free_beside(
        self,
        mine: Sequence[Commitment],
        n: int,
        starts: Sequence[datetime],
        ends: Sequence[datetime],
        limit: float,
        absences: bool,
    ) -> Floats:
        """The hours that fit beside some commitments: shape (starts, ends)."""
        since, until = _seconds(starts), _seconds(ends)
        begin = np.array([c.start for c in mine])
        finish = np.array([c.end for c in mine])
        work = np.array([c.hours for c in mine])
        a, b = np.unique(np.concatenate([since, begin])), np.unique(np.concatenate([until, finish]))
        first, last = days_around_seconds(min(a[0], b[0]), max(a[-1], b[-1]))
        shift = self.shifts[n]
        time = self._time(
            shift.within(first, last) if absences else Shift(shift.schedule), first, last
        )
        hours = np.maximum(time.before(b)[None, :] - time.before(a)[:, None], 0.0)
        share = max(limit - self.base[n], 0.0) / 100 * self.capacities[n]
        inside = (begin >= a[:, None]) * work @ (finish[:, None] <= b[None, :]).astype(float)
        left = share * hours / shift.schedule.weekly_hours - inside
        left[a[:, None] >= b[None, :]] = np.inf
        left = np.minimum.accumulate(left, axis=0)
        left = np.minimum.accumulate(left[:, ::-1], axis=1)[:, ::-1]
        rows, columns = np.searchsorted(a, since), np.searchsorted(b, until)
        found = left[np.ix_(rows, columns)]
        found[since[:, None] >= until[None, :]] = 0.0
        return np.asarray(found)

    def _as_of(self, n: int, moment: datetime) -> list[Commitment]:
        """One person's commitments at a moment."""
        return [
            self._commitment(n, task, moment) for task in self._work[n] if task.deadline > moment
        ]

    def _commitment(self, n: int, task: Task, moment: datetime) -> Commitment:
        """What is left at a moment of one person's share of a task."""
        begun, end = task.committed_window(moment)
        start = max(begun, moment)
        hours = task.estimated_hours / len(task.team)
        if begun < moment:
            first, last = days_around(begun, end)
            time = self._time(self.shifts[n].within(first, last), first, last)
            if (whole := time.between(begun, end)) > 0:
                hours *= time.between(start, end) / whole
        return Commitment(task.id, start.timestamp(), end.timestamp(), hours)

    def _time(self, shift: Shift, first: int, last: int) -> WorkingTime:
        key = (shift, first, last)
        if key not in self._times:
            self._times[key] = working_time(*key)
        return self._times[key]


def _seconds(moments: Sequence[datetime]) -> Floats:
    return np.array([moment.timestamp() for moment in moments], float)
