"""An independent check of teams, by the definitions and by trying every team.

It shares no code with the model. Time is walked through, a quarter of an hour a step.
"""

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import combinations, pairwise
from zoneinfo import ZoneInfo

import numpy as np
from scipy.optimize import linprog

from shoal_optimizer.parameters import OptimizerParameters
from shoal_optimizer.records import Person, Task

STEP = timedelta(minutes=15)
DAY = timedelta(days=1)


@lru_cache(maxsize=256)
def clock(zone: str, first: datetime, steps: int) -> tuple[datetime, ...]:
    """What a clock on the wall shows at each step."""
    found = ZoneInfo(zone)
    return tuple((first + n * STEP).astimezone(found).replace(tzinfo=None) for n in range(steps))


def step_at(shown: Sequence[datetime], wall: datetime) -> int:
    """The step at which a clock first shows a time.

    One that it skips comes as long after the last step before it as it would have.
    """
    n = max(0, int((wall - shown[0] - DAY) / STEP) - 8)  # clocks jump by a day at most
    while shown[n] < wall:
        n += 1
    if shown[n] == wall or n == 0:
        return n
    return n - 1 + round((wall - shown[n - 1]) / STEP)


def working_steps(person: Person, first: datetime, steps: int) -> dict[int, date]:
    """The steps at which somebody works, and the day that each belongs to."""
    shown = clock(person.time_zone, first, steps)
    stretches = []
    day = first.date() + 2 * DAY
    while day < (first + steps * STEP).date() - 3 * DAY:
        if day.isoweekday() in person.working_days and not person.is_absent(day):
            for hours in person.working_hours:
                opens = datetime.combine(day, hours.start)
                closes = datetime.combine(day + DAY * (hours.end <= hours.start), hours.end)
                stretches.append((step_at(shown, opens), day, step_at(shown, closes)))
        day += DAY
    found: dict[int, date] = {}
    for start, day, end in sorted(stretches):
        for n in range(start, end):
            found.setdefault(n, day)
    return found


def grid(start: datetime, end: datetime) -> tuple[datetime, int]:
    """The first step, days before the window, and how many there are until after."""
    first = datetime.combine(start.astimezone(UTC).date(), datetime.min.time(), UTC) - 5 * DAY
    return first, int((end - first) / STEP) + 7 * 96


def days_in_common(
    team: Sequence[Person], start: datetime, end: datetime
) -> tuple[dict[date, float], float]:
    """The hours shared on each day that touches the window, and those within it."""
    first, steps = grid(start, end)
    mine = [working_steps(person, first, steps) for person in team]
    hours: dict[date, float] = defaultdict(float)
    inside, within = set(), 0.0
    for n in set.intersection(*(set(steps) for steps in mine)):
        day = min(steps[n] for steps in mine)
        hours[day] += 0.25
        if first + n * STEP < end and first + (n + 1) * STEP > start:
            inside.add(day)
            since, until = max(first + n * STEP, start), min(first + (n + 1) * STEP, end)
            within += (until - since) / timedelta(hours=1)
    return {day: hours[day] for day in inside}, within


def common_hours(team: Sequence[Person], start: datetime, end: datetime) -> float:
    days, within = days_in_common(team, start, end)
    return min(within, *days.values()) if days else 0.0


def free_hours(person: Person, start: datetime, end: datetime) -> float:
    """Hours of weekly capacity that fall into the window."""
    first, steps = grid(start, end)
    worked = sum(
        0.25 for n in working_steps(person, first, steps) if start <= first + n * STEP < end
    )
    # An ordinary week, in a zone whose clocks do not change.
    plain = person.model_copy(
        update={"time_zone": "UTC", "leave": (), "available_from": None, "available_until": None}
    )
    monday = datetime(2024, 1, 1, tzinfo=UTC)
    week = working_steps(plain, monday, 5 * 7 * 96)
    hours = sum(0.25 for n in week if 14 * 96 <= n < 21 * 96)
    return person.capacity_hours * worked / hours


def room(
    person: Person,
    commitments: Sequence[tuple[datetime, datetime, float]],
    start: datetime,
    end: datetime,
    limit: float,
) -> float | None:
    """The most hours that fit into a window beside committed work, by a linear program.

    Work of (start, end, hours) is split over the spans between dates, each of which
    holds the time that the person has there below the limit.
    """
    share = max(limit - person.workload, 0) / 100
    dates = sorted({start, end} | {d for s, e, _ in commitments for d in (s, e)})
    spans = list(pairwise(dates))
    jobs = [*((s, e) for s, e, _ in commitments), (start, end)]
    shape = (len(jobs), len(spans))
    allowed = np.array([[s <= a and b <= e for a, b in spans] for s, e in jobs])
    used = np.zeros((len(spans), *shape))
    done = np.zeros((len(commitments), *shape))
    for k in range(len(spans)):
        used[k, :, k] = 1
    for j in range(len(commitments)):
        done[j, j] = 1
    wanted = np.zeros(shape)
    wanted[-1] = -1
    answer = linprog(
        wanted.ravel(),
        A_ub=used.reshape(len(spans), -1),
        b_ub=[share * free_hours(person, a, b) for a, b in spans],
        A_eq=done.reshape(len(commitments), wanted.size) if commitments else None,
        b_eq=[hours for *_, hours in commitments] if commitments else None,
        bounds=[(0, None if may else 0) for may in allowed.ravel()],
    )
    return -float(answer.fun) if answer.success else None


def allowed(
    task: Task,
    team: Sequence[Person],
    parameters: OptimizerParameters,
    now: datetime,
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
