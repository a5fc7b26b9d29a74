"""A plan's objective, as terms that add up to it, and the difference of two plans."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from .balance import balance_costs, hours_of
from .problem import CHANGE_COST, Booleans, PlanProblem

Term = tuple[str, str | None, str | None, float]
"""What it is for, its task and its person (None where it has none), and its value.

It is for "unassigned", "score", "rate", "workload", "collaboration", "changes" or
"balance".
"""
Key = tuple[str, str | None, str | None]
NEGLIGIBLE = 1e-12


def plan_terms(problem: PlanProblem, teams: Booleans) -> list[Term]:
    """The terms of a plan's objective; those that are 0 are left out.

    Args:
        problem: The tasks and people.
        teams: The plan, shape (tasks, people).
    """
    terms: list[Term] = []
    for t, task in enumerate(problem.tasks):
        members = np.flatnonzero(teams[t]).tolist()
        size, kept = len(members), 0.0
        if not members:
            terms.append(("unassigned", task.id, None, float(problem.unassigned_costs[t])))
        for p in members:
            score, rate = problem.score_costs[t, p], problem.rate_costs[p]
            parts = {"score": score, "rate": rate}
            parts["workload"] = problem.raw_costs[t, p] - score - rate
            kept += CHANGE_COST * float(problem.previous[t, p]) / size
            terms += [
                (name, task.id, problem.people[p].id, float(value) / size)
                for name, value in parts.items()
            ]
        if members:
            alone = float(problem.raw_costs[t, members].sum()) / size
            new = problem.team_cost(t, members) + kept - alone
            terms.append(("collaboration", task.id, None, new))
        if problem.previous[t].any():
            terms.append(("changes", task.id, None, CHANGE_COST - kept))
    spread = balance_costs(problem, hours_of(problem, teams)).tolist()
    terms += [
        ("balance", None, person.id, value)
        for person, value in zip(problem.people, spread, strict=True)
    ]
    return [term for term in terms if abs(term[3]) > NEGLIGIBLE]


def totals(terms: Iterable[Term], hidden: Iterable[str] = ()) -> dict[Key, float]:
    """The sums of terms for the same; hidden tasks and their people are not named."""
    secret, sums = set(hidden), dict[Key, float]()
    for constraint, task, person, value in terms:
        key = (constraint, None, None) if task in secret else (constraint, task, person)
        sums[key] = sums.get(key, 0.0) + value
    return sums


def compare(
    now: Mapping[Key, float], before: Mapping[Key, float] | None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Sums by constraint, and all terms, the largest (or the most different) first.

    Args:
        now: The terms of a plan.
        before: Those of the plan that it is compared with, whose equal terms are then
            left out.
    """
    keys = list(dict.fromkeys([*now, *(before or {})]))
    rows: list[dict[str, Any]] = [
        {"constraint": key[0], "task": key[1], "person": key[2], **_values(now, before, [key])}
        for key in keys
    ]
    if before is not None:
        rows = [row for row in rows if abs(row["change"]) > NEGLIGIBLE]
    rows.sort(key=lambda row: -abs(row["value"] if before is None else row["change"]))
    constraints = [
        {"constraint": name, **_values(now, before, [key for key in keys if key[0] == name])}
        for name in dict.fromkeys(key[0] for key in keys)
    ]
    return constraints, rows


def _values(
    now: Mapping[Key, float], before: Mapping[Key, float] | None, keys: Sequence[Key]
) -> dict[str, float | None]:
    value = sum(now.get(key, 0.0) for key in keys)
    if before is None:
        return {"value": value, "before": None, "change": None}
    former = sum(before.get(key, 0.0) for key in keys)
    return {"value": value, "before": former, "change": value - former}
