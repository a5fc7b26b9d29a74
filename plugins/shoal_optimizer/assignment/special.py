"""Assignments that need no search: nobody's capacity binds, or every task weighs the
same on a person.
"""

import numpy as np

from .problem import Integers, Problem

MOST_SLOTS = 6000


def unconstrained(problem: Problem) -> Integers | None:
    """Everyone takes what they do cheapest, when capacities allow it; else None."""
    cheapest = np.where(problem.fits, problem.cost, np.inf).argmin(axis=0)
    return cheapest if problem.allows(cheapest) else None


def slots(problem: Problem) -> Integers | None:
    """How many tasks each person can take, when a person's load is the same for every
    task; else None.

    Then the problem is a transportation problem: one-to-one assignment with each person
    repeated.
    """
    load = problem.load[:, 0]
    if np.any(problem.load != load[:, None]):
        return None
    count = np.where(load > 0, np.floor(problem.room / np.where(load > 0, load, 1)), problem.tasks)
    count = np.minimum(count, problem.tasks).astype(np.int64)
    return count if count.sum() <= MOST_SLOTS else None


def transport(problem: Problem, count: Integers) -> Integers | None:
    """The optimal assignment when person i can take `count[i]` tasks of equal weight;
    None when there is none.

    Source: Crouse, "On implementing 2D rectangular assignment algorithms", 2016
    (SciPy's linear_sum_assignment).
    """
    from scipy.optimize import linear_sum_assignment

    person_of_slot = np.repeat(np.arange(problem.people), count)
    if person_of_slot.size < problem.tasks:
        return None
    slot, task = linear_sum_assignment(problem.cost[person_of_slot])
    person_of_task = np.empty(problem.tasks, dtype=np.int64)
    person_of_task[task] = person_of_slot[slot]
    return person_of_task
