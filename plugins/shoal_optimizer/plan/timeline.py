"""When each person works on each of their tasks."""

import heapq
from collections import deque
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta

import numpy as np

from ..working_time import days_around, working_time
from .problem import Booleans, PlanProblem

Slot = tuple[datetime, datetime]
Slots = Mapping[tuple[int, int], Slot]
"""(task, person) → start and end of the work."""

MIN_PACE = 0.01
"""The least share of capacity at which anyone works, however high their workload."""


def timeline(problem: PlanProblem, teams: Booleans) -> Slots:
    """Schedule everyone's tasks, earliest deadline first, in their working hours.

    Work that is committed already takes its turn among them.

    Source: Liu & Layland, "Scheduling algorithms for multiprogramming in a
    hard-real-time environment", 1973.

    Args:
        problem: The tasks and people.
        teams: The plan, shape (tasks, people).
    """
    return {
        (t, int(p)): slot
        for p in np.flatnonzero(teams.any(axis=0))
        for t, slot in _slots_of(problem, int(p), teams).items()
    }


def _slots_of(problem: PlanProblem, p: int, teams: Booleans) -> dict[int, Slot]:
    calendar, tasks = problem.calendar, np.flatnonzero(teams[:, p]).tolist()
    windows = {t: problem.tasks[t].window(calendar.now) for t in tasks}
    left = {t: problem.tasks[t].estimated_hours / teams[t].sum() * 60 for t in tasks}  # minutes
    for n, committed in enumerate(calendar.commitments(p)):
        start, end = (datetime.fromtimestamp(at, UTC) for at in (committed.start, committed.end))
        windows[-n - 1], left[-n - 1] = (start, end), committed.hours * 60
    waiting = deque(sorted((*window, t) for t, window in windows.items()))
    last = max(end for _, end in windows.values())
    pace = _pace(problem, p)
    started: dict[int, datetime] = {}
    ready: list[tuple[datetime, int]] = []  # a heap by deadline
    slots: dict[int, Slot] = {}
    for begin, until in _working_time(problem, p, last):
        at = begin
        while at < until:
            while waiting and waiting[0][0] <= at:
                _, deadline, t = waiting.popleft()
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
        slots[t] = (started.get(t, calendar.now), deadline)
    return {t: slots[t] for t in tasks if t in slots}


def _pace(problem: PlanProblem, p: int) -> float:
    """Minutes of work that a minute of working time holds."""
    person, shift = problem.people[p], problem.calendar.shifts[p]
    share = person.capacity_hours / shift.schedule.weekly_hours
    return share * max(1 - person.workload / 100, MIN_PACE)


def _working_time(problem: PlanProblem, p: int, last: datetime) -> Iterator[Slot]:
    """The stretches that a person works from now until the day of `last`, in UTC."""
    now = problem.calendar.now
    first, final = days_around(now, last)
    time = working_time(problem.calendar.shifts[p].within(first, final), first, final)
    for begin, end in zip(time.starts.tolist(), time.ends.tolist(), strict=True):
        start = max(datetime.fromtimestamp(begin, UTC), now)
        until = datetime.fromtimestamp(end, UTC)
        if start < until:
            yield start, until
