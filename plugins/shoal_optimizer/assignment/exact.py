"""The exact half of a solve: HiGHS on the pairs still in question, in a thread, stopped when somebody else is done."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .problem import Floats, Integers, Problem


@dataclass
class Exact:
    """One HiGHS run over the allowed (person, task) pairs, started at once.

    After it ends: `person_of_task` is the best it found (None when nothing), `bound` its bound over those pairs, and
    `proved` whether it closed the gap or showed that the allowed pairs hold no assignment (then `bound` is +inf).
    """

    problem: Problem
    allowed: NDArray[np.bool_]
    time_limit: float
    start: Integers | None = None
    person_of_task: Integers | None = field(default=None, init=False)
    bound: float = field(default=-np.inf, init=False)
    proved: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        import highspy

        self._person, self._task = np.nonzero(self.allowed)
        self._solver = solver = highspy.Highs()
        solver.setOptionValue("output_flag", False)
        solver.setOptionValue("threads", 1)
        solver.setOptionValue("time_limit", float(self.time_limit))
        solver.setOptionValue("mip_rel_gap", 0.0)
        solver.setOptionValue("mip_abs_gap", 1e-7)
        solver.setOptionValue("mip_feasibility_tolerance", 1e-9)
        solver.passModel(self._model(highspy))
        if self.start is not None:
            solution = highspy.HighsSolution()
            solution.col_value = (self.start[self._task] == self._person).astype(float).tolist()
            solver.setSolution(solution)
        solver.HandleUserInterrupt = True
        solver.startSolve()

    def _model(self, highspy: Any) -> Any:
        problem, size = self.problem, self._person.size
        model = highspy.HighsLp()
        model.num_col_, model.num_row_ = size, problem.tasks + problem.people
        model.col_cost_ = problem.cost[self._person, self._task]
        model.col_lower_, model.col_upper_ = np.zeros(size), np.ones(size)
        model.integrality_ = [highspy.HighsVarType.kInteger] * size
        model.row_lower_ = np.concatenate([np.ones(problem.tasks), np.full(problem.people, -highspy.kHighsInf)])
        model.row_upper_ = np.concatenate([np.ones(problem.tasks), problem.capacity])
        model.a_matrix_.format_ = highspy.MatrixFormat.kColwise
        model.a_matrix_.start_ = np.arange(0, 2 * size + 1, 2, dtype=np.int32)
        model.a_matrix_.index_ = np.column_stack([self._task, problem.tasks + self._person]).ravel().astype(np.int32)
        loads: Floats = problem.load[self._person, self._task]
        model.a_matrix_.value_ = np.column_stack([np.ones(size), loads]).ravel()
        return model

    def ended(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds; whether the run has ended (its results are then in the attributes)."""
        ended, _ = self._solver.wait(timeout)
        if ended:
            self._collect()
        return bool(ended)

    def cancel(self) -> None:
        self._solver.cancelSolve()

    def _collect(self) -> None:
        import highspy

        status = self._solver.getModelStatus()
        info = self._solver.getInfo()
        infeasible = status in (highspy.HighsModelStatus.kInfeasible, highspy.HighsModelStatus.kUnboundedOrInfeasible)
        if infeasible:
            self.proved, self.bound = True, np.inf
            return
        if np.isfinite(info.mip_dual_bound):
            self.bound = float(info.mip_dual_bound)
        if info.primal_solution_status == int(highspy.SolutionStatus.kSolutionStatusFeasible):
            chosen = np.zeros((self.problem.people, self.problem.tasks))
            chosen[self._person, self._task] = np.asarray(self._solver.getSolution().col_value)
            person_of_task = chosen.argmax(axis=0)
            if self.problem.allows(person_of_task):
                self.person_of_task = person_of_task
                self.proved = status == highspy.HighsModelStatus.kOptimal
