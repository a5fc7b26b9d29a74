"""Compiled: subgradient ascent on the Lagrangian bound."""

import numpy as np

from .compiled import compiled
from .problem import Booleans, Floats, Integers


@compiled
def ascend(
    cost: Floats,
    load: Integers,
    capacity: Integers,
    multipliers: Floats,
    target: float,
    rounds: int,
    stop: Integers,
) -> tuple[float, Floats]:
    """Raise the bound by moving the multipliers λ, towards a guess of the optimum.

    Args:
        cost: Shape (people, tasks).
        load: Shape (people, tasks).
        capacity: Shape (people,).
        multipliers: λ at the start, shape (tasks,).
        target: A guess of the optimum, from above.
        rounds: The largest number of steps.
        stop: Shape (1,); anything but 0 ends the ascent.

    Returns:
        The best bound and its λ.
    """
    people, tasks = cost.shape
    values = np.zeros(capacity.max() + 1)
    take = np.zeros((tasks, capacity.max() + 1), np.bool_)
    items = np.zeros(tasks, np.int64)
    missing, direction = np.zeros(tasks), np.zeros(tasks)
    current, best_at, best = multipliers.copy(), multipliers.copy(), -np.inf
    stalled, pace = 0, 0.3
    for _ in range(rounds):
        if stop[0] != 0:
            break
        bound = current.sum()
        missing[:] = 1.0
        for i in range(people):
            bound = _add_knapsack(
                bound, cost[i], load[i], capacity[i], current, values, take, items, missing
            )
        if bound > best + 1e-7 * abs(best) or best == -np.inf:
            best, stalled = bound, 0
            best_at[:] = current
        else:
            stalled += 1
            if stalled >= 20:
                pace, stalled = pace * 0.7, 0
                current[:] = best_at
        for j in range(tasks):
            direction[j] = missing[j] + 0.7 * direction[j]
        norm = (direction * direction).sum()
        if norm < 1e-12 or pace < 5e-4:
            break
        current += pace * max(target - bound, 1e-6 * abs(target) + 1e-9) / norm * direction
    return best, best_at


@compiled
def _add_knapsack(
    bound: float,
    cost: Floats,
    load: Integers,
    capacity: int,
    multipliers: Floats,
    values: Floats,
    take: Booleans,
    items: Integers,
    missing: Floats,
) -> float:
    """Solve one person's knapsack over cost − λ; returns the bound with its value.

    The chosen tasks are subtracted from `missing`, shape (tasks,). `values`, `take` and
    `items` are scratch space.
    """
    room, size, total = capacity, 0, 0
    for j in range(cost.size):
        if cost[j] < multipliers[j] and load[j] <= room:
            items[size] = j
            size += 1
            total += load[j]
    if total <= room:
        for t in range(size):
            bound += cost[items[t]] - multipliers[items[t]]
            missing[items[t]] -= 1
        return bound
    values[: room + 1] = 0.0
    for t in range(size):
        weight, profit = load[items[t]], cost[items[t]] - multipliers[items[t]]
        take[t, :weight] = False
        for r in range(room, weight - 1, -1):
            better = values[r - weight] + profit
            take[t, r] = better < values[r]
            if better < values[r]:
                values[r] = better
    bound += values[room]
    for t in range(size - 1, -1, -1):
        if take[t, room]:
            missing[items[t]] -= 1
            room -= load[items[t]]
    return bound
