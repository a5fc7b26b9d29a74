"""HiGHS on some of the pairs of an assignment problem."""

import math
import time

import numpy as np

from .highs_process import HighsProcess
from .problem import Booleans, Integers, Problem


class HighsRun:
    """A HiGHS run over the allowed pairs, started at once.

    On large problems its cuts are stronger than CP-SAT's, but it starts slower. The
    attributes are those of `CpSatRun`.

    Args:
        problem: The problem.
        allowed: The pairs to use, shape (people, tasks).
        time_limit: Seconds.
        cutoff: The highest cost of interest.
    """

    def __init__(
        self, problem: Problem, allowed: Booleans, time_limit: float, cutoff: float
    ) -> None:
        self.problem = problem
        self.person_of_task: Integers | None = None
        self.bound = -math.inf
        self.proved = False
        self._person, self._task = np.nonzero(allowed)
        self._process = HighsProcess(
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

    def has_ended(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds; whether the run has ended."""
        if not self._process.has_ended(timeout):
            return False
        if (answer := self._process.answer) is not None:
            self.bound, self.proved = float(answer["bound"]), bool(answer["ended"])
            if answer["chosen"].size:
                chosen = np.zeros((self.problem.people, self.problem.tasks))
                chosen[self._person, self._task] = answer["chosen"]
                person_of_task = chosen.argmax(axis=0)
                if self.problem.is_within_capacity(person_of_task):
                    self.person_of_task = person_of_task
                else:
                    self.proved, self.bound = False, -math.inf
        return True

    def cancel(self) -> None:
        """Kill the process; what it has found is lost."""
        self._process.kill()
