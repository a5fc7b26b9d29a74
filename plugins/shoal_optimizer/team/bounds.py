"""Bounds and first teams of one size, computed without a solver.

A team's objective is Σ cost(p) − reward · (pairs who have worked together). Giving each
of a pair half of its reward, and everyone the most pairs they could be in, makes it
separable. The cheapest way to cover skills with people who share hours with p is then a
small table over sets of skills.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_SKILLS = 7
"""The table has 2 ** skills rows: of more requirements the first ones are bounded."""
UNCOVERED = 1e3
"""Penalty for each person a requirement lacks, above any real cost."""


@dataclass(frozen=True)
class CandidatePool:
    """The people who may be in a team of one size, as arrays.

    Attributes:
        costs: What each adds to the objective, shape (people,).
        covers: Who meets each requirement, shape (requirements, people).
        group: Index of each person's group of shifts, shape (people,).
        compatible: Whether two groups share enough hours, shape (groups, groups).
        size: The team's size.
    """

    costs: NDArray[np.float64]
    covers: NDArray[np.bool_]
    group: NDArray[np.int64]
    compatible: NDArray[np.bool_]
    size: int

    def can_join(self, team: Sequence[int]) -> NDArray[np.bool_]:
        """Who shares enough hours with each member and is not one, shape (people,)."""
        mask = np.ones(self.costs.size, bool)
        if team:
            mask = np.all(self.compatible[self.group[list(team)]], axis=0)[self.group]
            mask[list(team)] = False
        return mask


def skill_bitmasks(covers: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Each person's requirements as bits.

    Args:
        covers: Shape (requirements, people).

    Returns:
        Shape (people,); bit n stands for requirement n, the first MAX_SKILLS of them.
    """
    bits = covers[:MAX_SKILLS]
    if not len(bits):
        return np.zeros(covers.shape[1], np.int64)
    return np.asarray((bits * (1 << np.arange(len(bits)))[:, None]).sum(axis=0), np.int64)


def cheapest_covers(
    costs: NDArray[np.float64], bitmasks: NDArray[np.int64], skills: int, size: int
) -> NDArray[np.float64]:
    """The lowest total cost of `size` people who cover each set of skills.

    The same person may be counted more than once, so it is a lower bound.

    Returns:
        Shape (2 ** skills,), by the bits of the set; +inf where nobody covers it.
    """
    sets = np.arange(1 << skills)
    cheapest = np.full(sets.size, np.inf)
    np.minimum.at(cheapest, bitmasks, costs)
    present = np.flatnonzero(np.isfinite(cheapest))
    total = np.where(sets == 0, 0.0, np.inf)
    for _ in range(size):
        total = (cheapest[present, None] + total[sets[None, :] & ~present[:, None]]).min(
            axis=0, initial=np.inf
        )
    return np.asarray(total)


def team_lower_bounds(
    pool: CandidatePool, pairs: NDArray[np.int64], reward: float
) -> NDArray[np.float64]:
    """A lower bound on the teams that each person is in, without constant terms.

    Args:
        pool: The people.
        pairs: Those who have worked together, shape (pairs, 2).
        reward: What each such pair in the team takes off the objective.

    Returns:
        Shape (people,); +inf for people who can be in no team.
    """
    people = pool.costs.size
    degree = np.bincount(pairs.ravel(), minlength=people) if pairs.size else np.zeros(people)
    optimistic = pool.costs - reward / 2 * np.minimum(degree, pool.size - 1)
    bitmasks, skills = skill_bitmasks(pool.covers), min(len(pool.covers), MAX_SKILLS)
    every_skill = (1 << skills) - 1
    found = np.full(people, np.inf)
    for g in np.unique(pool.group):
        mine = pool.group == g
        others = pool.compatible[g, pool.group]
        rest = cheapest_covers(optimistic[others], bitmasks[others], skills, pool.size - 1)
        found[mine] = optimistic[mine] + rest[every_skill & ~bitmasks[mine]]
    return found


def greedy_teams(
    pool: CandidatePool,
    needed: NDArray[np.int64],
    pair_rewards: NDArray[np.float64],
    starts: int,
) -> list[list[int]]:
    """Teams built greedily from several first members, then improved by exchanges.

    Args:
        pool: The people.
        needed: How many people each requirement needs, shape (requirements,).
        pair_rewards: What each pair takes off the objective, shape (people, people).
        starts: How many first members are tried.

    Returns:
        The teams that cover the requirements, as indices into the pool.
    """
    teams = []
    estimate = pool.costs - 0.05 * pool.costs.std() * pool.covers.sum(axis=0)
    for first in np.argsort(estimate, kind="stable")[:starts]:
        team = _grow_team(pool, needed, pair_rewards, int(first))
        if team is None:
            continue
        _exchange_members(pool, needed, pair_rewards, team)
        if np.all(pool.covers[:, team].sum(axis=1) >= needed):
            teams.append(team)
    return teams


def _grow_team(
    pool: CandidatePool, needed: NDArray[np.int64], pair_rewards: NDArray[np.float64], first: int
) -> list[int] | None:
    """Add whoever covers most of what is missing, the cheapest first."""
    team = [first]
    while len(team) < pool.size:
        missing = np.maximum(needed - pool.covers[:, team].sum(axis=1), 0)
        can_join = pool.can_join(team)
        if not can_join.any():
            return None
        gain = (pool.covers & (missing > 0)[:, None]).sum(axis=0)
        cost = pool.costs - pair_rewards[:, team].sum(axis=1) - gain * (pool.costs.max() + 1.0)
        team.append(int(np.where(can_join, cost, np.inf).argmin()))
    return team


def _exchange_members(
    pool: CandidatePool,
    needed: NDArray[np.int64],
    pair_rewards: NDArray[np.float64],
    team: list[int],
) -> None:
    """Replace one member at a time, in place, while that improves the team."""
    for _ in range(3 * pool.size):
        best, change = None, -1e-9
        lacking = int(np.maximum(needed - pool.covers[:, team].sum(axis=1), 0).sum())
        for n in range(pool.size):
            others = team[:n] + team[n + 1 :]
            missing = np.maximum(needed - pool.covers[:, others].sum(axis=1), 0)
            left = missing.sum() - (pool.covers & (missing > 0)[:, None]).sum(axis=0)
            cost = pool.costs - pair_rewards[:, others].sum(axis=1) + left * UNCOVERED
            cost = np.where(pool.can_join(others), cost, np.inf)
            q = int(cost.argmin())
            mine = pool.costs[team[n]] - pair_rewards[team[n], others].sum()
            delta = cost[q] - (mine + lacking * UNCOVERED)
            if delta < change:
                best, change = (n, q), delta
        if best is None:
            return
        team[best[0]] = best[1]
