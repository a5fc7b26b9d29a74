"""A lower bound from one knapsack per person, and what each pair would add to it.

Relaxing "every task exactly once" with multipliers λ leaves, for each person, a 0-1
knapsack over cost − λ (Fisher, Jaikumar & Van Wassenhove, "A multiplier adjustment
method for the generalized assignment problem", 1986). Forcing a pair in or out of those
knapsacks prices it exactly, and whatever prices above the best known assignment can be
excluded for good (Posta, Ferland & Michelon, "An exact method with variable fixing for
solving the generalized assignment problem", 2012).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .problem import Floats, Integers, Problem

MAX_CAPACITY = 4000
"""Capacities that are not whole numbers are scaled to at most this."""


@dataclass(frozen=True)
class Knapsacks:
    """Integer loads and capacities that allow all that the problem allows.

    A lower bound for them is one for the problem.

    Attributes:
        load: Shape (people, tasks).
        capacity: Shape (people,).
    """

    load: Integers
    capacity: Integers

    @classmethod
    def from_problem(cls, problem: Problem) -> "Knapsacks":
        largest = max(float(problem.capacity.max()), 1e-12)
        whole = all(
            np.array_equal(values, np.rint(values)) for values in (problem.load, problem.capacity)
        )
        scale = 1.0 if whole and largest <= 4 * MAX_CAPACITY else MAX_CAPACITY / largest
        capacity = np.floor(problem.room * scale + 1e-6).astype(np.int64)
        load = (
            np.ceil(problem.load * scale - 1e-6)
            if whole and scale == 1.0
            else np.floor(problem.load * scale)
        )
        return cls(np.minimum(load, capacity.max() + 1).astype(np.int64), capacity)


def linear_multipliers(problem: Problem, time_limit: float) -> tuple[float, Floats, Floats] | None:
    """Solve the linear relaxation.

    Args:
        problem: The problem.
        time_limit: Seconds.

    Returns:
        Its value, λ per task and the price of capacity per person; None when it is
        infeasible or was not solved in time.
    """
    import scipy.sparse as sparse
    from scipy.optimize import linprog

    person, task = np.nonzero(problem.fits)
    column = np.arange(person.size)
    once = sparse.csr_array(
        (np.ones(person.size), (task, column)), shape=(problem.tasks, person.size)
    )
    within = sparse.csr_array(
        (problem.load[person, task], (person, column)), shape=(problem.people, person.size)
    )
    answer = linprog(
        problem.cost[person, task],
        A_ub=within,
        b_ub=problem.room,
        A_eq=once,
        b_eq=np.ones(problem.tasks),
        method="highs",
        options={"time_limit": time_limit},
    )
    if answer.status != 0:
        return None
    return (
        float(answer.fun),
        np.asarray(answer.eqlin.marginals),
        -np.asarray(answer.ineqlin.marginals),
    )


def price_pairs(
    problem: Problem, knapsacks: Knapsacks, multipliers: Floats
) -> tuple[float, Floats]:
    """The bound at λ, and the one that holds once a task goes to a person.

    Args:
        problem: The problem.
        knapsacks: Its integer loads and capacities.
        multipliers: λ, shape (tasks,).

    Returns:
        The bound, and those of the pairs: shape (people, tasks), +inf where the task
        does not fit.
    """
    value = float(multipliers.sum())
    taken = np.empty_like(problem.cost)
    excluded = np.zeros_like(problem.cost)
    for i in range(problem.people):
        reduced, load, capacity = (
            problem.cost[i] - multipliers,
            knapsacks.load[i],
            int(knapsacks.capacity[i]),
        )
        items = np.flatnonzero((reduced < 0) & (load <= capacity))
        before, after = _tables(reduced[items], load[items], capacity)
        best = before[-1, capacity]
        value += best
        room = capacity - load
        taken[i] = np.where(room >= 0, reduced + before[-1, np.maximum(room, 0)] - best, np.inf)
        for k, j in enumerate(items):
            split = before[k] + after[k + 1][::-1]
            excluded[i, j] = split.min() - best
            upto = capacity + 1 - load[j]
            taken[i, j] = reduced[j] + (before[k, :upto] + after[k + 1, :upto][::-1]).min() - best
    priced = value + taken + excluded.sum(axis=0) - excluded
    return value, np.where(problem.fits, priced, np.inf)


def _tables(profit: Floats, load: Integers, capacity: int) -> tuple[Floats, Floats]:
    """Knapsack values by room, over the first k items and over those from k on.

    Returns:
        Two tables of shape (items + 1, capacity + 1).
    """
    size = profit.size
    before, after = np.zeros((size + 1, capacity + 1)), np.zeros((size + 1, capacity + 1))
    for k in range(size):
        _add_item(before[k], before[k + 1], profit[k], load[k])
    for k in range(size - 1, -1, -1):
        _add_item(after[k + 1], after[k], profit[k], load[k])
    return before, after


def _add_item(without: Floats, with_item: Floats, profit: float, load: int) -> None:
    with_item[:] = without
    np.minimum(without[load:], without[: without.size - load] + profit, out=with_item[load:])


def worth_trying(priced: Floats, below: float, fewest: int = 3) -> NDArray[np.bool_]:
    """Pairs priced below a limit, and for every task its `fewest` cheapest that fit."""
    rank = priced.argsort(axis=0).argsort(axis=0)
    return ((priced < below) | (rank < fewest)) & np.isfinite(priced)
