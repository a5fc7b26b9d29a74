"""Many tasks against all people, as arrays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..calendar import TOLERANCE, Calendar
from ..candidates import score_candidates
from ..parameters import OptimizerParameters
from ..records import Person, Task
from ..shared_time import overlap, share_enough
from ..skills import Matcher
from ..success import History
from ..working_time import days_around

CHECKPOINTS = 12
"""Distinct deadlines, and as many starts, that a plan tells apart."""
UNASSIGNED_COST = 3.0
"""Cost of an unassigned task of priority 1, twice that for each priority above.

A team costs at most about 2.
"""
BALANCE = 1 / 3
"""Share of `balance_importance` that it costs to use up somebody's room."""
CHANGE_COST = 0.5
"""Cost of replacing the whole team of an earlier plan."""

Pin = Literal["in", "out"]
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class PlanProblem:
    """A planning problem.

    Time is divided by checkpoints, moments between now and the last deadline. A task is
    released at the first checkpoint not before its start and due at the last one not
    after its deadline, so a plan that respects the checkpoints respects both.

    Attributes:
        tasks: The tasks.
        people: The people.
        costs: What each person costs in the task's team, shape (tasks, people).
        eligible: Who has time for a share of the task, shape (tasks, people).
        covers: For each task who meets each requirement, shape (requirements, people).
        team_sizes: Each task's team size: the smallest that is allowed and covers the
            skills; 0 where there is none. Shape (tasks,).
        free_hours: Hours of new work that each person has room for from now (0) or a
            checkpoint (n + 1) to another, shape (checkpoints + 1, checkpoints, people).
        due: Each task's checkpoint, shape (tasks,).
        released: The checkpoint before which a task is not worked on, -1 when it can
            begin now. Shape (tasks,).
        unassigned_costs: What it costs to leave a task unassigned, shape (tasks,).
        previous: The teams of an earlier plan, shape (tasks, people).
        pinned: 1 for a person who must be in the team, -1 for one who must not, shape
            (tasks, people).
        has_time: Who has time for the least share of the task, pinned or not, shape
            (tasks, people).
        shift_of: Index of each person's shift, shape (people,).
        raw_costs: What each person costs alone, without changes, shape (tasks, people).
        score_costs: The part of it that is for the score, shape (tasks, people).
        rate_costs: The part that is for the rate, shape (people,); the rest is for the
            workload.
        overlap_hours: Hours that a team must share on each common day.
        balance_weight: What it costs when a person's room is used up.
        together: Who has worked with whom, shape (people, people).
        collaboration: What a team costs in which nobody has worked with another.
        compatible: For each task of several whether two shifts share enough hours in
            its window, shape (shifts, shifts).
    """

    tasks: tuple[Task, ...]
    calendar: Calendar
    costs: Floats
    eligible: Booleans
    covers: tuple[Booleans, ...]
    team_sizes: Integers
    free_hours: Floats
    due: Integers
    released: Integers
    unassigned_costs: Floats
    previous: Booleans
    pinned: Integers
    has_time: Booleans
    shift_of: Integers
    compatible: Mapping[int, Booleans]
    raw_costs: Floats
    score_costs: Floats
    rate_costs: Floats
    overlap_hours: float
    balance_weight: float
    together: Booleans
    collaboration: float

    @property
    def people(self) -> tuple[Person, ...]:
        return self.calendar.people

    def hours_each(self, t: int) -> float:
        """Hours of each member of the task's smallest team."""
        return self.tasks[t].estimated_hours / max(int(self.team_sizes[t]), 1)

    @cached_property
    def room(self) -> Floats:
        """Hours that everyone has while any task can be worked on, shape (people,)."""
        spans = sorted({(int(r) + 1, int(d)) for r, d in zip(self.released, self.due, strict=True)})
        room = np.zeros(len(self.people))
        while spans:
            since, until = spans.pop(0)
            while spans and spans[0][0] <= until:  # The next begins before this has ended.
                until = max(until, spans.pop(0)[1])
            if since <= until:
                room += np.maximum(self.free_hours[since, until], 0.0)
        return room

    def sizes(self, t: int) -> range:
        """The sizes that the task's team may have."""
        size, forced = self.tasks[t].team_size, int((self.pinned[t] > 0).sum())
        most = min(size.most, len(self.people))
        return range(max(size.least, forced, 1), most + 1)

    def needed(self, t: int) -> Integers:
        """How many people each requirement needs, shape (requirements,)."""
        return np.array([need.people for need in self.tasks[t].skills], np.int64)

    def team_cost(self, t: int, members: Sequence[int]) -> float:
        """What a team costs: its mean, its new pairs, less what it keeps of before."""
        team = list(members)
        kept = self.previous[t, team].sum()
        cost = float((self.raw_costs[t, team].sum() - CHANGE_COST * kept) / len(team))
        if len(team) > 1 and self.collaboration:
            known = self.together[np.ix_(team, team)].sum() / (len(team) * (len(team) - 1))
            cost += self.collaboration * (1 - float(known))
        return cost

    def has_room(self, t: int, size: int) -> Booleans:
        """Who has time for a share in a team of this size, shape (people,)."""
        hours = _hours_in_window(self.free_hours, int(self.released[t]), int(self.due[t]))
        return np.asarray(hours >= self.tasks[t].estimated_hours / size - TOLERANCE)

    def fits_with(self, t: int, p: int) -> Booleans:
        """Who shares enough hours with a person on each common day, shape (people,)."""
        if t not in self.compatible:
            return np.ones(len(self.people), bool)
        return np.asarray(self.compatible[t][self.shift_of[p]][self.shift_of])

    def share_hours(self, t: int, members: Sequence[int]) -> bool:
        """Whether a team shares enough hours on each day on which all of it works."""
        if self.overlap_hours <= 0:
            return True
        calendar = self.calendar
        shifts = frozenset(calendar.shifts[p] for p in members)
        found = overlap(shifts, *self.tasks[t].window(calendar.now))
        return found.hours >= self.overlap_hours - TOLERANCE

    def with_only_pins(self, pins: Sequence[tuple[int, int]]) -> "PlanProblem":
        """The problem of satisfying some pins, with all other tasks unassigned.

        Args:
            pins: Pairs of (task, person) that must be in a team.
        """
        pinned = np.minimum(self.pinned, 0)
        eligible, sizes = self.eligible.copy(), np.zeros_like(self.team_sizes)
        for t, p in pins:
            pinned[t, p] = 1
        for t in {t for t, _ in pins}:
            hours = _hours_in_window(self.free_hours, self.released[t], self.due[t])
            sizes[t] = _smallest_team_size(self.tasks[t], self.covers[t], hours, pinned[t])
            eligible[t] = _eligible_people(self.tasks[t], int(sizes[t]), hours, pinned[t])
        return replace(self, pinned=pinned, eligible=eligible, team_sizes=sizes)


def build_plan_problem(
    tasks: Sequence[Task],
    calendar: Calendar,
    matcher: Matcher,
    history: History,
    parameters: OptimizerParameters,
    *,
    pins: Mapping[tuple[str, str], Pin] | None = None,
    previous: Mapping[str, Sequence[str]] | None = None,
) -> PlanProblem:
    """Build the arrays of a planning problem.

    Args:
        tasks: The tasks to plan.
        calendar: Everyone who might do them, and the work that is committed.
        matcher: Matches required skills with those people have.
        history: Past success.
        parameters: The tenant's parameters.
        pins: (task, person) → whether they must or must not be in the team.
        previous: Task → team in an earlier plan; changes to it cost.
    """
    people, now = calendar.people, calendar.now
    shape = (len(tasks), len(people))
    pinned, before = _pins_and_previous(tasks, people, pins or {}, previous or {})
    times, released, due = _checkpoints_of(tasks, now)
    moments = [datetime.fromtimestamp(time, tz=now.tzinfo) for time in times]
    free = calendar.free_hours([now, *moments], moments, parameters.workload_limit)
    last = max((task.deadline for task in tasks), default=now)
    shifts, shift_of = calendar.distinct_shifts(*days_around(now, last))
    rates = np.array([person.cost_per_hour for person in people])
    rates = rates / (rates.max(initial=0) or 1.0)
    costs, eligible = np.zeros(shape), np.zeros(shape, bool)
    rate_costs = parameters.cost_importance * rates
    has_time, raw, score_costs = np.zeros(shape, bool), np.zeros(shape), np.zeros(shape)
    covers: list[Booleans] = []
    sizes = np.zeros(len(tasks), np.int64)
    matrices: dict[tuple[datetime, datetime], Booleans] = {}
    compatible: dict[int, Booleans] = {}
    for t, task in enumerate(tasks):
        scored = score_candidates(task, calendar, matcher, history, parameters)
        loads = np.array([candidate.load for candidate in scored]) / 100
        sufficient = [[skill.is_sufficient for skill in candidate.skills] for candidate in scored]
        covers.append(np.array(sufficient, bool).reshape(len(people), -1).T)
        hours = _hours_in_window(free, released[t], due[t])
        sizes[t] = _smallest_team_size(task, covers[t], hours, pinned[t])
        eligible[t] = _eligible_people(task, int(sizes[t]), hours, pinned[t])
        has_time[t] = hours >= task.estimated_hours / task.team_size.most - TOLERANCE
        size = max(int(sizes[t]), 1)
        score_costs[t] = parameters.score_importance * (1 - np.array([c.score for c in scored]))
        raw[t] = score_costs[t] + rate_costs + parameters.balance_importance * loads**2
        costs[t] = (raw[t] - CHANGE_COST * before[t]) / size
        if task.team_size.most > 1 and parameters.overlap_hours:
            window = task.window(now)
            if window not in matrices:
                matrices[window] = share_enough(shifts, *window, parameters.overlap_hours)[0]
            compatible[t] = matrices[window]
    return PlanProblem(
        tasks=tuple(tasks),
        calendar=calendar,
        costs=costs,
        eligible=eligible,
        covers=tuple(covers),
        team_sizes=sizes,
        free_hours=free,
        due=due,
        released=released,
        unassigned_costs=np.array([UNASSIGNED_COST * 2.0 ** (t.priority - 1) for t in tasks]),
        previous=before,
        pinned=pinned,
        has_time=has_time,
        shift_of=shift_of,
        compatible=compatible,
        raw_costs=raw,
        score_costs=score_costs,
        rate_costs=rate_costs,
        overlap_hours=parameters.overlap_hours,
        together=_together(people, history),
        collaboration=parameters.collaboration_importance,
        balance_weight=parameters.balance_importance * BALANCE,
    )


def hours_between(free_hours: Floats, since: int, until: int) -> Floats:
    """Hours everyone has from one checkpoint (-1: now) to another, shape (people,)."""
    return np.asarray(free_hours[since + 1, until])


def _together(people: Sequence[Person], history: History) -> Booleans:
    column = {person.id: n for n, person in enumerate(people)}
    together = np.zeros((len(people), len(people)), bool)
    for a, b in history.together:
        if a in column and b in column:
            together[column[a], column[b]] = together[column[b], column[a]] = True
    return together


def _pins_and_previous(
    tasks: Sequence[Task],
    people: Sequence[Person],
    pins: Mapping[tuple[str, str], Pin],
    previous: Mapping[str, Sequence[str]],
) -> tuple[Integers, Booleans]:
    shape = (len(tasks), len(people))
    row = {task.id: n for n, task in enumerate(tasks)}
    column = {person.id: n for n, person in enumerate(people)}
    pinned, before = np.zeros(shape, np.int64), np.zeros(shape, bool)
    for (task_id, person_id), pin in pins.items():
        pinned[row[task_id], column[person_id]] = 1 if pin == "in" else -1
    for task_id, team in previous.items():
        for person_id in team:
            if task_id in row and person_id in column:
                before[row[task_id], column[person_id]] = True
    return pinned, before


def _checkpoints_of(tasks: Sequence[Task], now: datetime) -> tuple[Floats, Integers, Integers]:
    """The checkpoints as timestamps, and each task's release and due checkpoint."""
    windows = [task.window(now) for task in tasks]
    deadlines = _thinned([deadline for _, deadline in windows if deadline > now])
    starts = _thinned([start for start, deadline in windows if now < start < deadline])
    times = np.union1d(deadlines, starts)
    due = [np.searchsorted(times, deadline.timestamp(), "right") - 1 for _, deadline in windows]
    released = [
        np.searchsorted(times, start.timestamp(), "left") if start > now else -1
        for start, _ in windows
    ]
    return times, np.array(released, np.int64), np.array(due, np.int64)


def _thinned(moments: Sequence[datetime]) -> Floats:
    """At most CHECKPOINTS of the moments, the earliest and the latest among them."""
    times = np.unique([moment.timestamp() for moment in moments])
    if times.size <= CHECKPOINTS:
        return times
    kept = np.unique(np.linspace(0, times.size - 1, CHECKPOINTS).round().astype(int))
    return np.asarray(times[kept])


def _hours_in_window(free_hours: Floats, released: int, due: int) -> Floats:
    """Hours everyone has for a task, shape (people,)."""
    if due <= released:
        return np.zeros(free_hours.shape[-1])
    return hours_between(free_hours, released, due)


def _eligible_people(task: Task, size: int, hours: Floats, pinned: Integers) -> Booleans:
    """Who has time for a share in a team of this size and is not pinned out."""
    enough = hours >= task.estimated_hours / max(size, 1) - TOLERANCE
    return np.asarray(enough & (pinned >= 0) & (size > 0))


def _smallest_team_size(task: Task, covers: Booleans, hours: Floats, pinned: Integers) -> int:
    """The smallest team that covers the skills, found greedily; 0 for none."""
    forced = np.flatnonzero(pinned > 0).tolist()
    needed = np.array([requirement.people for requirement in task.skills], np.int64)
    for size in range(max(task.team_size.least, len(forced), 1), task.team_size.most + 1):
        eligible = _eligible_people(task, size, hours, pinned)
        if eligible.sum() >= size and _can_cover(covers, needed, eligible, forced, size):
            return size
    return 0


def _can_cover(
    covers: Booleans, needed: Integers, eligible: Booleans, forced: Sequence[int], size: int
) -> bool:
    """Whether adding whoever covers most reaches all requirements in time."""
    if not needed.size:
        return True
    team, left = list(forced), eligible.copy()
    left[team] = False
    missing = needed - covers[:, team].sum(axis=1)
    while missing.max() > 0 and len(team) < size:
        gain = (covers & (missing > 0)[:, None]).sum(axis=0) * left
        best = int(gain.argmax())
        if gain[best] == 0:
            break
        team.append(best)
        left[best] = False
        missing = missing - covers[:, best]
    return bool(missing.max() <= 0)
