"""Conflicts in words."""

from collections.abc import Collection, Sequence
from datetime import datetime

from .staffing_problem import Constraints, StaffingProblem


def day(moment: datetime) -> str:
    """A date such as "5 Mar 2026"."""
    return f"{moment.day} {moment:%b %Y}"


def enumeration(names: Sequence[str]) -> str:
    """Names as in a sentence: "Ana, Bo and Cy"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def conflict_message(
    problem: StaffingProblem, constraints: Constraints, requirements: Sequence[tuple[str, int]]
) -> str:
    """The conflict as one sentence.

    Args:
        problem: The task and everyone scored for it.
        constraints: What the team must satisfy.
        requirements: The conflicting ones, see `conflicts.Requirement`.
    """
    kinds = {kind for kind, _ in requirements}
    skills = [n for kind, n in requirements if kind == "skill"]
    if len(skills) == 1:
        text = _about_one_skill(problem, constraints, kinds, skills[0])
    elif skills:
        text = _about_skills(problem, constraints, kinds, skills)
    else:
        text = _about_no_skill(problem, constraints, kinds)
    return text or _about_anything(problem, constraints, kinds, skills)


def _about_one_skill(
    problem: StaffingProblem, constraints: Constraints, kinds: set[str], n: int
) -> str | None:
    needed, level = constraints.people[n], constraints.levels[n]
    name, by = problem.task.skills[n].skill, day(problem.window[1])
    skill = f"{name} at level {level:g}" if level > 1 else name
    who = "nobody" if needed == 1 else f"fewer than {needed} people"
    others = kinds - {"skill"}
    if not others:
        have = int(problem.covers(constraints)[n].sum())
        return (
            f"only {have} of the {needed} people needed have {skill}"
            if have
            else f"nobody has {skill}"
        )
    if "workload" in others and others <= {"workload", "team_size"}:
        ending = f" in a team of at most {constraints.max_size}" if len(others) > 1 else ""
        limit = f"{constraints.workload_limit:g} %"
        return f"{who} with {skill} would stay below {limit} before {by}{ending}"
    if others == {"availability"}:
        return f"{who} with {skill} is available before {by}"
    if others == {"team_size"}:
        most = constraints.max_size
        return f"{needed} people with {name} are needed, but the team may have at most {most}"
    if others == {"overlap"}:
        hours = f"{constraints.overlap_hours:g} working hours a day"
        return f"people with {skill} share fewer than {hours}"
    return None


def _about_skills(
    problem: StaffingProblem, constraints: Constraints, kinds: set[str], skills: Sequence[int]
) -> str | None:
    names = [problem.task.skills[n].skill for n in skills]
    if len(names) == 2 and kinds == {"skill", "overlap"}:
        hours = f"{constraints.overlap_hours:g} working hours a day"
        return f"nobody with {names[0]} shares {hours} with anybody who has {names[1]}"
    if kinds == {"skill", "team_size"}:
        return f"no {constraints.max_size} people have {enumeration(names)} between them"
    return None


def _about_no_skill(
    problem: StaffingProblem, constraints: Constraints, kinds: set[str]
) -> str | None:
    by = day(problem.window[1])
    if kinds == {"availability"}:
        return f"nobody is available before {by}"
    if kinds == {"team_size"}:
        there = len(problem.candidates)
        return f"the team needs at least {constraints.min_size} people, and there are {there}"
    if "workload" in kinds and kinds <= {"workload", "team_size"}:
        most = constraints.max_size
        who = "nobody has" if most == 1 else f"no {most} people have"
        hours, limit = problem.task.estimated_hours, constraints.workload_limit
        return f"{who} room for {hours:g} hours before {by} below {limit:g} %"
    return None


def _about_anything(
    problem: StaffingProblem, constraints: Constraints, kinds: set[str], skills: Sequence[int]
) -> str:
    by = day(problem.window[1])
    phrases = [problem.task.skills[n].skill for n in skills]
    if "workload" in kinds:
        phrases.append(f"nobody above {constraints.workload_limit:g} % before {by}")
    if "overlap" in kinds:
        phrases.append(f"{constraints.overlap_hours:g} common working hours a day")
    if "team_size" in kinds:
        phrases.append(f"a team of {constraints.min_size} to {constraints.max_size}")
    if "availability" in kinds:
        phrases.append("everybody's leave and dates of availability")
    if "include" in kinds:
        phrases.append(f"{_names(problem, constraints.include)} in the team")
    if "exclude" in kinds:
        phrases.append(f"a team without {_names(problem, constraints.exclude)}")
    return f"no team can have all of: {', '.join(phrases)}"


def _names(problem: StaffingProblem, columns: Collection[int]) -> str:
    return enumeration([problem.people[n].label for n in sorted(columns)])
