"""The plan as a CP-SAT model."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any

import numpy as np

from .problem import CHANGE_COST, PlanProblem, hours_between

SCALE = 10_000
"""CP-SAT computes with integers: costs are multiplied by this."""
HOUR_SCALE = 100


@dataclass(frozen=True)
class PlanModel:
    """A CP-SAT model and its variables.

    Attributes:
        model: The `CpModel`.
        chosen: (task, person) → whether the person is in the task's team.
        assigned: Task → whether it has a team.
    """

    model: Any
    chosen: Mapping[tuple[int, int], Any]
    assigned: Mapping[int, Any]


def build_model(problem: PlanProblem) -> PlanModel:
    """The model whose solutions are the plans of the problem."""
    from ortools.sat.python import cp_model

    model = cp_model.CpModel()
    chosen: dict[tuple[int, int], Any] = {}
    assigned: dict[int, Any] = {}
    terms: list[Any] = []
    constant = 0.0
    for t, task in enumerate(problem.tasks):
        size = int(problem.team_sizes[t])
        pinned = np.flatnonzero(problem.pinned[t] > 0)
        constant += problem.unassigned_costs[t]
        constant += CHANGE_COST if problem.previous[t].any() else 0.0
        people = [int(p) for p in np.flatnonzero(problem.eligible[t])]
        if size == 0 or len(people) < size or any(p not in people for p in pinned):
            if pinned.size:
                model.add_bool_or([])  # A pin that no plan can satisfy.
            continue
        assigned[t] = model.new_bool_var("")
        mine = {p: model.new_bool_var("") for p in people}
        chosen |= {(t, p): variable for p, variable in mine.items()}
        model.add(sum(mine.values()) == size * assigned[t])
        for has, requirement in zip(problem.covers[t], task.skills, strict=True):
            covering = sum(mine[p] for p in people if has[p])
            model.add(covering >= requirement.people * assigned[t])
        for p in pinned:
            model.add(mine[int(p)] == 1)
        _add_shared_hours(model, problem, t, mine)
        terms.append(assigned[t] * -round(SCALE * problem.unassigned_costs[t]))
        terms += [variable * round(SCALE * problem.costs[t, p]) for p, variable in mine.items()]
    _add_capacity(model, problem, chosen)
    model.minimize(sum(terms) + round(SCALE * constant))
    return PlanModel(model, chosen, assigned)


def _add_shared_hours(model: Any, problem: PlanProblem, t: int, mine: Mapping[int, Any]) -> None:
    """No two members have shifts that share too few hours."""
    if t not in problem.compatible:
        return
    matrix = problem.compatible[t]
    used: dict[int, Any] = {}
    for p, variable in mine.items():
        s = int(problem.shift_of[p])
        used.setdefault(s, model.new_bool_var(""))
        model.add_implication(variable, used[s])
    for s, u in combinations_with_replacement(used, 2):
        if not matrix[s, u]:
            model.add_bool_or([used[n].negated() for n in {s, u}])


def _add_capacity(model: Any, problem: PlanProblem, chosen: Mapping[tuple[int, int], Any]) -> None:
    """Nobody has more work between two checkpoints than free hours.

    Work counts between a release and any later due date when it lies between the two.
    That is exact for work that can be interrupted: earliest deadline first then meets
    every deadline (Dertouzos, "Control robotics", 1974).
    """
    # For each person: (released, due, share, variable).
    work: list[list[tuple[int, int, int, Any]]] = [[] for _ in problem.people]
    for (t, p), variable in chosen.items():
        share = round(HOUR_SCALE * problem.hours_each(t) + 0.499)
        work[p].append((int(problem.released[t]), int(problem.due[t]), share, variable))
    for p, mine in enumerate(work):
        for since in sorted({released for released, *_ in mine}):
            later = [row for row in mine if row[0] >= since]
            # Before this due date a later release gives the same constraint.
            first = min(due for released, due, *_ in later if released == since)
            for until in sorted({due for _, due, *_ in later if due >= first}):
                free = HOUR_SCALE * float(hours_between(problem.free_hours, since, until)[p])
                inside = [(share, variable) for _, due, share, variable in later if due <= until]
                if sum(share for share, _ in inside) > free:
                    total = sum(share * variable for share, variable in inside)
                    model.add(total <= int(free + 1e-6))
