"""A first plan, made one task at a time."""

import numpy as np

from ..calendar import TOLERANCE
from .problem import Booleans, PlanProblem

FIRST_MEMBERS = 4
"""How many first members are tried for a team."""
COVER_BONUS = 10
"""What covering a missing skill is worth against cost, which is at most about 2."""


def greedy_plan(problem: PlanProblem) -> Booleans:
    """Plan the pinned tasks first, then by importance, then by due date.

    Returns:
        The teams, shape (tasks, people); a row without a member is unassigned.
    """
    teams = np.zeros(problem.eligible.shape, bool)
    # left[since, until, person]: hours left between two checkpoints. Since 0 is now, so
    # it is one more than in `released`.
    left = problem.free_hours[: int(problem.released.max(initial=-1)) + 2].copy()
    order = sorted(
        range(len(problem.tasks)),
        key=lambda t: (
            not (problem.pinned[t] > 0).any(),
            -problem.unassigned_costs[t],
            problem.due[t],
        ),
    )
    for t in order:
        if problem.team_sizes[t] == 0:
            continue
        share, since, until = problem.hours_each(t), int(problem.released[t]) + 1, problem.due[t]
        hours = left[: since + 1, until:].min(axis=(0, 1))
        team = _greedy_team(problem, t, problem.eligible[t] & (hours >= share - TOLERANCE))
        if team is not None:
            teams[t, team] = True
            left[: since + 1, until:, team] -= share
    return teams


def _greedy_team(problem: PlanProblem, t: int, eligible: Booleans) -> list[int] | None:
    forced = np.flatnonzero(problem.pinned[t] > 0).tolist()
    if not all(eligible[p] for p in forced):
        return None
    by_cost = np.argsort(np.where(eligible, problem.costs[t], np.inf))
    cheapest = by_cost[: min(FIRST_MEMBERS, eligible.sum())].tolist()
    size = int(problem.team_sizes[t])
    for first in [None, *cheapest]:
        team = list(forced)
        if first is not None and first not in team and len(team) < size:
            team.append(first)
        if _fill_team(problem, t, eligible, team):
            return team
    return None


def _fill_team(problem: PlanProblem, t: int, eligible: Booleans, team: list[int]) -> bool:
    """Complete a team in place; whether it has its size and covers the skills."""
    covers, size = problem.covers[t], int(problem.team_sizes[t])
    needed = np.array([requirement.people for requirement in problem.tasks[t].skills], np.int64)
    missing = needed - covers[:, team].sum(axis=1) if needed.size else needed
    while len(team) < size:
        can_join = eligible & _compatible_people(problem, t, team)
        can_join[team] = False
        if not can_join.any():
            return False
        gain = (covers & (missing > 0)[:, None]).sum(axis=0) if needed.size else 0
        cost = problem.costs[t] - COVER_BONUS * gain
        pick = int(np.where(can_join, cost, np.inf).argmin())
        team.append(pick)
        missing = missing - covers[:, pick] if needed.size else missing
    return not needed.size or bool(missing.max() <= 0)


def _compatible_people(problem: PlanProblem, t: int, team: list[int]) -> Booleans:
    """Who shares enough hours with every member, shape (people,)."""
    if t not in problem.compatible:
        return np.ones(problem.shift_of.size, bool)
    present = sorted({int(problem.shift_of[p]) for p in team})
    matrix = problem.compatible[t]
    alone = matrix.diagonal()
    return np.asarray((matrix[present].all(axis=0) & alone)[problem.shift_of])
