"""Problems that need no search.

Nobody's capacity binds, or every task takes the same of a person's capacity.
"""

import numpy as np

from .problem import Integers, Problem

MAX_SLOTS = 6000


def solve_unconstrained(problem: Problem) -> Integers | None:
    """The cheapest person for each task, if capacities allow that; else None."""
    cheapest = np.where(problem.fits, problem.cost, np.inf).argmin(axis=0)
    return cheapest if problem.is_within_capacity(cheapest) else None


def equal_slots(problem: Problem) -> Integers | None:
    """How many tasks each person can take, if each takes the same of their capacity.

    It is then a transportation problem: a one-to-one assignment with people repeated.

    Returns:
        Shape (people,); None when loads differ or there are too many slots.
    """
    load = problem.load[:, 0]
    if np.any(problem.load != load[:, None]):
        return None
    count = np.where(load > 0, np.floor(problem.room / np.where(load > 0, load, 1)), problem.tasks)
    count = np.minimum(count, problem.tasks).astype(np.int64)
    return count if count.sum() <= MAX_SLOTS else None


def solve_transportation(problem: Problem, count: Integers) -> Integers | None:
    """The optimal assignment when person i can take `count[i]` tasks of equal load.

    Source: Crouse, "On implementing 2D rectangular assignment algorithms", 2016
    (SciPy's linear_sum_assignment).

    Returns:
        The person of each task; None when there are too few slots.
    """
    from scipy.optimize import linear_sum_assignment

    person_of_slot = np.repeat(np.arange(problem.people), count)
    if person_of_slot.size < problem.tasks:
        return None
    slot, task = linear_sum_assignment(problem.cost[person_of_slot])
    person_of_task = np.empty(problem.tasks, dtype=np.int64)
    person_of_task[task] = person_of_slot[slot]
    return person_of_task
