"""The search for the best plan."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from .greedy import greedy_plan
from .model import SCALE, build_model, rounding_error, solution_callback
from .problem import CHANGE_COST, Booleans, PlanProblem

MAX_SECONDS_PER_PIN_CHECK = 2.0
FORBIDDEN = 1e6
"""A cost above that of any plan."""

Report = Callable[[float, float | None], None]
"""Called with objective and bound."""


@dataclass(frozen=True)
class PlanSolution:
    """The outcome of a search.

    Attributes:
        status: "optimal" is proved. "infeasible" means that pins contradict each other
            or the rules. "feasible" is the best plan when the time was up, "unknown"
            no plan by then.
        objective: The plan's objective, which is minimized.
        bound: No plan has a lower objective.
        teams: Shape (tasks, people).
    """

    status: Literal["optimal", "feasible", "infeasible", "unknown"]
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


def plan_objective(problem: PlanProblem, teams: Booleans) -> float:
    """What a plan costs: unassigned tasks, teams, and changes to an earlier plan."""
    assigned = teams.any(axis=1)
    changes = CHANGE_COST * problem.previous.any(axis=1).sum()
    unassigned = problem.unassigned_costs[~assigned].sum()
    return float(unassigned + problem.costs[teams].sum() + changes)


def solve_plan(
    problem: PlanProblem,
    *,
    time_limit: float = 20.0,
    progress: Report | None = None,
    stop: threading.Event | None = None,
) -> PlanSolution:
    """Find the plan of least objective.

    Args:
        problem: The tasks and people.
        time_limit: Seconds of wall time.
        progress: Called with objective and bound of a first, greedy plan, and of every
            better one.
        stop: Ends the search, with the best plan so far, once it is set.

    Returns:
        The best plan with its bound, or that there is none.
    """
    from ortools.sat.python import cp_model

    started = time.monotonic()
    first = greedy_plan(problem)
    satisfies_pins = not np.any((problem.pinned > 0) & ~first)
    best: Booleans | None = first if satisfies_pins else None
    if best is not None and progress is not None:
        progress(plan_objective(problem, best), None)
    model = build_model(problem)
    model.add_hint(first)
    solver = _configured_solver(problem, max(0.05, time_limit - (time.monotonic() - started)))
    callback = solution_callback(progress or (lambda objective, bound: None))
    with _stopped_by(stop, solver):
        code = solver.solve(model.model, callback)
    if code == cp_model.INFEASIBLE:
        return INFEASIBLE
    bound: float | None = None
    if np.isfinite(solver.best_objective_bound):
        bound = max(solver.best_objective_bound / SCALE - rounding_error(problem), 0.0)
    if code in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        teams = np.zeros(problem.eligible.shape, bool)
        for (t, p), variable in model.chosen.items():
            teams[t, p] = solver.value(variable)
        if best is None or plan_objective(problem, teams) <= plan_objective(problem, best):
            best = teams
    if best is None:
        return PlanSolution("unknown", None, bound, None)
    objective = plan_objective(problem, best)
    if code == cp_model.OPTIMAL:
        return PlanSolution("optimal", objective, objective, best)
    return PlanSolution("feasible", objective, bound, best)


def solve_one_each(problem: PlanProblem) -> PlanSolution:
    """Solve with at most one task for each person and one person for each task.

    That is the assignment problem, solved exactly by SciPy's linear_sum_assignment with
    one more column per task for leaving it unassigned.
    """
    from scipy.optimize import linear_sum_assignment

    tasks, people = problem.eligible.shape
    covered = np.array([has.all(axis=0) for has in problem.covers]).reshape(tasks, people)
    eligible = problem.eligible & covered & (problem.team_sizes == 1)[:, None]
    costs = np.where(eligible, problem.costs, FORBIDDEN)
    costs = np.where((problem.pinned > 0) & eligible, problem.costs - FORBIDDEN, costs)
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
def _stopped_by(stop: threading.Event | None, solver: Any) -> Iterator[None]:
    """Stop the solver's search once the event is set."""
    ended = threading.Event()

    def watch() -> None:
        while stop is not None and not ended.is_set():
            if stop.wait(0.1):
                solver.stop_search()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
