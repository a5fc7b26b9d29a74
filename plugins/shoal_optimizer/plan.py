"""All open tasks against all people at once: who does what, by when, and what is left
out.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .candidates import candidates
from .hours import Schedule, capacity_hours, overlap
from .parameters import OptimizerParameters
from .records import Person, Task
from .skills import Matcher
from .success import History

CHECKPOINTS = 12
LEFT_OUT = 3.0
"""What leaving out a task of priority 1 costs; twice that for each priority above. A
team costs at most about 2.
"""
CHANGE = 0.5
"""What exchanging a whole team of an earlier plan costs."""

Pin = Literal["in", "out"]


@dataclass(frozen=True)
class PlanProblem:
    """Tasks × people as arrays: `cost`, `able` and `pinned` of shape (tasks, people);
    `covers` per task (requirements, people).

    sizes: the team's size per task, the smallest that the task allows and its skills
    can be covered with (0: none can). free: shape (checkpoints, people): the hours each
    has until each checkpoint; due: each task's checkpoint. released: the checkpoint
    before which each task is not worked on (-1: at once).
    """

    tasks: tuple[Task, ...]
    people: tuple[Person, ...]
    cost: NDArray[np.float64]
    able: NDArray[np.bool_]
    covers: tuple[NDArray[np.bool_], ...]
    sizes: NDArray[np.int64]
    free: NDArray[np.float64]
    due: NDArray[np.int64]
    released: NDArray[np.int64]
    left_out: NDArray[np.float64]
    previous: NDArray[np.bool_]
    pinned: NDArray[np.int64]
    schedule: NDArray[np.int64]
    clashing: Mapping[int, frozenset[tuple[int, int]]]
    """Per task: pairs of schedules that share too few hours in its window (s, s): this
    one alone does.
    """

    def share(self, t: int) -> float:
        return self.tasks[t].estimated_hours / max(int(self.sizes[t]), 1)

    def with_pins_alone(self, pins: Sequence[tuple[int, int]]) -> "PlanProblem":
        """The problem of keeping these pins to (task, person) and no others: all other
        tasks are left out.
        """
        pinned = np.minimum(self.pinned, 0)
        able, sizes = self.able.copy(), np.zeros_like(self.sizes)
        for t, p in pins:
            pinned[t, p] = 1
        for t in {t for t, _ in pins}:
            window = _window(self.free, self.released[t], self.due[t])
            sizes[t] = _size(self.tasks[t], self.covers[t], window, pinned[t])
            able[t] = _able(self.tasks[t], int(sizes[t]), window, pinned[t])
        return replace(self, pinned=pinned, able=able, sizes=sizes)


@dataclass(frozen=True)
class PlanSolution:
    """teams: shape (tasks, people). bound: no plan has a lower objective."""

    status: Literal["optimal", "feasible", "infeasible", "unknown"]
    objective: float | None
    bound: float | None
    teams: NDArray[np.bool_] | None

    @property
    def gap(self) -> float | None:
        if self.objective is None or self.bound is None:
            return None
        return max(0.0, self.objective - self.bound) / max(abs(self.objective), 1e-9)


def plan_problem(
    tasks: Sequence[Task], people: Sequence[Person], matcher: Matcher, history: History, parameters: OptimizerParameters,
    now: datetime, *, pins: Mapping[tuple[str, str], Pin] | None = None, previous: Mapping[str, Sequence[str]] | None = None,
) -> PlanProblem:  # fmt: skip
    """The arrays of a planning problem. pins: (task, person) → "in" or "out"; previous:
    task → team of an earlier plan.
    """
    shape = (len(tasks), len(people))
    place = {person.id: n for n, person in enumerate(people)}
    pinned, before = np.zeros(shape, np.int64), np.zeros(shape, bool)
    row = {task.id: n for n, task in enumerate(tasks)}
    for (task_id, person_id), pin in (pins or {}).items():
        pinned[row[task_id], place[person_id]] = 1 if pin == "in" else -1
    for task_id, team in (previous or {}).items():
        for person_id in team:
            if task_id in row and person_id in place:
                before[row[task_id], place[person_id]] = True
    windows = [task.window(now) for task in tasks]
    times = _checkpoints(windows, now)
    due = np.array(
        [np.searchsorted(times, _stamp(deadline), "right") - 1 for _, deadline in windows], np.int64
    )
    released = np.array(
        [
            np.searchsorted(times, _stamp(start), "left") if start > now else -1
            for start, _ in windows
        ],
        np.int64,
    )
    spare = np.array(
        [max(0.0, parameters.workload_limit - person.workload) / 100 for person in people]
    )
    moments = [datetime.fromtimestamp(stamp, tz=now.tzinfo) for stamp in times]
    free = (
        np.array(
            [[capacity_hours(person, now, moment) for person in people] for moment in moments]
        ).reshape(len(times), len(people))
        * spare
    )
    schedules = tuple(dict.fromkeys(Schedule.of(person) for person in people))
    number = {schedule: n for n, schedule in enumerate(schedules)}
    schedule = np.array([number[Schedule.of(person)] for person in people], np.int64)
    cost, able, covers, sizes = (
        np.zeros(shape),
        np.zeros(shape, bool),
        [],
        np.zeros(len(tasks), np.int64),
    )
    clashing: dict[int, frozenset[tuple[int, int]]] = {}
    highest = max((person.cost_per_hour for person in people), default=0) or 1.0
    rate = np.array([person.cost_per_hour for person in people]) / highest
    workload = np.array([person.workload for person in people]) / 100
    for t, task in enumerate(tasks):
        scored = candidates(task, people, matcher, history, parameters)
        has = (
            np.array([[skill.enough for skill in candidate.skills] for candidate in scored], bool)
            .reshape(len(people), -1)
            .T
        )
        covers.append(has)
        score = np.array([candidate.score for candidate in scored])
        window = _window(free, released[t], due[t])
        sizes[t] = _size(task, has, window, pinned[t])
        size = max(int(sizes[t]), 1)
        able[t] = _able(task, int(sizes[t]), window, pinned[t])
        cost[t] = (
            parameters.score_importance * (1 - score)
            + parameters.cost_importance * rate
            + parameters.balance_importance * workload**2
        ) / size + CHANGE * np.where(before[t].any(), np.where(before[t], -1.0, 0.0), 0.0) / size
        if size > 1 and parameters.overlap_hours:
            clashing[t] = _clashing(schedules, task, now, parameters.overlap_hours)
    left_out = np.array([LEFT_OUT * 2.0 ** (task.priority - 1) for task in tasks])
    return PlanProblem(
        tuple(tasks), tuple(people), cost, able, tuple(covers), sizes, free, due, released, left_out, before, pinned,
        schedule, clashing,
    )  # fmt: skip


def _stamp(moment: datetime) -> float:
    return moment.timestamp()


def _room(free: NDArray[np.float64], since: int, until: int) -> NDArray[np.float64]:
    """The hours everybody has from one checkpoint (-1: now) to another."""
    return np.asarray(free[until] - free[since] if since >= 0 else free[until])


def _window(free: NDArray[np.float64], released: int, due: int) -> NDArray[np.float64]:
    """The hours everybody has for a task."""
    return _room(free, released, due) if due > released else np.zeros(free.shape[1])


def _checkpoints(
    windows: Sequence[tuple[datetime, datetime]], now: datetime
) -> NDArray[np.float64]:
    """At most CHECKPOINTS of the deadlines and as many of the starts. A task is
    released at the first one not before its start and due at the last one not after its
    deadline, so a plan that keeps the checkpoints keeps both.
    """
    deadlines = _thinned([deadline for _, deadline in windows if deadline > now])
    return np.union1d(
        deadlines, _thinned([start for start, deadline in windows if now < start < deadline])
    )


def _thinned(moments: Sequence[datetime]) -> NDArray[np.float64]:
    """At most CHECKPOINTS of these moments, the earliest and the latest among them."""
    stamps = np.unique([_stamp(moment) for moment in moments])
    if stamps.size <= CHECKPOINTS:
        return stamps
    return stamps[np.unique(np.linspace(0, stamps.size - 1, CHECKPOINTS).round().astype(int))]


def _able(
    task: Task, size: int, window: NDArray[np.float64], pinned: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Who has time for a share in a team of this size and is not pinned out."""
    return np.asarray(
        (window >= task.estimated_hours / max(size, 1) - 1e-9) & (pinned >= 0) & (size > 0)
    )


def _size(
    task: Task, has: NDArray[np.bool_], window: NDArray[np.float64], pinned: NDArray[np.int64]
) -> int:
    """The smallest team that covers the skills (found greedily) with shares that
    somebody has time for; 0 when none.
    """
    least = max(task.team_size.least, int((pinned > 0).sum()), 1)
    for size in range(least, task.team_size.most + 1):
        eligible = (window >= task.estimated_hours / size - 1e-9) & (pinned >= 0)
        if eligible.sum() < size:
            continue
        needed = np.array([requirement.people for requirement in task.skills])
        team = np.flatnonzero(pinned > 0).tolist()
        if needed.size:
            needed = needed - has[:, team].sum(axis=1)
        left = eligible.copy()
        left[team] = False
        while needed.size and needed.max() > 0 and len(team) < size:
            gain = (has & (needed > 0)[:, None]).sum(axis=0) * left
            best = int(gain.argmax())
            if gain[best] == 0:
                break
            team.append(best)
            left[best] = False
            needed = needed - has[:, best]
        if not needed.size or needed.max() <= 0:
            return size
    return 0


def _clashing(
    schedules: Sequence[Schedule], task: Task, now: datetime, hours: float
) -> frozenset[tuple[int, int]]:
    window = task.window(now)
    return frozenset(
        (s, t)
        for s in range(len(schedules))
        for t in range(s, len(schedules))
        if overlap(frozenset((schedules[s], schedules[t])), *window).hours < hours
    )


def greedy_plan(problem: PlanProblem) -> NDArray[np.bool_]:
    """A plan made one task at a time, the most important first, then the most urgent."""
    teams = np.zeros(problem.able.shape, bool)
    # [since, until, person]: the hours left between two checkpoints; since 0 is now, so
    # it is one more than in `released`
    left = np.stack(
        [
            problem.free,
            *(
                problem.free - problem.free[since]
                for since in range(int(problem.released.max(initial=-1)) + 1)
            ),
        ]
    )
    order = sorted(
        range(len(problem.tasks)),
        key=lambda t: (not (problem.pinned[t] > 0).any(), -problem.left_out[t], problem.due[t]),
    )
    for t in order:
        size = int(problem.sizes[t])
        if size == 0:
            continue
        share, since, until = problem.share(t), int(problem.released[t]) + 1, int(problem.due[t])
        room = left[: since + 1, until:].min(axis=(0, 1))
        able = problem.able[t] & (room >= share - 1e-9)
        team = _greedy_team(problem, t, able, size)
        if team is None:
            continue
        teams[t, team] = True
        left[: since + 1, until:, team] -= share
    return teams


def _greedy_team(
    problem: PlanProblem, t: int, able: NDArray[np.bool_], size: int
) -> list[int] | None:
    forced = np.flatnonzero(problem.pinned[t] > 0).tolist()
    if not all(able[p] for p in forced):
        return None
    needed = np.array(
        [requirement.people for requirement in problem.tasks[t].skills], dtype=np.int64
    )
    clashing = problem.clashing.get(t, frozenset())
    has = problem.covers[t]
    cheapest = np.argsort(np.where(able, problem.cost[t], np.inf))[: min(4, able.sum())].tolist()
    for first in [None, *cheapest]:
        team = list(forced)
        if first is not None and first not in team and len(team) < size:
            team.append(int(first))
        missing = needed - has[:, team].sum(axis=1) if needed.size else needed
        while len(team) < size:
            ok = able.copy()
            ok[team] = False
            for p in team:
                for s, u in clashing:
                    if problem.schedule[p] == s:
                        ok &= problem.schedule != u
                    if problem.schedule[p] == u:
                        ok &= problem.schedule != s
            if size > 1:
                for s, u in clashing:
                    if s == u:
                        ok &= problem.schedule != s
            if not ok.any():
                break
            gain = (has & (missing > 0)[:, None]).sum(axis=0) if needed.size else np.zeros(ok.size)
            pick = int(np.where(ok, problem.cost[t] - 10 * gain, np.inf).argmin())
            team.append(pick)
            missing = missing - has[:, pick] if needed.size else missing
        if len(team) == size and (not needed.size or missing.max() <= 0):
            return team
    return None


def plan_objective(problem: PlanProblem, teams: NDArray[np.bool_]) -> float:
    """A plan's objective: what is left out, what the teams cost, and what changed."""
    kept = teams.any(axis=1)
    changes = CHANGE * problem.previous.any(axis=1).sum()
    return float(problem.left_out[~kept].sum() + problem.cost[teams].sum() + changes)


def solve_plan(
    problem: PlanProblem,
    *,
    time_limit: float = 20.0,
    progress: Callable[[float, float | None], None] | None = None,
    stop: threading.Event | None = None,
) -> PlanSolution:
    """The plan of least objective: left-out tasks by priority, then teams' cost, then
    changes against an earlier plan.

    progress(objective, bound) is called with the first plan, made greedily at once, and
    with every better one; setting `stop` ends the search with the best so far. Status
    "infeasible" means that pins contradict each other or the rules.
    """
    from ortools.sat.python import cp_model

    started = time.monotonic()
    first = greedy_plan(problem)
    pinned = problem.pinned > 0
    best: NDArray[np.bool_] | None = first if not np.any(pinned & ~first) else None
    if best is not None and progress is not None:
        progress(plan_objective(problem, best), None)
    model, chosen, done = _model(problem)
    for (t, p), variable in chosen.items():
        model.add_hint(variable, bool(first[t, p]))
    for t, variable in done.items():
        model.add_hint(variable, bool(first[t].any()))
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.catch_sigint_signal = (
        False  # it would leave the process with the default handler
    )
    solver.parameters.linearization_level = 2
    if (
        problem.released.max(initial=-1) >= 0
    ):  # so many overlapping intervals that looking for common parts takes ten seconds
        solver.parameters.find_big_linear_overlap = False
        solver.parameters.presolve_inclusion_work_limit = 0
    solver.parameters.max_time_in_seconds = max(0.05, time_limit - (time.monotonic() - started))
    ended = threading.Event()

    def call_off() -> None:
        while stop is not None and not ended.is_set():
            if stop.wait(0.1):
                solver.stop_search()

    watcher = threading.Thread(target=call_off, daemon=True)
    watcher.start()
    try:
        code = solver.solve(model, _watch(progress or (lambda objective, bound: None)))
    finally:
        ended.set()
        watcher.join()
    if code == cp_model.INFEASIBLE:
        return PlanSolution("infeasible", None, None, None)
    bound = (
        max(solver.best_objective_bound / SCALE - _rounding(problem), 0.0)
        if np.isfinite(solver.best_objective_bound)
        else None
    )
    if code in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        teams = np.zeros(problem.able.shape, bool)
        for (t, p), variable in chosen.items():
            teams[t, p] = solver.value(variable)
        if best is None or plan_objective(problem, teams) <= plan_objective(problem, best):
            best = teams
    if best is None:
        return PlanSolution("unknown", None, bound, None)
    objective = plan_objective(problem, best)
    if code == cp_model.OPTIMAL:
        return PlanSolution("optimal", objective, objective, best)
    return PlanSolution("feasible", objective, bound, best)


def _rounding(problem: PlanProblem) -> float:
    """How far the model's whole numbers can be from the objective."""
    return float(problem.sizes.sum() + len(problem.tasks)) / SCALE / 2


SCALE = 10_000


def _model(problem: PlanProblem) -> tuple[Any, dict[tuple[int, int], Any], dict[int, Any]]:
    from ortools.sat.python import cp_model

    model = cp_model.CpModel()
    chosen: dict[tuple[int, int], Any] = {}
    done: dict[int, Any] = {}
    terms: list[Any] = []
    constant = 0.0
    for t, task in enumerate(problem.tasks):
        size = int(problem.sizes[t])
        pinned = np.flatnonzero(problem.pinned[t] > 0)
        constant += problem.left_out[t] + (CHANGE if problem.previous[t].any() else 0.0)
        people = [int(p) for p in np.flatnonzero(problem.able[t])]
        if size == 0 or len(people) < size or any(p not in people for p in pinned):
            if pinned.size:
                model.add_bool_or([])  # a pin that no plan can keep
            continue
        done[t] = model.new_bool_var("")
        mine = {p: model.new_bool_var("") for p in people}
        chosen |= {(t, p): variable for p, variable in mine.items()}
        model.add(sum(mine.values()) == size * done[t])
        for has, requirement in zip(problem.covers[t], task.skills, strict=True):
            model.add(sum(mine[p] for p in people if has[p]) >= requirement.people * done[t])
        for p in pinned:
            model.add(mine[int(p)] == 1)
        _keep_hours(model, problem, t, mine)
        terms.append(done[t] * -round(SCALE * problem.left_out[t]))
        terms += [variable * round(SCALE * problem.cost[t, p]) for p, variable in mine.items()]
    _keep_capacity(model, problem, chosen)
    model.minimize(sum(terms) + round(SCALE * constant))
    return model, chosen, done


def _keep_hours(model: Any, problem: PlanProblem, t: int, mine: Mapping[int, Any]) -> None:
    """No two of the team keep schedules that share too few hours."""
    clashing = problem.clashing.get(t)
    if not clashing:
        return
    kept: dict[int, Any] = {}
    for p, variable in mine.items():
        s = int(problem.schedule[p])
        kept.setdefault(s, model.new_bool_var(""))
        model.add_implication(variable, kept[s])
    for s, u in clashing:
        if s in kept and u in kept:
            model.add_bool_or(
                [kept[s].negated(), kept[u].negated()] if s != u else [kept[s].negated()]
            )


def _keep_capacity(model: Any, problem: PlanProblem, chosen: Mapping[tuple[int, int], Any]) -> None:
    """Between any release and any later due date nobody has more hours of work that
    lies between than they have free there.

    That is exact for work that can be interrupted: earliest deadline first then keeps
    every deadline (Dertouzos, "Control robotics", 1974).
    """
    everybody: list[list[tuple[int, int, int, Any]]] = [
        [] for _ in problem.people
    ]  # (released, due, share, variable)
    for (t, p), variable in chosen.items():
        share = round(100 * problem.share(t) + 0.499)
        everybody[p].append((int(problem.released[t]), int(problem.due[t]), share, variable))
    for p, mine in enumerate(everybody):
        for since in sorted({released for released, *_ in mine}):
            later = [row for row in mine if row[0] >= since]
            first = min(
                due for released, due, *_ in later if released == since
            )  # before it, a later release says as much
            for c in sorted({due for _, due, *_ in later if due >= first}):
                room = 100 * float(_room(problem.free, since, c)[p])
                lie = [(share, variable) for _, due, share, variable in later if due <= c]
                if sum(share for share, _ in lie) > room:
                    model.add(sum(share * variable for share, variable in lie) <= int(room + 1e-6))


def _watch(report: Callable[[float, float], None]) -> Any:
    from ortools.sat.python import cp_model

    class Watch(cp_model.CpSolverSolutionCallback):
        def on_solution_callback(self) -> None:
            report(self.objective_value / SCALE, self.best_objective_bound / SCALE)

    return Watch()
