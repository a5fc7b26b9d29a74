"""The cheapest changes that make an impossible task possible."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
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
        The changes by cost. Where no single one is enough, pairs of large ones.
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
    """Two changes at once, each as large as it can be."""
    ways = []
    changes = _large_changes(problem, constraints)
    for (text, cost, change), (text2, cost2, change2) in combinations(changes, 2):
        if (team := solve(*change2(*change(problem, constraints)))) is not None:
            message = f"{text} and {text2}"
            ways.append(Relaxation("several", 2, "changes", cost + cost2, message, team))
    return ways


def _large_changes(
    problem: StaffingProblem, constraints: Constraints
) -> list[tuple[str, float, Callable[[StaffingProblem, Constraints], Case]]]:
    """Message, cost and effect of each."""
    later = max(problem.window) + timedelta(days=28)
    larger = min(MAX_TEAM, constraints.max_size + 5)

    def drop_skill(n: int) -> Callable[[StaffingProblem, Constraints], Case]:
        return lambda p, c: (p, c.without_skill(n))

    changes: list[tuple[str, float, Callable[[StaffingProblem, Constraints], Case]]] = []
    if constraints.workload_limit is not None and constraints.workload_limit < 100:
        text = "allow a workload of 100 %"
        changes.append((text, 4.0, lambda p, c: (p, replace(c, workload_limit=100.0))))
    if (hours := constraints.overlap_hours) is not None:
        text = "ask for no common working hours"
        changes.append((text, hours, lambda p, c: (p, replace(c, overlap_hours=None))))
    text = f"move the deadline to {day(later)}"
    changes.append((text, 9.0, lambda p, c: (p.with_deadline(later), c)))
    text = f"allow a team of {larger}"
    changes.append((text, 5.0, lambda p, c: (p, replace(c, max_size=larger))))
    for n, requirement in enumerate(problem.task.skills):
        if constraints.people[n]:
            changes.append((f"do without {requirement.skill}", 5.0, drop_skill(n)))
    return changes


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
