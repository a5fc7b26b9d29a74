"""The search for the best plan."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from .balance import balance_costs
from .bound import plan_bound
from .columns import Column, enumerate_columns
from .greedy import greedy_plan
from .model import build_model
from .neighborhoods import NeighborhoodSearch, plan_objective
from .packing import SCALE, choose_columns
from .problem import CHANGE_COST, Booleans, PlanProblem

MAX_SECONDS_PER_PIN_CHECK = 2.0
PROVING = 0.5
"""Share of the time in which all teams are tried, before neighbourhoods are."""
PROVED = 1e-6
"""A plan this near to the bound is the best."""
FORBIDDEN = 1e6
"""A cost above that of any plan."""

Status = Literal["optimal", "feasible", "infeasible", "unknown"]
Report = Callable[[float, float | None], None]
"""Called with objective and bound."""


@dataclass(frozen=True)
class PlanSolution:
    """The outcome of a search.

    Attributes:
        status: "optimal" is proved of all plans, with teams of any size. "infeasible"
            means that pins contradict each other or the rules. "feasible" is the best
            plan when the time was up, "unknown" no plan by then.
        objective: The plan's objective, which is minimized.
        bound: No plan has a lower objective.
        teams: Shape (tasks, people).
    """

    status: Status
    objective: float | None
    bound: float | None
    teams: Booleans | None

    @property
    def gap(self) -> float | None:
        """Distance from objective to bound, relative to the objective."""
        if self.objective is None or self.bound is None:
            return None
        return max(0.0, self.objective - self.bound) / max(abs(self.objective), 1e-9)


INFEASIBLE = PlanSolution("infeasible", None, None, None)


def solve_plan(
    problem: PlanProblem,
    *,
    time_limit: float = 20.0,
    progress: Report | None = None,
    stop: threading.Event | None = None,
) -> PlanSolution:
    """Find the plan of least objective.

    Where all teams can be tried in time, the plan is proved the best of all. Otherwise
    a first plan is improved in large neighbourhoods, beside a bound of the whole
    problem.

    Args:
        problem: The tasks and people.
        time_limit: Seconds of wall time.
        progress: Called with objective and bound of a first, greedy plan, and of every
            better one.
        stop: Ends the search, with the best plan so far, once it is set.

    Returns:
        The best plan with its bound, or that there is none.
    """
    deadline = time.monotonic() + time_limit
    report = progress or (lambda objective, bound: None)
    greedy = greedy_plan(problem)
    first = None if np.any((problem.pinned > 0) & ~greedy) else greedy
    if first is not None:
        report(plan_objective(problem, first), None)
    bound = 0.0
    if (columns := enumerate_columns(problem)) is not None:
        found = _choose_best(problem, columns, first, deadline, report, stop)
        if found.status != "feasible" or found.teams is None or (stop and stop.is_set()):
            return found
        first, bound = found.teams, found.bound or 0.0
    if first is None:
        found = _satisfy_pins(problem, deadline - time.monotonic(), stop)
        if found.teams is None:
            return found
        first = found.teams
    return _improve(problem, first, bound, deadline, report, stop)


def _choose_best(
    problem: PlanProblem,
    columns: Sequence[Column],
    first: Booleans | None,
    deadline: float,
    report: Report,
    stop: threading.Event | None,
) -> PlanSolution:
    """The best of all plans, by CP-SAT over all teams."""
    search = NeighborhoodSearch(problem, np.zeros(problem.eligible.shape, bool))
    start = {} if first is None else NeighborhoodSearch(problem, first).chosen
    tasks = range(len(problem.tasks))
    with _stoppable(stop) as configure:
        code, picked, bound = choose_columns(
            problem,
            tasks,
            columns,
            problem.free_hours,
            np.zeros(len(problem.people)),
            start,
            max(0.05, PROVING * (deadline - time.monotonic())),
            configure=configure,
        )
    if code == "INFEASIBLE":
        return INFEASIBLE
    bound -= (len(problem.tasks) + 4 * len(problem.people)) / SCALE  # rounding
    bound = max(bound, _cheapest_teams(problem, columns))
    bound = max(bound + CHANGE_COST * float(problem.previous.any(axis=1).sum()), 0.0)
    best = first
    if picked is not None:
        search.chosen = picked
        if best is None or search.objective() <= plan_objective(problem, best):
            best = search.teams
    if best is None:
        return PlanSolution("unknown", None, bound, None)
    objective = plan_objective(problem, best)
    report(objective, min(bound, objective))
    if code == "OPTIMAL":
        return PlanSolution("optimal", objective, objective, best)
    return PlanSolution("feasible", objective, min(bound, objective), best)


def _cheapest_teams(problem: PlanProblem, columns: Sequence[Column]) -> float:
    """A bound: each task has its cheapest team, or none where that is cheaper."""
    costs = problem.unassigned_costs.copy()
    for each in columns:
        costs[each.task] = min(costs[each.task], each.cost)
    return float(costs.sum())


def _improve(
    problem: PlanProblem,
    first: Booleans,
    bound: float,
    deadline: float,
    report: Report,
    stop: threading.Event | None,
) -> PlanSolution:
    """Improve a plan in large neighbourhoods until the time is up."""
    bounds = [bound]
    left = deadline - time.monotonic()
    bounding = threading.Thread(
        target=lambda: bounds.append(plan_bound(problem, left)), daemon=True
    )
    bounding.start()
    search, reported = NeighborhoodSearch(problem, first), len(bounds)
    with _stoppable(stop) as configure:
        while (left := deadline - time.monotonic()) > 0 and not (stop and stop.is_set()):
            better = search.step(left, configure)
            if better or len(bounds) > reported:
                reported = len(bounds)
                report(search.objective(), max(bounds) or None)
    search.fill()
    if not (stop and stop.is_set()):
        bounding.join(2)
    objective = search.objective()
    bound = min(max(bounds), objective)
    status: Status = "optimal" if objective - bound <= PROVED else "feasible"
    return PlanSolution(status, objective, bound, search.teams)


def _satisfy_pins(
    problem: PlanProblem, time_limit: float, stop: threading.Event | None
) -> PlanSolution:
    """A plan of the smallest teams that satisfies the pins."""
    from ortools.sat.python import cp_model

    model = build_model(problem)
    solver = _configured_solver(problem, max(0.05, time_limit))
    solver.parameters.stop_after_first_solution = True
    with _stoppable(stop) as configure:
        configure(solver)
        code = solver.solve(model.model)
    if code == cp_model.INFEASIBLE:
        return INFEASIBLE
    if code not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return PlanSolution("unknown", None, None, None)
    teams = np.zeros(problem.eligible.shape, bool)
    for (t, p), variable in model.chosen.items():
        teams[t, p] = solver.value(variable)
    return PlanSolution("feasible", plan_objective(problem, teams), None, teams)


def solve_one_each(problem: PlanProblem) -> PlanSolution:
    """Solve with at most one task for each person and one person for each task.

    That is the assignment problem, solved exactly by SciPy's linear_sum_assignment with
    one more column per task for leaving it unassigned.
    """
    from scipy.optimize import linear_sum_assignment

    tasks, people = problem.eligible.shape
    covered = np.array([has.all(axis=0) for has in problem.covers]).reshape(tasks, people)
    eligible = problem.eligible & covered & (problem.team_sizes == 1)[:, None]
    hours = np.array([task.estimated_hours for task in problem.tasks])
    alone = problem.costs + balance_costs(problem, np.tile(hours[:, None], (1, people)))
    costs = np.where(eligible, alone, FORBIDDEN)
    costs = np.where((problem.pinned > 0) & eligible, alone - FORBIDDEN, costs)
    unassigned = np.where(np.eye(tasks, dtype=bool), problem.unassigned_costs[None, :], FORBIDDEN)
    rows, columns = linear_sum_assignment(np.hstack([costs, unassigned]))
    teams = np.zeros((tasks, people), bool)
    for t, column in zip(rows, columns, strict=True):
        if column < people:
            teams[t, column] = True
    if np.any((problem.pinned > 0) & ~teams) or np.any(teams & ~eligible):
        return INFEASIBLE
    objective = plan_objective(problem, teams)
    return PlanSolution("optimal", objective, objective, teams)


def contradicting_pins(problem: PlanProblem, time_limit: float = 20.0) -> list[dict[str, str]]:
    """Find pins that cannot all be satisfied.

    Pins are removed, at first many at once, while the rest is still contradicting. What
    remains is verified by solving without each.

    Args:
        problem: A problem whose pins contradict each other or the rules.
        time_limit: Seconds of wall time. When it is up, the answer may still contain
            pins that could be satisfied.

    Returns:
        `[{"task": id, "person": id}, …]`.
    """
    deadline = time.monotonic() + time_limit
    pins = [(int(t), int(p)) for t, p in zip(*np.nonzero(problem.pinned > 0), strict=True)]
    chunk = max(len(pins) // 2, 1)
    while chunk:
        at = 0
        while at < len(pins):
            rest = pins[:at] + pins[at + chunk :]
            if _can_satisfy(problem, rest, deadline):
                at += chunk
            else:
                pins = rest
        chunk //= 2
    return [{"task": problem.tasks[t].id, "person": problem.people[p].id} for t, p in pins]


def _can_satisfy(problem: PlanProblem, pins: Sequence[tuple[int, int]], deadline: float) -> bool:
    """Whether some plan satisfies these pins; true also when the time is up."""
    left = deadline - time.monotonic()
    if left <= 0:
        return True
    alone, found = problem.with_only_pins(pins), threading.Event()
    if not np.any((alone.pinned > 0) & ~greedy_plan(alone)):
        return True
    solution = solve_plan(
        alone,
        time_limit=min(left, MAX_SECONDS_PER_PIN_CHECK),
        progress=lambda objective, bound: found.set(),
        stop=found,
    )
    return solution.status != "infeasible"


def _configured_solver(problem: PlanProblem, time_limit: float) -> Any:
    from ortools.sat.python import cp_model

    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    # Otherwise CP-SAT would replace the process's handler of SIGINT.
    solver.parameters.catch_sigint_signal = False
    solver.parameters.linearization_level = 2
    solver.parameters.max_time_in_seconds = time_limit
    if problem.released.max(initial=-1) >= 0:
        # With this many overlapping intervals, presolve would look for common parts for
        # seconds and find none.
        solver.parameters.find_big_linear_overlap = False
        solver.parameters.presolve_inclusion_work_limit = 0
    return solver


@contextmanager
def _stoppable(stop: threading.Event | None) -> Iterator[Callable[[Any], None]]:
    """Gives what makes a solver stop once the event is set."""
    ended, running = threading.Event(), list[Any]()

    def watch() -> None:
        while stop is not None and not ended.is_set():
            if stop.wait(0.1) and running:
                running[-1].stop_search()
                ended.wait(0.1)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield running.append
    finally:
        ended.set()
        watcher.join()
