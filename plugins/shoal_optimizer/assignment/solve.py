"""Solves assignment problems: easy ones at once, the others by a portfolio."""

import time

import numpy as np
from numpy.typing import ArrayLike

from .portfolio import Portfolio
from .problem import Assignment, Integers, Problem
from .special_cases import equal_slots, solve_transportation, solve_unconstrained


def solve_assignment(
    cost: ArrayLike,
    load: ArrayLike,
    capacity: ArrayLike,
    *,
    maximise: bool = False,
    time_limit: float = 20.0,
) -> Assignment:
    """Give every task to exactly one person within capacities, at the least total cost.

    Args:
        cost: Any finite numbers, shape (people, tasks).
        load: What task j takes of person i's capacity, not negative, shape (people,
            tasks). A load above the capacity forbids the pair.
        capacity: Not negative, shape (people,).
        maximise: Whether to seek the greatest total cost.
        time_limit: Seconds of wall time. When it is up, the best assignment found is
            returned with its bound.

    Returns:
        The assignment, its objective and bound, and whether it is proved optimal.

    Raises:
        ValueError: The shapes do not fit together, a number is not finite or negative
            where it must not be, or the time limit is not positive.
    """
    started = time.monotonic()
    if not (isinstance(time_limit, int | float) and time_limit > 0):
        raise ValueError(f"time_limit must be a positive number of seconds, but is {time_limit!r}")
    problem = Problem.from_arrays(cost, load, capacity)
    if maximise:
        problem = Problem(-problem.cost, problem.load, problem.capacity)
    answer = _solve(problem, started + time_limit)
    if not maximise:
        return answer
    return Assignment(
        answer.status, _negate(answer.objective), _negate(answer.bound), answer.person_of_task
    )


def _negate(value: float | None) -> float | None:
    return None if value is None else 0.0 - value


def _solve(problem: Problem, deadline: float) -> Assignment:
    if problem.tasks == 0:
        return Assignment("optimal", 0.0, 0.0, np.zeros(0, np.int64))
    if problem.people == 0 or not problem.fits.any(axis=0).all():
        return Assignment("infeasible", None, None, None)
    if (person_of_task := solve_unconstrained(problem)) is not None:
        return _optimal(problem, person_of_task)
    if (count := equal_slots(problem)) is not None:
        if (person_of_task := solve_transportation(problem, count)) is None:
            return Assignment("infeasible", None, None, None)
        return _optimal(problem, person_of_task)
    return Portfolio(problem, deadline).run()


def _optimal(problem: Problem, person_of_task: Integers) -> Assignment:
    objective = problem.objective(person_of_task)
    return Assignment("optimal", objective, objective, person_of_task)
