"""Why no team can do a task: the smallest set of requirements that conflict.

Cores from a solver are unreliable (those of CP-SAT are not minimal, and not always
given). So every claim here is a solve of its own: with the set there is no team, and
without any one member of it there is one.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import combinations

from .conflict_messages import conflict_message, day
from .objective import NO_OBJECTIVE
from .search import find_team
from .solution import TeamSolution
from .staffing_problem import MAX_TEAM, Constraints, StaffingProblem

Requirement = tuple[str, int]
"""A requirement that can be dropped.

("skill", its index), or ("workload" | "overlap" | "team_size" | "availability" |
"include" | "exclude", 0).
"""

MAX_ENUMERATED = 4
"""Conflicts of fewer requirements than this are proved to be the smallest."""


@dataclass(frozen=True)
class Conflict:
    """Requirements that no team meets together.

    Attributes:
        requirements: Their names, such as "workload" or "skill:Python".
        message: The conflict as a sentence.
        verified: Whether dropping any one of them was shown to allow a team.
    """

    requirements: tuple[str, ...]
    message: str
    verified: bool = True


def find_conflict(
    problem: StaffingProblem, constraints: Constraints, time_limit: float = 2.0
) -> Conflict | None:
    """Find the smallest set of conflicting requirements.

    Args:
        problem: The task and everyone scored for it.
        constraints: What a team must satisfy.
        time_limit: Seconds for each of the solves it takes.

    Returns:
        The conflict, or None when a team exists or the time did not suffice to tell.
    """
    if not problem.candidates:
        return Conflict(("people",), "there are no people")
    start, end = problem.window
    if end <= start:
        return Conflict(("deadline",), f"the deadline {day(end)} has passed")
    requirements = _requirements(constraints)
    known: dict[frozenset[Requirement], bool | None] = {}

    def is_feasible(active: Iterable[Requirement]) -> bool | None:
        key = frozenset(active)
        if key not in known:
            relaxed = _keep_only(constraints, key)
            status = find_any_team(problem, relaxed, time_limit).status
            known[key] = {"optimal": True, "feasible": True, "infeasible": False}.get(status)
        return known[key]

    if is_feasible(requirements) is not False:
        return None
    smallest = list(requirements)
    for requirement in requirements:
        rest = [other for other in smallest if other != requirement]
        if is_feasible(rest) is False:
            smallest = rest
    for size in range(1, min(len(smallest), MAX_ENUMERATED)):
        sets = combinations(requirements, size)
        if (found := next((s for s in sets if is_feasible(s) is False), None)) is not None:
            smallest = list(found)
            break
    verified = all(
        is_feasible([other for other in smallest if other != requirement]) is True
        for requirement in smallest
    )
    names = tuple(_name(problem, requirement) for requirement in smallest)
    return Conflict(names, conflict_message(problem, constraints, smallest), verified)


def find_any_team(
    problem: StaffingProblem, constraints: Constraints, time_limit: float
) -> TeamSolution:
    """Find some team; every small size is tried, and a few large ones."""
    sizes = problem.sizes(constraints)
    tried = [
        size
        for size in sizes
        if size <= constraints.min_size + 8
        or size in (16, 20, 30, 40, MAX_TEAM)
        or size == sizes[-1]
    ]
    return find_team(
        problem, constraints, NO_OBJECTIVE, sizes=tried, time_limit=time_limit, any_team=True
    )


def _requirements(constraints: Constraints) -> list[Requirement]:
    found: list[Requirement] = [
        ("skill", n) for n, people in enumerate(constraints.people) if people
    ]
    if constraints.workload_limit is not None:
        found.append(("workload", 0))
    if constraints.overlap_hours is not None:
        found.append(("overlap", 0))
    if constraints.include:
        found.append(("include", 0))
    if constraints.exclude:
        found.append(("exclude", 0))
    return [*found, ("availability", 0), ("team_size", 0)]


def _keep_only(constraints: Constraints, active: frozenset[Requirement]) -> Constraints:
    """The constraints without the requirements that are not active."""
    any_size = ("team_size", 0) not in active
    return replace(
        constraints,
        people=tuple(
            people if ("skill", n) in active else 0 for n, people in enumerate(constraints.people)
        ),
        workload_limit=constraints.workload_limit if ("workload", 0) in active else None,
        overlap_hours=constraints.overlap_hours if ("overlap", 0) in active else None,
        availability=("availability", 0) in active,
        include=constraints.include if ("include", 0) in active else frozenset(),
        exclude=constraints.exclude if ("exclude", 0) in active else frozenset(),
        min_size=1 if any_size else constraints.min_size,
        max_size=MAX_TEAM if any_size else constraints.max_size,
    )


def _name(problem: StaffingProblem, requirement: Requirement) -> str:
    kind, n = requirement
    return f"skill:{problem.task.skills[n].skill}" if kind == "skill" else kind
