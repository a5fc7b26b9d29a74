"""Teams that a plan may choose from, as columns of a set packing problem."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np

from .problem import Booleans, Floats, PlanProblem

MAX_ENUMERATED = 30_000
"""Teams of all tasks together up to which a plan is proved by trying all of them."""
COVER_BONUS = 10.0
"""What covering a missing skill is worth against cost, which is at most about 2."""


@dataclass(frozen=True)
class Column:
    """A team for a task.

    Attributes:
        task: The row of the task.
        team: The members' columns, in order.
        cost: What the plan pays for it.
        share: Hours of each member.
    """

    task: int
    team: tuple[int, ...]
    cost: float
    share: float


def column(problem: PlanProblem, t: int, team: Sequence[int]) -> Column:
    """The column of a team."""
    members = tuple(sorted(team))
    share = problem.tasks[t].estimated_hours / len(members)
    return Column(t, members, problem.team_cost(t, members), share)


def is_allowed(problem: PlanProblem, t: int, team: Sequence[int]) -> bool:
    """Whether a team covers the skills, shares enough hours, and respects the pins."""
    members = list(team)
    if not set(np.flatnonzero(problem.pinned[t] > 0)).issubset(members):
        return False
    if np.any(problem.covers[t][:, members].sum(axis=1) < problem.needed(t)):
        return False
    return len(members) == 1 or problem.share_hours(t, members)


def may_join(problem: PlanProblem, t: int, size: int) -> Booleans:
    """Who has time for a share in a team of this size and is not pinned out."""
    return np.asarray(problem.has_room(t, size) & (problem.pinned[t] >= 0))


def enumerate_columns(problem: PlanProblem) -> list[Column] | None:
    """Every column, or None when there are too many."""
    found: list[tuple[int, int, list[int]]] = []
    total = 0
    for t in range(len(problem.tasks)):
        for size in problem.sizes(t):
            people = np.flatnonzero(may_join(problem, t, size)).tolist()
            total += comb(len(people), size)
            if total > MAX_ENUMERATED:
                return None
            found.append((t, size, people))
    return [
        column(problem, t, team)
        for t, size, people in found
        for team in combinations(people, size)
        if is_allowed(problem, t, team)
    ]


def grow_team(
    problem: PlanProblem, t: int, size: int, prices: Floats, room: Booleans
) -> list[int] | None:
    """A team built greedily: who covers most of what is missing for the least price.

    Args:
        problem: The tasks and people.
        t: The task.
        size: The size of the team.
        prices: What each person costs in it, shape (people,).
        room: Who may join, shape (people,).
    """
    forced = np.flatnonzero(problem.pinned[t] > 0).tolist()
    if len(forced) > size or not room[forced].all():
        return None
    team, covers, can_join = list(forced), problem.covers[t], room.copy()
    for p in forced:
        can_join &= problem.fits_with(t, p)
    missing = problem.needed(t) - covers[:, team].sum(axis=1)
    while len(team) < size:
        can_join[team] = False
        gain = (covers & (missing > 0)[:, None]).sum(axis=0)
        value = np.where(can_join, prices - COVER_BONUS * gain, np.inf)
        pick = int(value.argmin())
        if np.isinf(value[pick]):
            return None
        team.append(pick)
        missing = missing - covers[:, pick]
        if size > 1:
            can_join &= problem.fits_with(t, pick)
    return team if is_allowed(problem, t, team) else None
