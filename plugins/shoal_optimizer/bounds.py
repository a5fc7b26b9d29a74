"""Quick bounds for teams of one size: which people could be in a team better than a
known one.

A team's objective is Σ own(p) − reward · (pairs who have worked together). Giving each
of a pair half of its reward, and everyone the most pairs they could be in, makes it
separable; the cheapest way to cover skills with people who share hours with p is then a
small table over sets of skills.
"""

import numpy as np
from numpy.typing import NDArray

MOST_SKILLS = 7  # sets of more skills are bounded by their first ones


def skill_sets(covers: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Each person's covered requirements as bits; covers has shape (requirements,
    people).
    """
    kept = covers[:MOST_SKILLS]
    return (
        (kept * (1 << np.arange(len(kept)))[:, None]).sum(axis=0).astype(np.int64)
        if len(kept)
        else np.zeros(covers.shape[1], np.int64)
    )


def cheapest_rest(
    own: NDArray[np.float64], sets: NDArray[np.int64], skills: int, size: int
) -> NDArray[np.float64]:
    """Shape (2 ** skills,): the least total of `size` people (repeats allowed) who
    cover each set of skills.
    """
    every = np.arange(1 << skills)
    cheapest = np.full(every.size, np.inf)
    np.minimum.at(cheapest, sets, own)
    kinds = np.flatnonzero(np.isfinite(cheapest))
    least = np.where(every == 0, 0.0, np.inf)
    for _ in range(size):
        least = (cheapest[kinds, None] + least[every[None, :] & ~kinds[:, None]]).min(
            axis=0, initial=np.inf
        )
    return np.asarray(least)


def bounds(
    own: NDArray[np.float64], covers: NDArray[np.bool_], schedule: NDArray[np.int64], compatible: NDArray[np.bool_],
    pairs: NDArray[np.int64], reward: float, size: int,
) -> NDArray[np.float64]:  # fmt: skip
    """A lower bound for the teams of `size` that each person is in (+inf where there
    are none), constants aside.

    own, schedule: shape (people,); covers: (requirements, people); compatible:
    (schedules, schedules), whether two schedules share enough hours; pairs: (pairs, 2).
    """
    degree = np.bincount(pairs.ravel(), minlength=own.size) if pairs.size else np.zeros(own.size)
    optimistic = own - reward / 2 * np.minimum(degree, size - 1)
    sets, skills = skill_sets(covers), min(len(covers), MOST_SKILLS)
    found = np.full(own.size, np.inf)
    everything = (1 << skills) - 1
    for s in np.unique(schedule):
        mine = schedule == s
        with_me = compatible[s, schedule]
        rest = cheapest_rest(optimistic[with_me], sets[with_me], skills, size - 1)
        found[mine] = optimistic[mine] + rest[everything & ~sets[mine]]
    return found


def greedy(
    own: NDArray[np.float64], covers: NDArray[np.bool_], needed: NDArray[np.int64], schedule: NDArray[np.int64],
    compatible: NDArray[np.bool_], near: NDArray[np.float64], size: int, starts: int,
) -> list[list[int]]:  # fmt: skip
    """Teams built from several first members by adding whoever is cheapest among those
    who cover most of what is missing, then improved by single exchanges. near: shape
    (people, people), the reward for a pair.
    """
    teams = []
    people = own.size
    first = np.argsort(own - 0.05 * own.std() * covers.sum(axis=0), kind="stable")[:starts]
    for p in first:
        team = [int(p)]
        while len(team) < size:
            missing = np.maximum(needed - covers[:, team].sum(axis=1), 0)
            open_to = np.all(compatible[schedule[team]], axis=0)[schedule]
            open_to[team] = False
            if not open_to.any():
                break
            gain = (covers & (missing > 0)[:, None]).sum(axis=0)
            value = own - near[:, team].sum(axis=1) - gain * (own.max() + 1.0)
            team.append(int(np.where(open_to, value, np.inf).argmin()))
        if len(team) < size:
            continue
        for _ in range(3 * size):
            best, change = None, -1e-9
            short = int(np.maximum(needed - covers[:, team].sum(axis=1), 0).sum())
            for n in range(size):
                others = team[:n] + team[n + 1 :]
                missing = np.maximum(needed - covers[:, others].sum(axis=1), 0)
                left = missing.sum() - (covers & (missing > 0)[:, None]).sum(axis=0)
                value = own - near[:, others].sum(axis=1) + left * 1e3
                open_to = (
                    np.all(compatible[schedule[others]], axis=0)[schedule]
                    if others
                    else np.ones(people, bool)
                )
                open_to[others] = False
                value = np.where(open_to, value, np.inf)
                q = int(value.argmin())
                delta = value[q] - (own[team[n]] - near[team[n], others].sum() + short * 1e3)
                if delta < change:
                    best, change = (n, q), delta
            if best is None:
                break
            team[best[0]] = best[1]
        if np.all(covers[:, team].sum(axis=1) >= needed):
            teams.append(team)
    return teams
