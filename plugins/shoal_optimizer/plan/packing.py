"""The choice among columns, by CP-SAT."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Any

import numpy as np

from .balance import TANGENTS, line_cost
from .columns import Column
from .problem import Floats, PlanProblem

SCALE = 10_000
"""CP-SAT computes with integers: costs are multiplied by this."""
HOUR_SCALE = 100
FINE = 1_000
"""Slopes are multiplied by this before they are rounded."""


def choose_columns(
    problem: PlanProblem,
    tasks: Sequence[int],
    columns: Sequence[Column],
    left: Floats,
    hours: Floats | None,
    current: Mapping[int, Column],
    time_limit: float,
    work_limit: float = inf,
    configure: Callable[[Any], None] = lambda solver: None,
) -> tuple[str, dict[int, Column] | None, float]:
    """Choose at most one column for each task, within the room that people have.

    Args:
        problem: The tasks and people.
        tasks: The tasks to choose for; a pinned one must get a column.
        columns: The columns of these tasks.
        left: Room that all other tasks leave, as `PlanProblem.free_hours`.
        hours: Hours that all other tasks take of everyone, shape (people,); None leaves
            the spread of work out.
        current: The columns chosen so far, to start from.
        time_limit: Seconds.
        work_limit: Of CP-SAT's own measure of work, which no other load changes.
        configure: Gets the solver before it starts.

    Returns:
        CP-SAT's status, task → column, and a lower bound of the cost.
    """
    from ortools.sat.python import cp_model

    model = cp_model.CpModel()
    chosen = [model.new_bool_var("") for _ in columns]
    of_task: dict[int, list[int]] = defaultdict(list)
    for n, each in enumerate(columns):
        of_task[each.task].append(n)
    terms: list[Any] = []
    for t in tasks:
        total = sum(chosen[n] for n in of_task[t])
        if (problem.pinned[t] > 0).any():
            model.add(total == 1)
        elif of_task[t]:
            model.add(total <= 1)
        terms += [
            chosen[n] * round(SCALE * (columns[n].cost - problem.unassigned_costs[t]))
            for n in of_task[t]
        ]
    _add_room(model, problem, columns, chosen, left)
    if hours is not None:
        terms += _balance_terms(model, problem, columns, chosen, hours, current)
    model.minimize(sum(terms))
    for n, each in enumerate(columns):
        model.add_hint(chosen[n], current.get(each.task) == each)
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    # Otherwise CP-SAT would replace the process's handler of SIGINT.
    solver.parameters.catch_sigint_signal = False
    solver.parameters.max_time_in_seconds = time_limit
    solver.parameters.max_deterministic_time = work_limit
    configure(solver)
    code = solver.solve(model)
    unassigned = float(problem.unassigned_costs[list(tasks)].sum())
    bound = solver.best_objective_bound / SCALE + unassigned
    if code not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return solver.status_name(code), None, bound
    picked = {each.task: each for n, each in enumerate(columns) if solver.value(chosen[n])}
    return solver.status_name(code), picked, bound


def _add_room(
    model: Any,
    problem: PlanProblem,
    columns: Sequence[Column],
    chosen: Sequence[Any],
    left: Floats,
) -> None:
    """Nobody gets more work between two checkpoints than they have room for.

    That is exact for work that can be interrupted, see `calendar`.
    """
    work: dict[int, list[tuple[int, int, int, Any]]] = defaultdict(list)
    for each, variable in zip(columns, chosen, strict=True):
        share = int(np.ceil(HOUR_SCALE * each.share - 1e-6))
        since, until = int(problem.released[each.task]) + 1, int(problem.due[each.task])
        for p in each.team:
            work[p].append((since, until, share, variable))
    for p, mine in work.items():
        for since in {row[0] for row in mine}:
            for until in {row[1] for row in mine if row[0] >= since}:
                inside = [row for row in mine if row[0] >= since and row[1] <= until]
                room = max(0.0, float(left[: since + 1, until:, p].min()))
                model.add(
                    sum(share * variable for *_, share, variable in inside)
                    <= int(HOUR_SCALE * room + 1e-6)
                )


def _balance_terms(
    model: Any,
    problem: PlanProblem,
    columns: Sequence[Column],
    chosen: Sequence[Any],
    hours: Floats,
    current: Mapping[int, Column],
) -> list[Any]:
    """What the spread of work costs: the highest of lines in each person's hours."""
    work: dict[int, list[Any]] = defaultdict(list)
    for each, variable in zip(columns, chosen, strict=True):
        for p in each.team:
            work[p].append(round(HOUR_SCALE * each.share) * variable)
    terms = []
    for p, mine in work.items():
        weight, room = problem.balance_weight, problem.room[p]
        if weight <= 0 or room <= 0:
            continue
        cost = model.new_int_var(0, round(SCALE * weight * 4) + 1, "")
        total = sum(mine)
        now = hours[p] + sum(each.share for each in current.values() if p in each.team)
        model.add_hint(cost, int(SCALE * line_cost(weight, now / room)) + 2)
        for slope, offset in TANGENTS:
            per_hour = SCALE * weight * slope / room
            fixed = SCALE * weight * offset + per_hour * hours[p]
            model.add(
                FINE * HOUR_SCALE * cost
                >= round(FINE * per_hour) * total + round(FINE * HOUR_SCALE * fixed)
            )
        terms.append(cost)
    return terms
