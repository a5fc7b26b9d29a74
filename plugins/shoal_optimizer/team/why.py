"""Why somebody is not in the best team for a task, and what would have to change."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from .conflicts import find_conflict
from .objective import ObjectiveWeights, objective_terms
from .relaxations import find_relaxations
from .search import find_team
from .solution import Team
from .staffing_problem import Constraints, StaffingProblem

NAMES = {
    "score": "the score",
    "cost": "the cost",
    "balance": "the workload",
    "collaboration": "collaboration",
}


def explain_absence(
    problem: StaffingProblem, constraints: Constraints, person: int
) -> dict[str, Any]:
    """Compare the best team with the best that has somebody in it.

    Args:
        problem: The task and everyone scored for it.
        constraints: What a team must satisfy.
        person: Their column.

    Returns:
        `person`, `why` in words, `best` and `team` (ids, None where there is none),
        `terms` of both objectives, and where no team has them, `conflict` and
        `relaxations`.
    """
    weights = ObjectiveWeights.from_parameters(problem.parameters)
    with_them = replace(constraints, include=frozenset({person}))
    limit = problem.parameters.time_limit
    best = find_team(problem, constraints, weights, time_limit=limit).team
    theirs = find_team(problem, with_them, weights, time_limit=limit)
    label = problem.people[person].label
    answer: dict[str, Any] = {
        "person": problem.people[person].id,
        "why": f"no team with {label} was found in time",
        "best": _ids(problem, best),
        "team": _ids(problem, theirs.team),
        "terms": [],
        "conflict": None,
        "relaxations": [],
    }
    if theirs.team is None:
        if theirs.status == "infeasible":
            conflict = find_conflict(problem, with_them)
            answer["conflict"] = None if conflict is None else asdict(conflict)
            answer["why"] = conflict.message if conflict else f"no team may have {label}"
            ways = find_relaxations(problem, with_them)
            kept = [way for way in ways if not way.change.startswith("include:")]
            answer["relaxations"] = [asdict(way) for way in kept]
        return answer
    best = best or theirs.team
    answer["terms"] = rows = [
        {"term": name, "best": value, "team": other, "change": other - value}
        for (name, value), other in zip(
            objective_terms(problem, best.members, weights).items(),
            objective_terms(problem, theirs.team.members, weights).values(),
            strict=True,
        )
    ]
    if person in best.members:
        answer["why"] = f"{label} is in the best team"
    else:
        answer["why"] = _comparison(label, rows)
    return answer


def _comparison(label: str, rows: Sequence[dict[str, Any]]) -> str:
    total = sum(row["change"] for row in rows)
    worse = sorted((row for row in rows if row["change"] > 5e-4), key=lambda row: -row["change"])
    if total < 5e-4:
        return f"the best team with {label} is as good"
    parts = [f"{NAMES[row['term']]} by {row['change']:.3f}" for row in worse]
    return f"the best team with {label} is worse by {total:.3f}: {', '.join(parts)}"


def _ids(problem: StaffingProblem, team: Team | None) -> list[str] | None:
    return None if team is None else [problem.people[n].id for n in team.members]
