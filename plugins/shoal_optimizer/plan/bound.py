"""A lower bound of every plan, by a linear program.

A task may be done in part, by whomever and in whatever shares. A team of k members
whose mean cost is c gives each of them 1/k of the hours, so these cost exactly c. A
member who is required does 1/k of the hours. Balance and new pairs, which cost nothing
or more, are left out.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import csr_matrix

from .columns import may_join
from .problem import CHANGE_COST, Floats, Integers, PlanProblem


def plan_bound(problem: PlanProblem, time_limit: float) -> float:
    """No plan costs less; 0 when the time is up."""
    constant = float(problem.unassigned_costs.sum())
    constant += CHANGE_COST * float(problem.previous.any(axis=1).sum())
    parts = _parts(problem)
    if not parts.task.size:
        return constant
    t, p = parts.task, parts.person
    costs = problem.raw_costs[t, p] - CHANGE_COST * problem.previous[t, p]
    rows, limits = _rows(problem, parts)
    answer = linprog(
        costs - problem.unassigned_costs[t],
        A_ub=rows,
        b_ub=limits,
        bounds=(0, 1),
        method="highs",
        options={"time_limit": max(time_limit, 0.1)},
    )
    return max(0.0, constant + float(answer.fun)) if answer.status == 0 else 0.0


@dataclass(frozen=True)
class Parts:
    """The variables: the part of a task that a person does in teams of one size.

    Attributes:
        task: The row of the task.
        size: The size of the team.
        person: The column of the person.
        hours: Of the whole task.
    """

    task: Integers
    size: Integers
    person: Integers
    hours: Floats


def _parts(problem: PlanProblem) -> Parts:
    tasks: list[Integers] = []
    for t in range(len(problem.tasks)):
        for size in problem.sizes(t):
            may = may_join(problem, t, size)
            if size == 1:
                may = may & problem.covers[t].all(axis=0)
            people = np.flatnonzero(may)
            if people.size >= size:
                parts = (np.full(people.size, t), np.full(people.size, size), people)
                tasks.append(np.array(parts, np.int64))
    found = np.concatenate([np.zeros((3, 0), np.int64), *tasks], axis=1)
    estimated = np.array([task.estimated_hours for task in problem.tasks])
    return Parts(found[0], found[1], found[2], estimated[found[0]])


def _rows(problem: PlanProblem, parts: Parts) -> tuple[csr_matrix, Floats]:
    """Each task at most once, required skills in their shares, and room."""
    count = len(problem.tasks)
    row, variable = [parts.task], [np.arange(parts.task.size)]
    value, limits = [np.ones(parts.task.size)], [1.0] * count
    groups, first = np.unique(np.stack([parts.task, parts.size]), axis=1, return_index=True)
    ends = np.append(first[1:], parts.task.size)
    for (t, size), start, end in zip(groups.T.tolist(), first, ends, strict=True):
        mine = np.arange(start, end)
        for has, needed in zip(problem.covers[t], problem.needed(t), strict=True):
            if size > 1:
                row.append(np.full(mine.size, len(limits)))
                variable.append(mine)
                value.append(min(1.0, needed / size) - has[parts.person[mine]].astype(float))
                limits.append(0.0)
    released, due = problem.released[parts.task] + 1, problem.due[parts.task]
    for p in np.unique(parts.person):
        mine = np.flatnonzero(parts.person == p)
        for since in np.unique(released[mine]):
            later = mine[released[mine] >= since]
            for until in np.unique(due[later]):
                inside = later[due[later] <= until]
                row.append(np.full(inside.size, len(limits)))
                variable.append(inside)
                value.append(parts.hours[inside])
                limits.append(max(0.0, float(problem.free_hours[since, until, p])))
    shape = (len(limits), parts.task.size)
    entries = (np.concatenate(value), (np.concatenate(row), np.concatenate(variable)))
    return csr_matrix(entries, shape=shape), np.array(limits)
