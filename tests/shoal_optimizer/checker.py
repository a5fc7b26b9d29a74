"""An independent check of teams, by the definitions and by trying every team.

It shares no code with the model.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import combinations
from zoneinfo import ZoneInfo

from shoal_optimizer.parameters import OptimizerParameters
from shoal_optimizer.records import Person, Task

STEP = timedelta(minutes=30)


def at_work(person: Person, moment: datetime) -> bool:
    """Whether their regular hours include this moment (hours within one day only)."""
    local = moment.astimezone(ZoneInfo(person.time_zone))
    return local.isoweekday() in person.working_days and any(
        h.start <= local.time() < h.end for h in person.working_hours
    )


def grid(start: datetime, end: datetime) -> Iterator[datetime]:
    moment = datetime.combine(start.astimezone(UTC).date(), datetime.min.time(), UTC) - timedelta(
        days=2
    )
    while moment < end + timedelta(days=2):
        yield moment
        moment += STEP


def common_hours(team: Sequence[Person], start: datetime, end: datetime) -> float:
    """The least working time shared on any day of the window, by walking through it
    half an hour at a time.
    """
    days: list[list[datetime]] = []
    for moment in grid(start, end):
        if all(at_work(person, moment) for person in team):
            if days and moment - days[-1][-1] < timedelta(hours=6):
                days[-1].append(moment)
            else:
                days.append([moment])
    inside = [day for day in days if day[0] < end and day[-1] + STEP > start]
    return min((len(day) / 2 for day in inside), default=0.0)


def free_hours(person: Person, start: datetime, end: datetime) -> float:
    """Hours of weekly capacity that fall into the window."""
    minutes = 0
    moment = start
    while moment < end:
        if at_work(person, moment) and not person.is_absent(
            moment.astimezone(ZoneInfo(person.time_zone)).date()
        ):
            minutes += 30
        moment += STEP
    week = sum(
        (h.end.hour - h.start.hour) * 60 + h.end.minute - h.start.minute
        for h in person.working_hours
    ) * len(person.working_days)
    return person.capacity_hours * minutes / week


def allowed(
    task: Task, team: Sequence[Person], parameters: OptimizerParameters, now: datetime
) -> bool:
    start, end = max(task.start, now) if task.start else now, task.deadline
    if not task.team_size.least <= len(team) <= task.team_size.most:
        return False
    for need in task.skills:
        if (
            sum(1 for person in team if person.skills.get(need.skill, 0) >= need.level)
            < need.people
        ):
            return False
    for person in team:
        free = free_hours(person, start, end)
        if (
            free <= 0
            or person.workload + 100 * task.estimated_hours / len(team) / free
            > parameters.workload_limit + 1e-9
        ):
            return False
    return len(team) == 1 or common_hours(team, start, end) >= parameters.overlap_hours


def teams(
    task: Task, people: Sequence[Person], parameters: OptimizerParameters, now: datetime
) -> list[tuple[Person, ...]]:
    """Every team that may do the task."""
    return [
        team
        for size in range(1, len(people) + 1)
        for team in combinations(people, size)
        if allowed(task, team, parameters, now)
    ]


def value(
    task: Task,
    team: Sequence[Person],
    people: Sequence[Person],
    together: set[frozenset[str]],
    parameters: OptimizerParameters,
    now: datetime,
) -> float:
    """The objective by its definition in docs/optimizer.md; nobody here has a history
    of success.
    """
    size = len(team)
    highest = max(max(person.cost_per_hour for person in people), 1e-9)
    total = 0.0
    for person in team:
        credits = [min(1, person.skills.get(need.skill, 0) / need.level) for need in task.skills]
        skill = sum(credits) / len(credits) if credits else 1
        score = 0.5 * skill + 0.3 * (1 - person.workload / 100) + 0.2 * 0.5
        after = person.workload + 100 * task.estimated_hours / size / free_hours(
            person, now, task.deadline
        )
        total += (
            1 - score + 0.3 * person.cost_per_hour / highest + 0.3 * (after / 100) ** 2
        ) / size
    if size > 1:
        pairs = list(combinations(team, 2))
        known = sum(1 for a, b in pairs if frozenset((a.id, b.id)) in together)
        total += 0.1 * (1 - known / len(pairs))
    return total
