"""What makes one team better than another, and quick bounds on it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..parameters import OptimizerParameters
from .staffing_problem import Constraints, StaffingProblem


@dataclass(frozen=True)
class ObjectiveWeights:
    """How much each soft criterion counts.

    The objective is minimized. It is the weighted sum of these, each in [0, 1]:

    Attributes:
        score: The mean of 1 − score.
        cost: The mean rate, relative to the highest rate.
        balance: The mean of the squared workload after the assignment.
        collaboration: The share of pairs who have not worked together.
        workload: The mean workload after the assignment.
    """

    score: float = 1.0
    cost: float = 0.3
    balance: float = 0.3
    collaboration: float = 0.1
    workload: float = 0.0

    @classmethod
    def from_parameters(cls, parameters: OptimizerParameters) -> "ObjectiveWeights":
        return cls(
            parameters.score_importance,
            parameters.cost_importance,
            parameters.balance_importance,
            parameters.collaboration_importance,
        )


CHANGE_COST = 10.0
"""Cost of each person who joins a team that is repaired; above any other difference."""
NO_OBJECTIVE = ObjectiveWeights(0, 0, 0, 0)
"""For questions of feasibility."""


def team_objective(
    problem: StaffingProblem, members: Sequence[int], weights: ObjectiveWeights
) -> float:
    """The objective of a team, given by the columns of its members."""
    members = list(members)
    costs = member_costs(problem, weights, len(members))[members].sum()
    return float(costs + weights.collaboration * (1 - _familiarity(problem, members)))


def objective_terms(
    problem: StaffingProblem, members: Sequence[int], weights: ObjectiveWeights
) -> dict[str, float]:
    """What score, cost, balance and collaboration add to a team's objective.

    They add up to it, but for the cost of changes in a repair.
    """
    team = list(members)
    after = np.minimum(problem.workloads_after(len(team)), 1000.0) / 100
    highest = max(float(problem.rates.max(initial=0)), 1e-9)
    return {
        "score": weights.score * float((1 - problem.scores[team]).mean()),
        "cost": weights.cost * float(problem.rates[team].mean()) / highest,
        "balance": weights.balance * float((after[team] ** 2).mean()),
        "collaboration": weights.collaboration * (1 - _familiarity(problem, team)),
    }


def change_cost(problem: StaffingProblem, members: Sequence[int]) -> float:
    """What a repair's objective has for those who join, less those who stay."""
    if not problem.is_kept.any():
        return 0.0
    kept = int(problem.is_kept[list(members)].sum())
    return CHANGE_COST * (len(members) - 2 * kept)


def member_costs(
    problem: StaffingProblem, weights: ObjectiveWeights, size: int
) -> NDArray[np.float64]:
    """What each person adds to the objective of a team of this size.

    Collaboration depends on pairs and is not part of it.

    Returns:
        Shape (people,).
    """
    after = np.minimum(problem.workloads_after(size), 1000.0) / 100
    highest = max(float(problem.rates.max(initial=0)), 1e-9)
    total = (
        weights.score * (1 - problem.scores)
        + weights.cost * problem.rates / highest
        + weights.balance * after**2
        + weights.workload * after
    )
    if problem.is_kept.any() and weights != NO_OBJECTIVE:
        return np.asarray(total / size + CHANGE_COST * np.where(problem.is_kept, -1, 1))
    return np.asarray(total / size)


def eligible_people(
    problem: StaffingProblem, constraints: Constraints, size: int
) -> NDArray[np.bool_]:
    """Who may be in a team of this size by time, workload and wishes: (people,)."""
    eligible = np.ones(len(problem.candidates), bool)
    if constraints.availability:
        eligible &= problem.hours() > 0
    if constraints.workload_limit is not None:
        limit = constraints.workload_limit
        after = problem.workloads_after(size, constraints.availability, limit)
        eligible &= after <= limit + 1e-9
    eligible[list(constraints.exclude)] = False
    return eligible


def size_bound(
    problem: StaffingProblem, constraints: Constraints, weights: ObjectiveWeights, size: int
) -> float:
    """A quick lower bound for teams of one size; +inf where there can be none."""
    eligible = eligible_people(problem, constraints, size)
    covering = (problem.covers(constraints) & eligible).sum(axis=1)
    if eligible.sum() < size or np.any(covering < np.array(constraints.people)):
        return math.inf
    if len(constraints.include) > size or not eligible[list(constraints.include)].all():
        return math.inf
    return float(np.sort(member_costs(problem, weights, size)[eligible])[:size].sum())


def _familiarity(problem: StaffingProblem, members: Sequence[int]) -> float:
    """Share of the team's pairs who have worked together; 1 for one person."""
    if len(members) < 2:
        return 1.0
    ids = [problem.people[n].id for n in members]
    return len(problem.history.pairs(ids)) / math.comb(len(members), 2)
