"""The exact half of a solve, on the pairs still in question: CP-SAT at first, HiGHS on
what is left. Both can be called off.
"""

import logging
import math
import threading
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .highs_process import Process
from .problem import Floats, Integers, Problem, grain


class Exact:
    """One CP-SAT run over the allowed (person, task) pairs, started at once; only
    totals up to `cutoff` are looked for.

    After it has ended: `person_of_task` is the best found (None when nothing was),
    `bound` the bound over those pairs (+inf: they hold no assignment within the
    cutoff), `proved` whether the run came to its end.

    CP-SAT computes with integers: costs and loads with up to four decimals are taken
    exactly, others to about nine significant digits, and an assignment found that way
    is checked against the real numbers.
    """

    def __init__(
        self,
        problem: Problem,
        allowed: NDArray[np.bool_],
        time_limit: float,
        cutoff: float = math.inf,
        start: Integers | None = None,
    ) -> None:
        self.problem, self.allowed, self.time_limit, self.cutoff, self.start = (
            problem,
            allowed,
            time_limit,
            cutoff,
            start,
        )
        self.person_of_task: Integers | None = None
        self.bound = -math.inf
        self.proved = False
        self._cancelled = threading.Event()
        self._solver: Any = None
        self._thread = threading.Thread(target=self._run, name="assignment-exact", daemon=True)
        self._thread.start()

    def ended(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds; whether the run has ended."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def cancel(self) -> None:
        """Ask the run to end; it does within some milliseconds."""
        self._cancelled.set()
        if self._solver is not None:
            self._solver.stop_search()

    def _run(self) -> None:
        try:
            self._solve()
        except Exception:
            logging.getLogger("shoal.optimizer").exception("the exact half of an assignment failed")

    def _solve(self) -> None:
        from ortools.sat.python import cp_model

        problem = self.problem
        cost, scale = _whole(problem.cost)
        load, capacity = _whole_loads(problem)
        model = cp_model.CpModel()
        pairs = {
            (int(i), int(j)): model.new_bool_var("")
            for i, j in zip(*np.nonzero(self.allowed), strict=True)
        }
        of_task: list[list[tuple[int, Any]]] = [[] for _ in range(problem.tasks)]
        of_person: list[list[tuple[int, Any]]] = [[] for _ in range(problem.people)]
        for (i, j), variable in pairs.items():
            of_task[j].append((i, variable))
            of_person[i].append((j, variable))
        for entries in of_task:
            model.add_exactly_one([variable for _, variable in entries])
        for i, entries in enumerate(of_person):
            weights = [int(load[i, j]) for j, _ in entries]
            if sum(weights) > capacity[i]:
                total = cp_model.LinearExpr.weighted_sum(
                    [variable for _, variable in entries], weights
                )
                model.add(total <= int(capacity[i]))
        objective = cp_model.LinearExpr.weighted_sum(
            list(pairs.values()), [int(cost[pair]) for pair in pairs]
        )
        if math.isfinite(self.cutoff):
            model.add(objective <= math.floor(self.cutoff * scale + 1e-6))
        model.minimize(objective)
        if self.start is not None:
            for (i, j), variable in pairs.items():
                model.add_hint(variable, bool(self.start[j] == i))
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
        self.bound = solver.best_objective_bound / scale - (
            0 if scale * problem.grain >= 1 else problem.tasks / scale
        )
        if status in (cp_model.OPTIMAL, cp_model.FEASIBLE):
            person_of_task = np.empty(problem.tasks, np.int64)
            for (i, j), variable in pairs.items():
                if solver.value(variable):
                    person_of_task[j] = i
            if problem.allows(person_of_task):
                self.person_of_task = person_of_task
                self.proved = status == cp_model.OPTIMAL
            elif status == cp_model.OPTIMAL:
                self.bound = -math.inf


def _whole(values: Floats) -> tuple[Integers, float]:
    """Values times a scale, as integers: exact where they have a grain."""
    step = grain(values)
    scale = 1 / step if step else 1e9 / max(float(np.abs(values).max(initial=0)), 1e-300)
    return np.rint(values * scale).astype(np.int64), scale


def _whole_loads(problem: Problem) -> tuple[Integers, Integers]:
    step = grain(np.append(problem.load.ravel(), problem.capacity))
    scale = 1 / step if step else 1e9 / max(float(problem.capacity.max(initial=0)), 1e-300)
    largest = problem.capacity.max(initial=0)
    load = np.rint(np.minimum(problem.load, largest + 1) * scale).astype(np.int64)
    return load, np.floor(problem.capacity * scale + (1e-6 if step else 0.5)).astype(np.int64)


class Remaining:
    """Like `Exact`, by HiGHS: its cuts are the stronger ones on large instances, its
    start the slower one.
    """

    def __init__(
        self, problem: Problem, allowed: NDArray[np.bool_], time_limit: float, cutoff: float
    ) -> None:
        self.problem = problem
        self.person_of_task: Integers | None = None
        self.bound = -math.inf
        self.proved = False
        self._person, self._task = np.nonzero(allowed)
        self._process = Process(
            {
                "person": self._person,
                "task": self._task,
                "cost": problem.cost[allowed],
                "load": problem.load[allowed],
                "capacity": problem.capacity,
                "cutoff": np.array(cutoff),
                "until": np.array(time.time() + time_limit),
            }
        )

    def ended(self, timeout: float) -> bool:
        if not self._process.ended(timeout):
            return False
        if (answer := self._process.answer) is not None:
            self.bound, self.proved = float(answer["bound"]), bool(answer["ended"])
            if answer["chosen"].size:
                chosen = np.zeros((self.problem.people, self.problem.tasks))
                chosen[self._person, self._task] = answer["chosen"]
                person_of_task = chosen.argmax(axis=0)
                if self.problem.allows(person_of_task):
                    self.person_of_task = person_of_task
                else:
                    self.proved, self.bound = False, -math.inf
        return True

    def cancel(self) -> None:
        self._process.kill()
