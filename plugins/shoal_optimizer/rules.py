"""What a given team would violate, and by how much. Shares no code with the model that
finds teams.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from .hours import Schedule, capacity_hours, overlap
from .parameters import OptimizerParameters
from .records import Person, Task
from .skills import Matcher


@dataclass(frozen=True)
class Violation:
    """One rule broken: by how much, in the rule's own unit, and in words."""

    rule: str
    subject: str
    amount: float
    unit: str
    message: str


def violations(
    task: Task,
    team: Sequence[Person],
    matcher: Matcher,
    parameters: OptimizerParameters,
    now: datetime,
) -> list[Violation]:
    """Every hard rule that the team breaks; an empty list when it may do the task."""
    found: list[Violation] = []
    start, end = task.window(now)
    if end <= start:
        days = (start - end).total_seconds() / 86_400
        found.append(
            Violation(
                "deadline",
                task.id,
                round(days, 2),
                "days",
                f"the deadline passed {days:.1f} days ago",
            )
        )
    size = len(team)
    if size < task.team_size.least:
        missing = task.team_size.least - size
        found.append(
            Violation(
                "team_size", task.id, missing, "people", f"{missing} too few: the team has {size}"
            )
        )
    if size > task.team_size.most:
        extra = size - task.team_size.most
        found.append(
            Violation(
                "team_size", task.id, extra, "people", f"{extra} too many: the team has {size}"
            )
        )
    for requirement in task.skills:
        able = 0
        for person in team:
            match = matcher.best(requirement.skill, person.skills)
            able += match is not None and person.skills[match.found] >= requirement.level
        if able < requirement.people:
            missing = requirement.people - able
            text = f"{requirement.people} with {requirement.skill} at level {requirement.level:g} needed, {able} in the team"
            found.append(Violation("skill", requirement.skill, missing, "people", text))
    for person in team:
        hours = capacity_hours(person, start, end) if end > start else 0.0
        if hours <= 0:
            if end > start:
                text = f"{person.label} has no working time before the deadline"
                found.append(
                    Violation("availability", person.id, task.estimated_hours / size, "hours", text)
                )
            continue
        after = person.workload + 100 * task.estimated_hours / size / hours
        if after > parameters.workload_limit + 1e-9:
            over = after - parameters.workload_limit
            text = f"{person.label} would be at {after:.0f} %, {over:.0f} points over the limit of {parameters.workload_limit:g} %"
            found.append(
                Violation("workload", person.id, round(over, 2), "percentage points", text)
            )
    if size > 1 and end > start and parameters.overlap_hours:
        shared = overlap(frozenset(Schedule.of(person) for person in team), start, end).hours
        if shared < parameters.overlap_hours:
            short = parameters.overlap_hours - shared
            text = f"the team shares {shared:g} hours a day, {short:g} fewer than the {parameters.overlap_hours:g} needed"
            found.append(Violation("overlap", task.id, round(short, 2), "hours", text))
    return found
