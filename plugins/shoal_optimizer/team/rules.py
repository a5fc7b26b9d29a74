"""What a given team would violate, and by how much.

Shares no code with the model that finds teams.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from ..calendar import Calendar
from ..parameters import OptimizerParameters
from ..records import Person, Task
from ..shared_time import overlap
from ..skills import Matcher
from ..working_time import Shift

Window = tuple[datetime, datetime]


@dataclass(frozen=True)
class Violation:
    """One broken rule.

    Attributes:
        rule: "deadline", "team_size", "skill", "availability", "workload" or "overlap".
        subject: The person, skill or task concerned.
        amount: By how much, in `unit`.
        unit: Such as "people" or "hours".
        message: The violation in words.
    """

    rule: str
    subject: str
    amount: float
    unit: str
    message: str

    @property
    def key(self) -> str:
        """The rule and whom it concerns."""
        return f"{self.rule}:{self.subject}"


def find_violations(
    task: Task,
    calendar: Calendar,
    matcher: Matcher,
    parameters: OptimizerParameters,
) -> list[Violation]:
    """Check a team against every hard rule.

    Args:
        task: The task.
        calendar: The calendar of the team, and of nobody else.
        matcher: Matches required skills with those people have.
        parameters: The limits on workload and shared hours.

    Returns:
        The violations; empty when the team may do the task.
    """
    window, team = task.window(calendar.now), calendar.people
    return [
        *_deadline(task, window),
        *_team_size(task, team),
        *_skills(task, team, matcher, parameters.accept_similar),
        *_workloads(task, calendar.without(task.id), parameters, window),
        *_overlap(task, team, parameters, window),
    ]


def _deadline(task: Task, window: Window) -> Iterator[Violation]:
    start, end = window
    if end <= start:
        days = (start - end).total_seconds() / 86_400
        text = f"The deadline passed {days:.1f} days ago"
        yield Violation("deadline", task.id, round(days, 2), "days", text)


def _team_size(task: Task, team: Sequence[Person]) -> Iterator[Violation]:
    size, least, most = len(team), task.team_size.least, task.team_size.most
    if size < least:
        text = f"Team of {size} is under the minimum of {least}"
        yield Violation("team_size", task.id, least - size, "people", text)
    if size > most:
        text = f"Team of {size} is over the limit of {most}"
        yield Violation("team_size", task.id, size - most, "people", text)


def _skills(
    task: Task, team: Sequence[Person], matcher: Matcher, accept_similar: bool
) -> Iterator[Violation]:
    for requirement in task.skills:
        able = 0
        for person in team:
            match = matcher.best(requirement.skill, person.skills)
            if match is not None and (match.is_same or accept_similar):
                able += person.skills[match.found] >= requirement.level
        if able < requirement.people:
            text = (
                f"{requirement.people} with {requirement.skill} at level {requirement.level:g} "
                f"required, {able} in the team"
            )
            missing = requirement.people - able
            yield Violation("skill", requirement.skill, missing, "people", text)


def _workloads(
    task: Task, calendar: Calendar, parameters: OptimizerParameters, window: Window
) -> Iterator[Violation]:
    if window[1] <= window[0]:
        return
    team = calendar.people
    hours_each = task.estimated_hours / max(len(team), 1)
    capacity = calendar.capacity(*window)
    loads = calendar.loads(*window, parameters.workload_limit)
    for person, hours, load in zip(team, capacity.tolist(), loads.tolist(), strict=True):
        if hours <= 0:
            text = f"{person.label} has no working time before the deadline"
            yield Violation("availability", person.id, hours_each, "hours", text)
            continue
        after = load + 100 * hours_each / hours
        over = after - parameters.workload_limit
        if over > 1e-9:
            text = (
                f"{person.label} would be at {after:.0f} %, {over:.0f} points over the limit "
                f"of {parameters.workload_limit:g} %"
            )
            yield Violation("workload", person.id, round(over, 2), "percentage points", text)


def _overlap(
    task: Task, team: Sequence[Person], parameters: OptimizerParameters, window: Window
) -> Iterator[Violation]:
    start, end = window
    if len(team) < 2 or end <= start or not parameters.overlap_hours:
        return
    shared = overlap(frozenset(Shift.of(person) for person in team), start, end).hours
    if shared < parameters.overlap_hours - 1e-9:
        short = parameters.overlap_hours - shared
        text = (
            f"The team shares {shared:g} working hours a day, {short:g} fewer than the "
            f"{parameters.overlap_hours:g} required"
        )
        yield Violation("overlap", task.id, round(short, 2), "hours", text)
