"""When each person works on each of their tasks."""

import heapq
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from ..hours import Schedule, stretches, weekly_minutes
from ..records import Person
from .problem import Booleans, PlanProblem

Slot = tuple[datetime, datetime]
Slots = Mapping[tuple[int, int], Slot]
"""(task, person) → start and end of the work."""

MIN_PACE = 0.01
"""The least share of capacity at which anyone works, however high their workload."""


def timeline(problem: PlanProblem, teams: Booleans, now: datetime) -> Slots:
    """Schedule everyone's tasks, earliest deadline first, in their working hours.

    Source: Liu & Layland, "Scheduling algorithms for multiprogramming in a
    hard-real-time environment", 1973.

    Args:
        problem: The tasks and people.
        teams: The plan, shape (tasks, people).
        now: The moment at which the plan begins.
    """
    return {
        (t, int(p)): slot
        for p in np.flatnonzero(teams.any(axis=0))
        for t, slot in _slots_of(problem, int(p), np.flatnonzero(teams[:, p]).tolist(), now).items()
    }


def _slots_of(problem: PlanProblem, p: int, tasks: list[int], now: datetime) -> dict[int, Slot]:
    person = problem.people[p]
    pace = _pace(person)
    waiting = sorted((problem.tasks[t].window(now)[0], problem.tasks[t].deadline, t) for t in tasks)
    left = {t: problem.hours_each(t) * 60 for t in tasks}  # minutes of work
    started: dict[int, datetime] = {}
    ready: list[tuple[datetime, int]] = []  # a heap by deadline
    slots: dict[int, Slot] = {}
    last = max(task.deadline for task in problem.tasks)
    for begin, until in _working_time(person, now, last):
        at = begin
        while at < until:
            while waiting and waiting[0][0] <= at:
                _, deadline, t = waiting.pop(0)
                heapq.heappush(ready, (deadline, t))
            if not ready:
                if not waiting or waiting[0][0] >= until:
                    break
                at = waiting[0][0]
                continue
            t = ready[0][1]
            started.setdefault(t, at)
            end = min(until, waiting[0][0]) if waiting else until
            work = min(left[t], (end - at).total_seconds() / 60 * pace)
            at += timedelta(minutes=work / pace)
            left[t] -= work
            if left[t] < 1e-6:
                heapq.heappop(ready)
                slots[t] = (started[t], at)
        if not ready and not waiting:
            break
    for deadline, t in ready:  # Rounding left some minutes at the deadline.
        slots[t] = (started.get(t, now), deadline)
    return slots


def _pace(person: Person) -> float:
    """Minutes of work that a minute of working time holds."""
    share = person.capacity_hours * 60 / weekly_minutes(Schedule.of(person))
    return share * max(1 - person.workload / 100, MIN_PACE)


def _working_time(person: Person, now: datetime, last: datetime) -> Iterator[Slot]:
    """The stretches that a person works from now until the day of `last`, in UTC."""
    zone = ZoneInfo(person.time_zone)
    first_day, last_day = now.date() - timedelta(days=1), last.astimezone(UTC).date()
    for begin, end in stretches(Schedule.of(person), first_day, last_day):
        start = max(datetime.fromtimestamp(begin * 60, UTC), now)
        until = datetime.fromtimestamp(end * 60, UTC)
        day = datetime.fromtimestamp(begin * 60, zone).date()
        if start < until and not person.is_absent(day):
            yield start, until
