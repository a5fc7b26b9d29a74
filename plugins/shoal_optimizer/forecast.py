"""Capacity and load week by week, of each person or of the people with each skill."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import numpy as np

from .calendar import Calendar
from .records import Task
from .skills import normalize_skill
from .working_time import Floats

Grouping = Literal["person", "skill", "total"]
WEEK = timedelta(days=7)


def forecast(
    calendar: Calendar, open_tasks: Sequence[Task], weeks: int, by: Grouping
) -> list[dict[str, Any]]:
    """Hours that people have, and that are taken, in weeks from the current one on.

    Args:
        calendar: The people, and the work that is committed.
        open_tasks: Tasks without a team. Their hours are spread evenly over their
            windows, and count once for each skill that they require.
        weeks: How many.
        by: Whose rows are given.

    Returns:
        One row for each week and person, skill or nothing, by week.
    """
    today = calendar.now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    monday = today - timedelta(days=today.weekday())
    starts = [max(monday + n * WEEK, calendar.now) for n in range(weeks)]
    ends = [monday + (n + 1) * WEEK for n in range(weeks)]
    capacity = np.array([calendar.capacity(*span) for span in zip(starts, ends, strict=True)])
    base = capacity * calendar.base / 100
    committed = calendar.committed_hours(starts, ends)
    wanted = np.array([_spread(task, starts, ends, calendar.now) for task in open_tasks])
    members, asking = _groups(calendar, open_tasks, by)
    rows = []
    for n in range(weeks):
        for name, people in members.items():
            hours = float(capacity[n, people].sum())
            taken = float(base[n, people].sum() + committed[n, people].sum())
            tasks = asking.get(name, [])
            rows.append(
                {
                    "week": (monday + n * WEEK).date().isoformat(),
                    by: name,
                    "capacity_hours": round(hours, 2),
                    "base_hours": round(float(base[n, people].sum()), 2),
                    "committed_hours": round(float(committed[n, people].sum()), 2),
                    "open_hours": round(float(wanted[tasks, n].sum()), 2) if tasks else 0.0,
                    "load": round(100 * taken / hours, 2) if hours > 0 else None,
                }
            )
    return rows


def _groups(
    calendar: Calendar, open_tasks: Sequence[Task], by: Grouping
) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
    """Group → the columns of its people, and the rows of the tasks that ask for it."""
    if by == "total":
        return {"total": list(range(len(calendar.people)))}, {"total": list(range(len(open_tasks)))}
    if by == "person":
        return {person.id: [n] for n, person in enumerate(calendar.people)}, {}
    members: dict[str, list[int]] = {}
    asking: dict[str, list[int]] = {}
    for n, person in enumerate(calendar.people):
        for skill in {normalize_skill(skill) for skill in person.skills}:
            members.setdefault(skill, []).append(n)
    for n, task in enumerate(open_tasks):
        for need in task.skills:
            skill = normalize_skill(need.skill)
            members.setdefault(skill, [])
            asking.setdefault(skill, []).append(n)
    return dict(sorted(members.items())), asking


def _spread(
    task: Task, starts: Sequence[datetime], ends: Sequence[datetime], now: datetime
) -> Floats:
    """Hours of a task in each week, spread evenly over its window."""
    begin, end = task.window(now)
    whole = (end - begin).total_seconds()
    if whole <= 0:
        return np.zeros(len(starts))
    inside = [
        max(0.0, (min(until, end) - max(since, begin)).total_seconds())
        for since, until in zip(starts, ends, strict=True)
    ]
    return np.array(inside) * task.estimated_hours / whole
