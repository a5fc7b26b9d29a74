"""A plan in words and dates: who does what and when, workloads, what is left out and
why.
"""

import heapq
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from .conflicts import conflict
from .hours import Schedule, stretches, weekly_minutes
from .parameters import OptimizerParameters
from .plan import PlanProblem, PlanSolution, greedy_plan, plan_problem, solve_plan
from .records import Person, Task
from .skills import Matcher
from .staffing_problem import Demands, Situation
from .success import History

MOST_REASONS = 20  # left-out tasks that get a conflict of their own worked out


def plan(
    tasks: Sequence[Task], people: Sequence[Person], matcher: Matcher, history: History, parameters: OptimizerParameters,
    now: datetime, wishes: Mapping[str, Any], report: Callable[[float, float | None], None], stop: threading.Event,
) -> dict[str, Any]:  # fmt: skip
    """Plan the tasks. wishes: pins [{task, person, pin: in|out}], previous {task:
    [people]}, time_limit, one_each.
    """
    if not people or not tasks:
        return {
            "status": "optimal", "objective": 0.0, "bound": 0.0, "gap": 0.0, "assignments": [], "workloads": [],
            "left_out": [
                {"task": task.id, "title": task.label, "priority": task.priority, "why": "there are no people"} for task in tasks
            ],
        }  # fmt: skip
    started = time.monotonic()
    limit = wishes.get("time_limit") or parameters.plan_time_limit
    pins = {(pin["task"], pin["person"]): pin["pin"] for pin in wishes.get("pins", ())}
    problem = plan_problem(
        tasks,
        people,
        matcher,
        history,
        parameters,
        now,
        pins=pins,
        previous=wishes.get("previous") or {},
    )
    if wishes.get("one_each"):
        solution = one_each(problem)
    else:
        solution = solve_plan(problem, time_limit=limit, progress=report, stop=stop)
    answer: dict[str, Any] = {
        "status": solution.status, "objective": solution.objective, "bound": solution.bound, "gap": solution.gap,
    }  # fmt: skip
    if solution.teams is None:
        contradiction = (
            contradicting_pins(problem, limit - (time.monotonic() - started))
            if solution.status == "infeasible"
            else []
        )
        return {
            **answer,
            "assignments": [],
            "left_out": [],
            "workloads": [],
            "contradiction": contradiction,
        }
    slots = timeline(problem, solution.teams, now)
    answer["assignments"] = [
        _assignment(problem, int(t), solution.teams[t], slots)
        for t in np.flatnonzero(solution.teams.any(axis=1))
    ]
    answer["left_out"] = _left_out(problem, solution, matcher, history, parameters, now)
    answer["workloads"] = _workloads(problem, solution.teams)
    if wishes.get("previous"):
        kept = int((problem.previous & solution.teams).sum())
        answer["changes"] = {"kept": kept, "dropped": int(problem.previous.sum()) - kept}
    return answer


def one_each(problem: PlanProblem) -> PlanSolution:
    """At most one task for each person and one person for each task: the assignment
    problem, solved exactly.

    Source: SciPy's linear_sum_assignment, with one column per task for leaving it out.
    """
    from scipy.optimize import linear_sum_assignment

    forbidden = 1e6
    tasks, people = problem.able.shape
    covered = np.array(
        [[bool(np.all(has[:, p])) for p in range(people)] for has in problem.covers]
    ).reshape(tasks, people)
    able = problem.able & covered & (problem.sizes == 1)[:, None]
    cost = np.where(able, problem.cost, forbidden)
    cost = np.where(problem.pinned > 0, np.where(able, problem.cost - forbidden, forbidden), cost)
    out = np.where(np.eye(tasks, dtype=bool), problem.left_out[None, :], forbidden)
    rows, columns = linear_sum_assignment(np.hstack([cost, out]))
    teams = np.zeros(problem.able.shape, bool)
    for t, column in zip(rows, columns, strict=True):
        if column < people:
            teams[t, column] = True
    if np.any((problem.pinned > 0) & ~teams) or np.any(teams & ~able):
        return PlanSolution("infeasible", None, None, None)
    from .plan import plan_objective

    objective = plan_objective(problem, teams)
    return PlanSolution("optimal", objective, objective, teams)


def timeline(
    problem: PlanProblem, teams: NDArray[np.bool_], now: datetime
) -> dict[tuple[int, int], tuple[datetime, datetime]]:
    """When each person works on each of their tasks: earliest deadline first, in their
    own working hours.

    Source: Liu & Layland, "Scheduling algorithms for multiprogramming in a
    hard-real-time environment", 1973.
    """
    slots: dict[tuple[int, int], tuple[datetime, datetime]] = {}
    last = max((task.deadline for task in problem.tasks), default=now)
    for p in np.flatnonzero(teams.any(axis=0)):
        person = problem.people[p]
        pace = (
            person.capacity_hours
            * 60
            / weekly_minutes(Schedule.of(person))
            * max(1 - person.workload / 100, 0.01)
        )
        waiting = sorted(
            (problem.tasks[t].window(now)[0], problem.tasks[t].deadline, int(t))
            for t in np.flatnonzero(teams[:, p])
        )
        left = {t: problem.share(t) * 60 for _, _, t in waiting}
        started: dict[int, datetime] = {}
        ready: list[tuple[datetime, int]] = []
        zone = ZoneInfo(person.time_zone)
        for begin, end in stretches(
            Schedule.of(person), now.date() - timedelta(days=1), last.astimezone(UTC).date()
        ):
            at = max(datetime.fromtimestamp(begin * 60, UTC), now)
            until = datetime.fromtimestamp(end * 60, UTC)
            if at >= until or person.away(datetime.fromtimestamp(begin * 60, zone).date()):
                continue
            while at < until:
                while waiting and waiting[0][0] <= at:
                    _, deadline, t = waiting.pop(0)
                    heapq.heappush(ready, (deadline, t))
                if not ready:
                    if not waiting or waiting[0][0] >= until:
                        break
                    at = waiting[0][0]
                    continue
                t = ready[0][1]
                started.setdefault(t, at)
                stretch = until if not waiting else min(until, max(waiting[0][0], at))
                work = min(left[t], (stretch - at).total_seconds() / 60 * pace)
                at += timedelta(minutes=work / pace)
                left[t] -= work
                if left[t] < 1e-6:
                    heapq.heappop(ready)
                    slots[t, int(p)] = (started[t], at)
            if not ready and not waiting:
                break
        for _, t in ready:
            slots[t, int(p)] = (started.get(t, now), problem.tasks[t].deadline)
    return slots


def _assignment(
    problem: PlanProblem,
    t: int,
    team: NDArray[np.bool_],
    slots: Mapping[Any, tuple[datetime, datetime]],
) -> dict[str, Any]:
    task, people = problem.tasks[t], np.flatnonzero(team)
    times = {int(p): slots[t, int(p)] for p in people if (t, int(p)) in slots}
    return {
        "task": task.id,
        "title": task.label,
        "priority": task.priority,
        "deadline": task.deadline.isoformat(),
        "team": [problem.people[p].id for p in people],
        "hours_each": round(problem.share(t), 2),
        "start": min(start for start, _ in times.values()).isoformat() if times else None,
        "end": max(end for _, end in times.values()).isoformat() if times else None,
        "slots": [
            {"person": problem.people[p].id, "start": start.isoformat(), "end": end.isoformat()}
            for p, (start, end) in times.items()
        ],
    }


def _left_out(
    problem: PlanProblem,
    solution: PlanSolution,
    matcher: Matcher,
    history: History,
    parameters: OptimizerParameters,
    now: datetime,
) -> list[dict[str, Any]]:
    """Every task without a team, and why: what clashes even when it is alone, or which
    tasks took the time.
    """
    assert solution.teams is not None
    found, explained = [], 0
    for t in np.flatnonzero(~solution.teams.any(axis=1)):
        task = problem.tasks[t]
        why: str | None = None
        if explained < MOST_REASONS:
            explained += 1
            situation = Situation.of(task, problem.people, matcher, history, parameters, now)
            clash = conflict(situation, replace(Demands.of(task, parameters)), 0.5)
            why = clash.message if clash is not None else None
        if why is None:
            able = problem.able[t] & (problem.covers[t].any(axis=0) if len(task.skills) else True)
            rivals = np.flatnonzero((solution.teams & able[None, :]).any(axis=1))
            heavier = sorted(
                (r for r in rivals if problem.left_out[r] >= problem.left_out[t]),
                key=lambda r: -problem.left_out[r],
            )
            names = [problem.tasks[r].label for r in (heavier or list(rivals))[:3]]
            why = "who could do it has no time left before its deadline" + (
                f": {', '.join(names)} took it" if names else ""
            )
        found.append({"task": task.id, "title": task.label, "priority": task.priority, "why": why})
    return found


def _workloads(problem: PlanProblem, teams: NDArray[np.bool_]) -> list[dict[str, Any]]:
    hours = np.array([problem.share(t) for t in range(len(problem.tasks))])
    rows = []
    for p, person in enumerate(problem.people):
        planned = float(hours[teams[:, p]].sum())
        free = float(problem.free[-1, p]) if len(problem.free) else 0.0
        rows.append(
            {
                "person": person.id, "name": person.label, "workload": person.workload, "hours": round(planned, 2),
                "free_hours": round(free, 2), "tasks": int(teams[:, p].sum()),
            }
        )  # fmt: skip
    return [row for row in rows if row["tasks"]]


def contradicting_pins(problem: PlanProblem, time_limit: float = 20.0) -> list[dict[str, str]]:
    """A smallest-by-removal set of pins that cannot all be kept, verified by solving
    without each (at first without many at once). When the time is up it may still hold
    pins that could be kept.
    """
    ends = time.monotonic() + time_limit
    pins = [(int(t), int(p)) for t, p in zip(*np.nonzero(problem.pinned > 0), strict=True)]

    def possible(kept: Sequence[tuple[int, int]]) -> bool:
        left = ends - time.monotonic()
        if left <= 0:
            return True
        alone, found = problem.with_pins_alone(kept), threading.Event()
        if not np.any((alone.pinned > 0) & ~greedy_plan(alone)):
            return True
        return (
            solve_plan(
                alone,
                time_limit=min(left, 2.0),
                progress=lambda objective, bound: found.set(),
                stop=found,
            ).status
            != "infeasible"
        )

    needed, some = list(pins), max(len(pins) // 2, 1)
    while some:
        at = 0
        while at < len(needed):
            rest = needed[:at] + needed[at + some :]
            if possible(rest):
                at += some
            else:
                needed = rest
        some //= 2
    return [{"task": problem.tasks[t].id, "person": problem.people[p].id} for t, p in needed]
