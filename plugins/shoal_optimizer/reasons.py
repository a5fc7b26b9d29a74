"""Why this team: as data, and as sentences."""

from collections.abc import Sequence
from typing import Any

from .rules import violations
from .skills import Matcher
from .staffing_problem import Demands, Situation


def explain(
    situation: Situation, members: Sequence[int], matcher: Matcher, demands: Demands
) -> dict[str, Any]:
    """What the team covers, costs and has behind it, with a reason for every member;
    indices, the lead first.
    """
    task, size = situation.task, len(members)
    covers, after = situation.covers(demands), situation.after(size)
    share = situation.share(size)
    coverage = [
        {
            "skill": requirement.skill,
            "level": requirement.level,
            "people": requirement.people,
            "by": [situation.scored[m].person.id for m in members if covers[n, m]],
        }
        for n, requirement in enumerate(task.skills)
    ]
    people = [
        _member(
            situation, m, after[m], share, [bool(covers[n, m]) for n in range(len(task.skills))]
        )
        for m in members
    ]
    for n, person in enumerate(people):
        person["role"] = "lead" if n == 0 else "support"
    shared = situation.overlap(members)
    pairs = situation.history.pairs([situation.scored[m].person.id for m in members])
    workloads = [float(after[m]) for m in members]
    criteria = {
        "cost": {
            "value": round(
                sum(share * situation.scored[m].person.cost_per_hour for m in members), 2
            ),
            "unit": "currency",
        },
        "workload": {
            "combined": round(sum(workloads) / size, 2),
            "highest": round(max(workloads), 2),
            "spread": round(max(workloads) - min(workloads), 2),
            "unit": "percent",
        },
        "collaborators": {"value": len(pairs), "of": size * (size - 1) // 2, "unit": "pairs"},
        "score": {
            "value": round(sum(situation.scored[m].score for m in members) / size, 6),
            "unit": "mean score, 0 to 1",
        },
        "overlap": {"value": round(shared.hours, 2), "days": shared.days, "unit": "hours a day"},
    }
    return {
        "members": people,
        "coverage": coverage,
        "criteria": criteria,
        "history": _history(situation, members, pairs),
        "sentences": _sentences(situation, members, coverage, criteria, pairs),
        "left_out": _left_out(situation, members, matcher),
    }


def _member(
    situation: Situation, m: int, after: float, share: float, has: Sequence[bool]
) -> dict[str, Any]:
    candidate = situation.scored[m]
    skills = [skill for skill, mine in zip(candidate.skills, has, strict=True) if mine]
    record = situation.history.record(candidate.person.id, situation.task.type)
    reasons = []
    for skill in skills:
        assert skill.match is not None
        how = (
            "" if skill.match.how == "exact" else f" (as {skill.match.found}, by {skill.match.how})"
        )
        reasons.append(f"brings {skill.required} at level {skill.level:g}{how}")
    if not skills:
        reasons.append("adds hands: the others bring the skills")
    reasons.append(f"goes from {candidate.person.workload:g} % to {after:.0f} % workload")
    if record.tasks:
        reasons.append(_completed(record.tasks, record.days_early))
    return {
        **candidate.row(),
        "covers": [skill.required for skill in skills],
        "hours": round(share, 2),
        "workload_after": round(float(after), 2),
        "similar_tasks": record.tasks,
        "days_early": round(record.days_early, 2),
        "reasons": reasons,
    }


def _completed(tasks: int, days_early: float) -> str:
    text = f"completed {tasks} similar task{'s' if tasks != 1 else ''}"
    if abs(days_early) < 0.05:
        return f"{text}, on time on average"
    days = f"{abs(days_early):.1f}".removesuffix(".0")
    return f"{text}, {days} day{'s' if days != '1' else ''} {'early' if days_early > 0 else 'late'} on average"


def _history(
    situation: Situation, members: Sequence[int], pairs: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    records = [
        situation.history.record(situation.scored[m].person.id, situation.task.type)
        for m in members
    ]
    tasks = sum(record.tasks for record in records)
    early = sum(record.tasks * record.days_early for record in records) / tasks if tasks else 0.0
    together = [{"people": list(pair), "tasks": situation.history.together[pair]} for pair in pairs]
    return {"similar_tasks": tasks, "days_early": round(early, 2), "together": together}


def _sentences(
    situation: Situation, members: Sequence[int], coverage: Sequence[dict[str, Any]], criteria: dict[str, Any],
    pairs: Sequence[tuple[str, str]],
) -> list[str]:  # fmt: skip
    names = [situation.scored[m].person.label for m in members]
    said = [
        f"{names[0]} leads"
        + (f", with {_listed(names[1:])}." if len(names) > 1 else " and does it alone.")
    ]
    if coverage:
        said.append(
            f"Together they cover all {len(coverage)} required skills."
            if len(coverage) > 1
            else f"{coverage[0]['skill']} is covered."
        )
    workload = criteria["workload"]
    said.append(
        f"Their combined workload is {workload['combined']:.0f} % with the task, {workload['highest']:.0f} % at most."
    )
    history = _history(situation, members, pairs)
    if history["similar_tasks"]:
        text = _completed(history["similar_tasks"], history["days_early"])
        said.append(f"{text[0].upper()}{text[1:]}.")
    else:
        said.append("None of them has completed a similar task yet.")
    if len(members) > 1:
        overlap = criteria["overlap"]
        said.append(
            f"They share at least {overlap['value']:g} working hours on each of {overlap['days']} days."
        )
        worked = f"{len(pairs)} of their {criteria['collaborators']['of']} pairs have worked together before."
        said.append(worked if pairs else "No two of them have worked together before.")
    if criteria["cost"]["value"]:
        said.append(f"The task costs {criteria['cost']['value']:,.0f} with them.")
    return said


def _left_out(
    situation: Situation, members: Sequence[int], matcher: Matcher, most: int = 3
) -> list[dict[str, Any]]:
    """The best candidates who are not in the team, and why: what the team would
    violate, or give up, with each of them.
    """
    order = sorted(range(len(situation.scored)), key=lambda n: -situation.scored[n].score)
    chosen = set(members)
    worst = min(situation.scored[m].score for m in members)
    found: list[dict[str, Any]] = []
    for n in order:
        candidate = situation.scored[n]
        if n in chosen or candidate.score <= worst or len(found) >= most:
            if len(found) >= most or candidate.score <= worst:
                break
            continue
        found.append(
            {
                "person": candidate.person.id,
                "score": round(candidate.score, 6),
                "why": _why_not(situation, members, n, matcher),
            }
        )
    return found


def _why_not(situation: Situation, members: Sequence[int], n: int, matcher: Matcher) -> str:
    """What changes when this person takes the place of the member whose exchange harms
    least.
    """
    reasons: list[str] | None = None
    for place in range(len(members) - 1, -1, -1):
        team = [situation.scored[m].person for m in members]
        replaced = team[place]
        team[place] = situation.scored[n].person
        broken = violations(situation.task, team, matcher, situation.parameters, situation.now)
        if not broken:
            return f"in {replaced.label}'s place the team is possible, but worse in cost, workload or collaboration taken together"
        if reasons is None or len(broken) < len(reasons):
            reasons = [violation.message for violation in broken]
    return "; ".join(reasons or [])


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
