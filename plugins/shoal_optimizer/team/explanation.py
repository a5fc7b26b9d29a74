"""Why this team: as data, and as sentences."""

import math
from collections.abc import Sequence
from typing import Any

from ..skills import Matcher
from .conflict_messages import enumeration
from .objective import ObjectiveWeights, team_objective
from .rules import find_violations
from .staffing_problem import Constraints, StaffingProblem

MAX_NOT_CHOSEN = 3


def explain(
    problem: StaffingProblem,
    members: Sequence[int],
    matcher: Matcher,
    constraints: Constraints,
    excluded: Sequence[frozenset[int]] = (),
) -> dict[str, Any]:
    """What the team covers and costs, with a reason for every member.

    Args:
        problem: The task and everyone scored for it.
        members: The team's columns, the lead first.
        matcher: Matches required skills with those people have.
        constraints: What the team satisfies.
        excluded: Teams that were not to be found again.

    Returns:
        `members`, `coverage`, `criteria`, `history`, `sentences` and `left_out`, as the
        answer of POST /tasks/{id}/recommendation.
    """
    covers, after = problem.covers(constraints), problem.workloads_after(len(members))
    coverage = [
        {
            "skill": requirement.skill,
            "level": requirement.level,
            "people": requirement.people,
            "by": [problem.people[m].id for m in members if covers[n, m]],
        }
        for n, requirement in enumerate(problem.task.skills)
    ]
    people = [
        {**_member(problem, m, after[m], len(members), covers[:, m].tolist()), "role": role}
        for m, role in zip(members, ["lead"] + ["support"] * (len(members) - 1), strict=True)
    ]
    pairs = problem.history.pairs([problem.people[m].id for m in members])
    criteria = _criteria(problem, members, pairs)
    history = _history(problem, members, pairs)
    return {
        "members": people,
        "coverage": coverage,
        "criteria": criteria,
        "history": history,
        "sentences": _sentences(problem, members, coverage, criteria, history),
        "left_out": _not_chosen(problem, members, matcher, constraints, excluded),
    }


def _criteria(
    problem: StaffingProblem, members: Sequence[int], pairs: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    """The soft criteria, each in its own unit."""
    size, shared = len(members), problem.overlap(members)
    workloads = [float(problem.workloads_after(size)[m]) for m in members]
    cost = sum(problem.hours_each(size) * problem.people[m].cost_per_hour for m in members)
    return {
        "cost": {"value": round(cost, 2), "unit": "currency"},
        "workload": {
            "combined": _percent(sum(workloads) / size),
            "highest": _percent(max(workloads)),
            "spread": _percent(max(workloads) - min(workloads)),
            "unit": "percent",
        },
        "collaborators": {"value": len(pairs), "of": size * (size - 1) // 2, "unit": "pairs"},
        "score": {
            "value": round(sum(problem.candidates[m].score for m in members) / size, 6),
            "unit": "mean score, 0 to 1",
        },
        "overlap": {"value": round(shared.hours, 2), "days": shared.days, "unit": "hours a day"},
    }


def _percent(value: float) -> float | None:
    """Rounded; None for somebody without any time in the window."""
    return round(float(value), 2) if math.isfinite(value) else None


def _member(
    problem: StaffingProblem, m: int, after: float, size: int, has: Sequence[bool]
) -> dict[str, Any]:
    candidate = problem.candidates[m]
    skills = [skill for skill, mine in zip(candidate.skills, has, strict=True) if mine]
    record = problem.history.record(candidate.person.id, problem.task.type)
    reasons = []
    for skill in skills:
        assert skill.match is not None
        match = skill.match
        how = "" if match.how == "exact" else f" (as {match.found}, by {match.how})"
        reasons.append(f"covers {skill.required} at level {skill.level:g}{how}")
    if not skills:
        reasons.append("adds capacity: the others cover the skills")
    if _percent(after) is None:
        reasons.append("has no working time before the deadline")
    else:
        reasons.append(f"goes from {candidate.load:.0f} % to {after:.0f} % workload")
    if record.tasks:
        reasons.append(_experience(record.tasks, record.days_early))
    return {
        **candidate.row(),
        "covers": [skill.required for skill in skills],
        "hours": round(problem.hours_each(size), 2),
        "workload_after": _percent(after),
        "similar_tasks": record.tasks,
        "days_early": round(record.days_early, 2),
        "reasons": reasons,
    }


def _experience(tasks: int, days_early: float) -> str:
    text = f"completed {tasks} similar task{'s' if tasks != 1 else ''}"
    if abs(days_early) < 0.05:
        return f"{text}, on time on average"
    days = f"{abs(days_early):.1f}".removesuffix(".0")
    when = "early" if days_early > 0 else "late"
    return f"{text}, {days} day{'s' if days != '1' else ''} {when} on average"


def _history(
    problem: StaffingProblem, members: Sequence[int], pairs: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    team = [problem.people[m].id for m in members]
    tasks, early = problem.history.team_record(team, problem.task.type)
    together = [{"people": list(pair), "tasks": problem.history.together[pair]} for pair in pairs]
    return {"similar_tasks": tasks, "days_early": round(early, 2), "together": together}


def _sentences(
    problem: StaffingProblem,
    members: Sequence[int],
    coverage: Sequence[dict[str, Any]],
    criteria: dict[str, Any],
    history: dict[str, Any],
) -> list[str]:
    lead, *others = (problem.people[m].label for m in members)
    skills = problem.task.skills
    workload = criteria["workload"]
    missing = [row["skill"] for row in coverage if len(row["by"]) < row["people"]]
    said = [f"{lead} leads, with {enumeration(others)}." if others else f"{lead} works alone."]
    if len(skills) > 1:
        said.append(
            f"Together they lack {enumeration(missing)}."
            if missing
            else f"Together they cover all {len(skills)} required skills."
        )
    elif skills:
        said.append(f"{skills[0].skill} is {'not ' if missing else ''}covered.")
    if workload["highest"] is not None:
        said.append(
            f"With the task, the mean workload is {workload['combined']:.0f} %, "
            f"the highest {workload['highest']:.0f} %."
        )
    if history["similar_tasks"]:
        text = _experience(history["similar_tasks"], history["days_early"])
        said.append(f"{text[0].upper()}{text[1:]}.")
    else:
        said.append("No similar task completed yet.")
    if others:
        overlap = criteria["overlap"]
        said.append(
            f"They share {overlap['value']:g} working hours on the one day of theirs."
            if overlap["days"] == 1
            else f"They share at least {overlap['value']:g} working hours "
            f"on each of {overlap['days']} days."
        )
        collaborators = criteria["collaborators"]
        said.append(_collaboration(collaborators["value"], collaborators["of"]))
    if criteria["cost"]["value"]:
        said.append(f"The cost is {criteria['cost']['value']:,.0f}.")
    return said


def _collaboration(pairs: int, of: int) -> str:
    if pairs == 0:
        return "They have not worked together before."
    if pairs < of:
        return f"{pairs} of the {of} pairs among them have worked together before."
    return "They have worked together before."


def _not_chosen(
    problem: StaffingProblem,
    members: Sequence[int],
    matcher: Matcher,
    constraints: Constraints,
    excluded: Sequence[frozenset[int]],
) -> list[dict[str, Any]]:
    """The best candidates who are not in the team, and why."""
    worst = min(problem.candidates[m].score for m in members)
    better = [
        n
        for n, candidate in enumerate(problem.candidates)
        if n not in members and candidate.score > worst
    ]
    better.sort(key=lambda n: -problem.candidates[n].score)
    return [
        {
            "person": problem.people[n].id,
            "score": round(problem.candidates[n].score, 6),
            "why": _why_not_chosen(problem, members, n, matcher, constraints, excluded),
        }
        for n in better[:MAX_NOT_CHOSEN]
    ]


def _why_not_chosen(
    problem: StaffingProblem,
    members: Sequence[int],
    n: int,
    matcher: Matcher,
    constraints: Constraints,
    excluded: Sequence[frozenset[int]],
) -> str:
    """What would be wrong with this person in the place of one of the members."""
    if n in constraints.exclude:
        return "the team was to be without this person"
    weights = ObjectiveWeights.from_parameters(problem.parameters)
    value = team_objective(problem, members, weights)
    reasons: list[str] | None = None
    for place in range(len(members) - 1, -1, -1):
        if members[place] in constraints.include:
            continue
        replaced = problem.people[members[place]]
        team = (*members[:place], n, *members[place + 1 :])
        calendar = problem.calendar.among([problem.people[m].id for m in team])
        broken = find_violations(problem.task, calendar, matcher, problem.parameters)
        if not broken:
            if frozenset(team) in excluded:
                return f"could replace {replaced.label}: that team was shown before"
            if team_objective(problem, team, weights) < value:
                return f"could replace {replaced.label}, which was not found in time"
            return (
                f"could replace {replaced.label}, but cost, workload and collaboration "
                "together would be worse"
            )
        if reasons is None or len(broken) < len(reasons):
            reasons = [violation.message for violation in broken]
    if reasons is None:
        return "everyone in the team had to be in it"
    return "; ".join(reasons)
