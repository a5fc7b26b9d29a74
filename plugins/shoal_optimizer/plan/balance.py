"""How evenly a plan spreads work over people.

Each person costs the square of the share of their room that the plan takes, by its
tangents, so that a model of lines has exactly the same cost.
"""

import numpy as np

from .problem import Booleans, Floats, PlanProblem

TANGENTS: tuple[tuple[float, float], ...] = tuple(
    (2 * u, -u * u) for u in np.arange(0.025, 1, 0.05).tolist()
)
"""Slope and offset of lines that touch the square."""


def hours_of(problem: PlanProblem, teams: Booleans) -> Floats:
    """Hours that a plan takes of everyone, shape (people,)."""
    sizes = np.maximum(teams.sum(axis=1), 1)
    shares = np.array([task.estimated_hours for task in problem.tasks]) / sizes
    return np.asarray(shares @ teams)


def line_cost(weight: float, used: float) -> float:
    """What one person costs of whose room this share is used."""
    return float(weight * max(slope * used + offset for slope, offset in ((0.0, 0.0), *TANGENTS)))


def balance_costs(problem: PlanProblem, hours: Floats) -> Floats:
    """What these hours cost of each person, of shape (…, people) as they are."""
    used = hours / np.where(problem.room > 0, problem.room, np.inf)
    lines = [slope * used + offset for slope, offset in TANGENTS]
    return np.asarray(problem.balance_weight * np.maximum(np.max(lines, axis=0), 0.0))


def balance_cost(problem: PlanProblem, hours: Floats) -> float:
    """What the spread of these hours costs."""
    return float(balance_costs(problem, hours).sum())
