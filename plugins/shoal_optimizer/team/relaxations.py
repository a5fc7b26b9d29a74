"""The cheapest changes that make an impossible task possible."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import combinations
from typing import TypeVar

import numpy as np

from .conflict_messages import day
from .conflicts import find_any_team
from .staffing_problem import MAX_TEAM, Constraints, StaffingProblem

T = TypeVar("T")

EXTENSIONS = (1, 2, 3, 5, 7, 10, 14, 21, 28, 42, 56, 84)
"""Days by which the deadline may be moved; in between, single days are tried."""
MORE_PEOPLE = (1, 2, 3, 5, 8, 13)
MAX_PAIRS = 5
"""Pairs of changes that are made as small as they can be."""
MAX_WISHES = 10
"""Of people who must, or must not, be in the team, that are tried without."""

Case = tuple[StaffingProblem, Constraints]
Solve = Callable[[StaffingProblem, Constraints], tuple[str, ...] | None]
"""The ids of a team, or None when there is none."""


@dataclass(frozen=True)
class Relaxation:
    """One way to make the task possible.

    Attributes:
        change: What to change, such as "deadline" or "skill_level:Python".
        amount: The new value or the size of the change, in `unit`.
        unit: Such as "days".
        cost: How hard it is to grant, roughly; the cheapest come first.
        message: The change in words.
        team: The ids of a team that could then do the task.
    """

    change: str
    amount: float
    unit: str
    cost: float
    message: str
    team: tuple[str, ...] = field(default=(), compare=False)


def find_relaxations(
    problem: StaffingProblem, constraints: Constraints, time_limit: float = 1.0
) -> list[Relaxation]:
    """Find single changes, each as small as possible, that allow a team.

    Args:
        problem: The task and everyone scored for it.
        constraints: What a team must satisfy.
        time_limit: Seconds for each of the solves it takes.

    Returns:
        The changes by cost. Where no single one is enough, pairs of them.
    """
    if not problem.candidates:
        return []

    def solve(case: StaffingProblem, relaxed: Constraints) -> tuple[str, ...] | None:
        team = find_any_team(case, relaxed, time_limit).team
        return None if team is None else tuple(case.people[n].id for n in team.members)

    attempts = (
        _raise_workload,
        _shorten_overlap,
        _extend_deadline,
        _enlarge_team,
        _shrink_team,
        _lower_skills,
        _drop_wishes,
    )
    found = [way for attempt in attempts for way in attempt(problem, constraints, solve)]
    found = found or _change_two(problem, constraints, solve)
    return sorted(found, key=lambda way: way.cost)


def _raise_workload(
    problem: StaffingProblem, constraints: Constraints, solve: Solve
) -> list[Relaxation]:
    limit = constraints.workload_limit
    if limit is None or limit >= 100:
        return []
    limits = [min(100.0, limit + step) for step in range(1, int(np.ceil(100 - limit)) + 1)]
    found = _smallest(
        limits, lambda value: solve(problem, replace(constraints, workload_limit=value))
    )
    if found is None:
        return []
    value, team = found
    text = f"allow a workload of {value:g} % instead of {limit:g} %"
    return [Relaxation("workload_limit", value, "percent", (value - limit) / 5, text, team)]


def _shorten_overlap(
    problem: StaffingProblem, constraints: Constraints, solve: Solve
) -> list[Relaxation]:
    hours = constraints.overlap_hours
    if hours is None:
        return []
    shorter = [half / 2 for half in range(int(np.ceil(hours * 2)) - 1, -1, -1)]
    found = _smallest(
        shorter, lambda value: solve(problem, replace(constraints, overlap_hours=value or None))
    )
    if found is None:
        return []
    value, team = found
    text = f"accept {value:g} common working hours a day instead of {hours:g}"
    return [Relaxation("overlap_hours", value, "hours", hours - value, text, team)]


def _extend_deadline(
    problem: StaffingProblem, constraints: Constraints, solve: Solve
) -> list[Relaxation]:
    base = max(problem.window)

    def with_days(days: int) -> tuple[str, ...] | None:
        return solve(problem.with_deadline(base + timedelta(days=days)), constraints)

    # From the least on: what is possible in a week may not be in a month, because a
    # longer window can hold a day with fewer common hours.
    before = 0
    for extension in EXTENSIONS:
        if (team := with_days(extension)) is not None:
            break
        before = extension
    else:
        return []
    days = extension
    for fewer in range(before + 1, extension):
        if (their := with_days(fewer)) is not None:
            days, team = fewer, their
            break
    plural = "s" if days > 1 else ""
    text = f"move the deadline {days} day{plural}, to {day(base + timedelta(days=days))}"
    return [Relaxation("deadline", float(days), "days", days / 3, text, team)]


def _enlarge_team(
    problem: StaffingProblem, constraints: Constraints, solve: Solve
) -> list[Relaxation]:
    most = constraints.max_size
    possible = min(MAX_TEAM, len(problem.candidates))
    sizes = [most + more for more in MORE_PEOPLE if most + more <= possible]
    found = _smallest(sizes, lambda size: solve(problem, replace(constraints, max_size=size)))
    if found is None:
        return []
    size, team = found
    text = f"allow a team of {size} instead of {most}"
    return [Relaxation("team_size_max", float(size), "people", float(size - most), text, team)]


def _shrink_team(
    problem: StaffingProblem, constraints: Constraints, solve: Solve
) -> list[Relaxation]:
    least = constraints.min_size
    sizes = range(least - 1, 0, -1)
    found = _smallest(sizes, lambda size: solve(problem, replace(constraints, min_size=size)))
    if found is None:
        return []
    size, team = found
    text = f"allow a team of {size} instead of at least {least}"
    return [Relaxation("team_size_min", float(size), "people", 1.5 * (least - size), text, team)]


def _drop_wishes(
    problem: StaffingProblem, constraints: Constraints, solve: Solve
) -> list[Relaxation]:
    ways = []
    for n in sorted(constraints.include | constraints.exclude)[:MAX_WISHES]:
        include, exclude = constraints.include - {n}, constraints.exclude - {n}
        relaxed = replace(constraints, include=include, exclude=exclude)
        if (team := solve(problem, relaxed)) is not None:
            person, wish = problem.people[n], "include" if n in constraints.include else "exclude"
            text = f"{'do without' if wish == 'include' else 'allow'} {person.label}"
            ways.append(Relaxation(f"{wish}:{person.id}", 1, "people", 2.0, text, team))
    return ways


def _lower_skills(
    problem: StaffingProblem, constraints: Constraints, solve: Solve
) -> list[Relaxation]:
    ways: list[Relaxation] = []
    for n, people in enumerate(constraints.people):
        if people:
            ways += _lower_level(problem, constraints, solve, n)
            ways += _ask_for_fewer(problem, constraints, solve, n)
    return ways


def _lower_level(
    problem: StaffingProblem, constraints: Constraints, solve: Solve, n: int
) -> list[Relaxation]:
    level, skill = constraints.levels[n], problem.task.skills[n].skill
    lower = sorted({float(v) for v in problem.levels[n] if 0 < v < level}, reverse=True)
    found = _smallest(
        lower,
        lambda value: solve(
            problem, replace(constraints, levels=_replace_item(constraints.levels, n, value))
        ),
    )
    if found is None:
        return []
    value, team = found
    text = f"accept {skill} at level {value:g} instead of {level:g}"
    return [Relaxation(f"skill_level:{skill}", value, "level", 1.5 * (level - value), text, team)]


def _ask_for_fewer(
    problem: StaffingProblem, constraints: Constraints, solve: Solve, n: int
) -> list[Relaxation]:
    people, skill = constraints.people[n], problem.task.skills[n].skill
    found = _smallest(
        range(people - 1, -1, -1),
        lambda count: solve(
            problem, replace(constraints, people=_replace_item(constraints.people, n, count))
        ),
    )
    if found is None:
        return []
    count, team = found
    if count == 0:
        text, cost = f"do without {skill}", 5.0
    else:
        text, cost = f"ask for {skill} in {count} instead of {people}", 2.0 * (people - count)
    return [Relaxation(f"skill_people:{skill}", float(count), "people", cost, text, team)]


def _change_two(
    problem: StaffingProblem, constraints: Constraints, solve: Solve
) -> list[Relaxation]:
    """Two changes at once: the first as small as it can be, then the second."""

    def team_with(one: Change, other: Change) -> tuple[str, ...] | None:
        return solve(*other.apply(*one.apply(problem, constraints)))

    pairs = [
        pair
        for pair in combinations(_possible_changes(problem, constraints), 2)
        if team_with(pair[0][-1], pair[1][-1]) is not None
    ]
    pairs.sort(key=lambda pair: pair[0][-1].cost + pair[1][-1].cost)
    ways = []
    for ones, others in pairs[:MAX_PAIRS]:
        least = _smallest(ones, partial(team_with, others[-1]))
        assert least is not None
        one = least[0]
        found = _smallest(others, partial(team_with, one))
        if found is not None:
            other, team = found
            message = f"{one.text} and {other.text}"
            ways.append(Relaxation("several", 2, "changes", one.cost + other.cost, message, team))
    return ways


@dataclass(frozen=True)
class Change:
    """One change of the requirements, as a message, a cost and what it does."""

    text: str
    cost: float
    apply: Callable[[StaffingProblem, Constraints], Case]


def _possible_changes(problem: StaffingProblem, constraints: Constraints) -> list[list[Change]]:
    """For each requirement its changes, the smallest first."""
    found = []
    limit, hours, most = (
        constraints.workload_limit,
        constraints.overlap_hours,
        constraints.max_size,
    )
    if limit is not None and limit < 100:
        steps = [min(100.0, limit + step) for step in range(1, int(np.ceil(100 - limit)) + 1)]
        found.append([_change_workload(value, limit) for value in steps])
    if hours is not None:
        shorter = [half / 2 for half in range(int(np.ceil(hours * 2)) - 1, -1, -1)]
        found.append([_change_overlap(value, hours) for value in shorter])
    end = max(problem.window)
    found.append([_change_deadline(end + timedelta(days=days), days) for days in range(1, 29)])
    sizes = range(most + 1, min(MAX_TEAM, most + 5, len(problem.candidates)) + 1)
    if sizes:
        found.append([_change_size(size, most) for size in sizes])
    for n, requirement in enumerate(problem.task.skills):
        if constraints.people[n]:
            found.append([_drop_skill(n, requirement.skill)])
    return found


def _change_workload(value: float, limit: float) -> Change:
    text = f"allow a workload of {value:g} %"
    return Change(text, (value - limit) / 5, lambda p, c: (p, replace(c, workload_limit=value)))


def _change_overlap(value: float, hours: float) -> Change:
    text = f"accept {value:g} common working hours a day"
    return Change(text, hours - value, lambda p, c: (p, replace(c, overlap_hours=value or None)))


def _change_deadline(later: datetime, days: int) -> Change:
    text = f"move the deadline to {day(later)}"
    return Change(text, days / 3, lambda p, c: (p.with_deadline(later), c))


def _change_size(size: int, most: int) -> Change:
    text = f"allow a team of {size}"
    return Change(text, float(size - most), lambda p, c: (p, replace(c, max_size=size)))


def _drop_skill(n: int, skill: str) -> Change:
    return Change(f"do without {skill}", 5.0, lambda p, c: (p, c.without_skill(n)))


def _replace_item(values: tuple[T, ...], n: int, value: T) -> tuple[T, ...]:
    return (*values[:n], value, *values[n + 1 :])


def _smallest(
    values: Sequence[T], solve: Callable[[T], tuple[str, ...] | None]
) -> tuple[T, tuple[str, ...]] | None:
    """The first of ever larger changes that allows a team, by bisection.

    Args:
        values: The changes, the smallest first.
        solve: Gives the team that a change allows, None when it allows none.

    Returns:
        The change and its team, or None when even the largest is not enough.
    """
    if not values or (team := solve(values[-1])) is None:
        return None
    low, high = 0, len(values) - 1
    while low < high:
        middle = (low + high) // 2
        if (their := solve(values[middle])) is not None:
            high, team = middle, their
        else:
            low = middle + 1
    return values[high], team
