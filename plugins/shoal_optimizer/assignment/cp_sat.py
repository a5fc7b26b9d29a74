"""CP-SAT on some of the pairs of an assignment problem."""

import logging
import math
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

from .problem import Booleans, Floats, Integers, Problem, step_of

SIGNIFICANT = 1e9
"""Numbers that are not multiples of a step are scaled to integers up to this."""


class CpSatRun:
    """A CP-SAT run over the allowed pairs, started at once.

    CP-SAT computes with integers: costs and loads with up to four decimals are exact,
    others have about nine significant digits, and an assignment found that way is
    checked against the real numbers.

    Args:
        problem: The problem.
        allowed: The pairs to use, shape (people, tasks).
        time_limit: Seconds.

    Attributes:
        person_of_task: The best assignment once the run has ended, None without one.
        bound: The bound over the allowed pairs; +inf when they have no assignment.
        proved: Whether the run came to its end.
    """

    def __init__(self, problem: Problem, allowed: Booleans, time_limit: float) -> None:
        self.problem, self.allowed, self.time_limit = problem, allowed, time_limit
        self.person_of_task: Integers | None = None
        self.bound = -math.inf
        self.proved = False
        self._cancelled = threading.Event()
        self._solver: Any = None
        self._thread = threading.Thread(target=self._run, name="assignment-cp-sat", daemon=True)
        self._thread.start()

    def has_ended(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds; whether the run has ended."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def cancel(self) -> None:
        """Ask the run to end; it does so within some milliseconds."""
        self._cancelled.set()
        if self._solver is not None:
            self._solver.stop_search()

    def _run(self) -> None:
        try:
            self._solve()
        except Exception:
            logging.getLogger("shoal.optimizer").exception("CP-SAT failed on an assignment")

    def _solve(self) -> None:
        from ortools.sat.python import cp_model

        model, pairs, scale = self._build_model()
        solver = cp_model.CpSolver()
        solver.parameters.num_workers = 1
        solver.parameters.linearization_level = 2
        solver.parameters.max_time_in_seconds = self.time_limit
        self._solver = solver
        if self._cancelled.is_set():
            return
        status = solver.solve(model)
        if status == cp_model.INFEASIBLE:
            self.proved, self.bound = True, math.inf
            return
        problem = self.problem
        exact = scale * problem.objective_step >= 1
        self.bound = solver.best_objective_bound / scale - (0 if exact else problem.tasks / scale)
        if status in (cp_model.OPTIMAL, cp_model.FEASIBLE):
            person_of_task = np.empty(problem.tasks, np.int64)
            for (i, j), variable in pairs.items():
                if solver.value(variable):
                    person_of_task[j] = i
            if problem.is_within_capacity(person_of_task):
                self.person_of_task = person_of_task
                self.proved = status == cp_model.OPTIMAL
            elif status == cp_model.OPTIMAL:
                self.bound = -math.inf

    def _build_model(self) -> tuple[Any, Mapping[tuple[int, int], Any], float]:
        """The model, the variable of each pair, and what costs are multiplied by."""
        from ortools.sat.python import cp_model

        cost, scale = _scale_costs(self.problem.cost)
        load, capacity = _scale_loads(self.problem)
        model = cp_model.CpModel()
        pairs = {
            (int(i), int(j)): model.new_bool_var("")
            for i, j in zip(*np.nonzero(self.allowed), strict=True)
        }
        of_task: list[list[Any]] = [[] for _ in range(self.problem.tasks)]
        of_person: list[list[tuple[int, Any]]] = [[] for _ in range(self.problem.people)]
        for (i, j), variable in pairs.items():
            of_task[j].append(variable)
            of_person[i].append((j, variable))
        for variables in of_task:
            model.add_exactly_one(variables)
        for i, entries in enumerate(of_person):
            weights = [int(load[i, j]) for j, _ in entries]
            if sum(weights) > capacity[i]:
                variables = [variable for _, variable in entries]
                total = cp_model.LinearExpr.weighted_sum(variables, weights)
                model.add(total <= int(capacity[i]))
        costs = [int(cost[pair]) for pair in pairs]
        model.minimize(cp_model.LinearExpr.weighted_sum(list(pairs.values()), costs))
        return model, pairs, scale


def _scale_costs(values: Floats) -> tuple[Integers, float]:
    """Costs as integers, and what they were multiplied by."""
    step = step_of(values)
    scale = 1 / step if step else SIGNIFICANT / max(float(np.abs(values).max(initial=0)), 1e-300)
    return np.rint(values * scale).astype(np.int64), scale


def _scale_loads(problem: Problem) -> tuple[Integers, Integers]:
    """Loads and capacities as integers."""
    step = step_of(np.append(problem.load.ravel(), problem.capacity))
    largest = float(problem.capacity.max(initial=0))
    scale = 1 / step if step else SIGNIFICANT / max(largest, 1e-300)
    load = np.rint(np.minimum(problem.load, largest + 1) * scale).astype(np.int64)
    return load, np.floor(problem.capacity * scale + (1e-6 if step else 0.5)).astype(np.int64)
