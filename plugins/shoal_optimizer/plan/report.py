"""Plans as plain data: who does what and when, and why tasks are unassigned."""

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..calendar import Calendar
from ..parameters import OptimizerParameters
from ..records import Task
from ..skills import Matcher
from ..success import History
from ..team.conflicts import find_conflict
from ..team.staffing_problem import Constraints, StaffingProblem
from .balance import hours_of
from .problem import Booleans, PlanProblem, build_plan_problem
from .reasons import rivals
from .solve import Report, contradicting_pins, solve_one_each, solve_plan
from .terms import plan_terms
from .timeline import Slots, timeline

MAX_CONFLICTS = 20
"""Unassigned tasks for which a conflict is searched."""
SECONDS_PER_CONFLICT = 0.5


def make_plan(
    tasks: Sequence[Task],
    calendar: Calendar,
    matcher: Matcher,
    history: History,
    parameters: OptimizerParameters,
    options: Mapping[str, Any],
    report: Report,
    stop: threading.Event,
) -> dict[str, Any]:
    """Plan tasks and describe the plan.

    Args:
        tasks: The tasks to plan.
        calendar: Everyone who might do them, and the work that is committed.
        matcher: Matches required skills with those people have.
        history: Past success.
        parameters: The tenant's parameters.
        options: `pins` [{task, person, pin: in|out}], `previous` {task: [people]},
            `time_limit` in seconds, `one_each`.
        report: Called with objective and bound of each better plan.
        stop: Ends the search once it is set.

    Returns:
        The answer of POST /plan, and the `terms` of its objective.
    """
    if not calendar.people or not tasks:
        return _nobody(tasks)
    started = time.monotonic()
    limit = options.get("time_limit") or parameters.plan_time_limit
    pins = {(pin["task"], pin["person"]): pin["pin"] for pin in options.get("pins", ())}
    previous = options.get("previous") or {}
    problem = build_plan_problem(
        tasks, calendar, matcher, history, parameters, pins=pins, previous=previous
    )
    if options.get("one_each"):
        solution = solve_one_each(problem)
    else:
        solution = solve_plan(problem, time_limit=limit, progress=report, stop=stop)
    answer: dict[str, Any] = {
        "status": solution.status,
        "objective": solution.objective,
        "bound": solution.bound,
        "gap": solution.gap,
        "assignments": [],
        "left_out": [],
        "workloads": [],
    }
    if solution.teams is None:
        left = limit - (time.monotonic() - started)
        infeasible = solution.status == "infeasible"
        return answer | {"contradiction": contradicting_pins(problem, left) if infeasible else []}
    slots = timeline(problem, solution.teams)
    answer["assignments"] = [
        _assignment(problem, int(t), solution.teams[t], slots)
        for t in np.flatnonzero(solution.teams.any(axis=1))
    ]
    answer["left_out"] = _unassigned(problem, solution.teams, matcher, history, parameters)
    answer["workloads"] = _workloads(problem, solution.teams, parameters.workload_limit)
    answer["terms"] = plan_terms(problem, solution.teams)
    if previous:
        kept = int((problem.previous & solution.teams).sum())
        answer["changes"] = {"kept": kept, "dropped": int(problem.previous.sum()) - kept}
    return answer


def _nobody(tasks: Sequence[Task]) -> dict[str, Any]:
    """The plan without people, or without tasks."""
    return {
        "status": "optimal",
        "objective": 0.0,
        "bound": 0.0,
        "gap": 0.0,
        "assignments": [],
        "workloads": [],
        "left_out": [_unassigned_row(task, "there are no people") for task in tasks],
        "terms": [],
    }


def _assignment(problem: PlanProblem, t: int, team: Booleans, slots: Slots) -> dict[str, Any]:
    task, people = problem.tasks[t], [int(p) for p in np.flatnonzero(team)]
    times = {p: slots[t, p] for p in people if (t, p) in slots}
    return {
        "task": task.id,
        "title": task.label,
        "priority": task.priority,
        "deadline": task.deadline.isoformat(),
        "team": [problem.people[p].id for p in people],
        "hours_each": round(task.estimated_hours / len(people), 2),
        "start": min(start for start, _ in times.values()).isoformat() if times else None,
        "end": max(end for _, end in times.values()).isoformat() if times else None,
        "slots": [
            {"person": problem.people[p].id, "start": start.isoformat(), "end": end.isoformat()}
            for p, (start, end) in times.items()
        ],
    }


def _unassigned(
    problem: PlanProblem,
    teams: Booleans,
    matcher: Matcher,
    history: History,
    parameters: OptimizerParameters,
) -> list[dict[str, Any]]:
    """Every task without a team, and why."""
    rows = []
    for n, t in enumerate(np.flatnonzero(~teams.any(axis=1))):
        task, conflict = problem.tasks[t], None
        if n < MAX_CONFLICTS:
            alone = StaffingProblem.build(task, problem.calendar, matcher, history, parameters)
            constraints = Constraints.from_task(task, parameters)
            conflict = find_conflict(alone, constraints, SECONDS_PER_CONFLICT)
        why = conflict.message if conflict else rivals(problem, teams, int(t))
        rows.append(_unassigned_row(task, why))
    return rows


def _unassigned_row(task: Task, why: str) -> dict[str, Any]:
    return {"task": task.id, "title": task.label, "priority": task.priority, "why": why}


def _workloads(problem: PlanProblem, teams: Booleans, limit: float) -> list[dict[str, Any]]:
    """Hours of everyone with a task in the plan."""
    hours = hours_of(problem, teams)
    last = max(task.deadline for task in problem.tasks)
    loads = problem.calendar.loads(problem.calendar.now, last, limit)
    return [
        {
            "person": person.id,
            "name": person.label,
            "workload": round(float(loads[p]), 2),
            "hours": round(float(hours[p]), 2),
            "free_hours": round(float(problem.room[p]), 2),
            "tasks": int(teams[:, p].sum()),
        }
        for p, person in enumerate(problem.people)
        if teams[:, p].any()
    ]
