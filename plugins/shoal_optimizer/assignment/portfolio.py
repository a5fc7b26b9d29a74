"""Exact solvers and a local search side by side, until one proves the optimum."""

import math
import time
from dataclasses import dataclass

import numpy as np

from .cp_sat import CpSatRun
from .heuristic import Heuristic
from .highs_run import HighsRun
from .problem import Assignment, Booleans, Floats, Integers, Problem

ALONE = 0.3
"""Seconds that CP-SAT has before the local search is worth starting."""
PATIENCE = 1.0
"""Seconds of CP-SAT before HiGHS replaces it."""
POLL_SECONDS = 0.02
SLICE = 0.4
"""Share of the time left for an exact run over some of the open pairs."""
RESTRICTED_PAIRS = 4
"""Pairs per task in the first of those runs."""
MUCH_LESS = 0.6
"""Share of pairs below which a new run is worth it."""
OVERRUN = 1.0
"""Seconds that HiGHS may need beyond its limit; killed, it loses what it has found."""
STOP_SECONDS = 0.35
"""Seconds reserved for stopping everything."""


@dataclass(frozen=True)
class ExactRun:
    """A run of an exact solver.

    Attributes:
        run: The run.
        complete: Whether its bound holds for the problem: it has all open pairs.
        pairs: How many pairs it has.
        until: When it is replaced, by the monotonic clock.
    """

    run: CpSatRun | HighsRun
    complete: bool
    pairs: int
    until: float


class Portfolio:
    """CP-SAT and HiGHS beside a local search; each uses what the others have found.

    The search prices every pair. The next exact run then excludes pairs that cannot be
    in a better assignment or, where that leaves too many, has only the cheapest ones.

    Args:
        problem: The problem.
        deadline: When to return, by the monotonic clock.
    """

    def __init__(self, problem: Problem, deadline: float) -> None:
        self.problem, self.deadline = problem, deadline
        self.step = problem.objective_step
        self.all_pairs = int(problem.fits.sum())
        self.upper = math.inf
        self.person_of_task: Integers | None = None
        self.lower = -math.inf
        self.infeasible = False
        self.restriction = RESTRICTED_PAIRS * problem.tasks

    def run(self) -> Assignment:
        """Solve until the optimum is proved or the time is up."""
        cp_sat = CpSatRun(self.problem, self.problem.fits, self._time_left())
        if cp_sat.has_ended(min(ALONE, self._time_left())):
            self._read_exact(cp_sat, complete=True)
        else:
            heuristic = Heuristic(self.problem, self._time_left())
            heuristic.start()
            self._run_together(cp_sat, heuristic)
            heuristic.stop(0.1)
        return self._answer()

    def _run_together(self, cp_sat: CpSatRun, heuristic: Heuristic) -> None:
        exact: ExactRun | None = ExactRun(cp_sat, True, self.all_pairs, time.monotonic() + PATIENCE)
        while not self._is_proved() and self._time_left() > 0:
            if exact is None:
                time.sleep(POLL_SECONDS)
            elif exact.run.has_ended(POLL_SECONDS):
                self._read_exact(exact.run, exact.complete)
                if exact.run.person_of_task is not None:
                    heuristic.offer(exact.run.person_of_task)
                exact = None
            self._read_heuristic(heuristic)
            if self._is_proved() or self._time_left() < 0.1:
                break
            priced = heuristic.priced if heuristic.settled else None
            open_pairs = self._open_pairs(priced)
            if exact is None:
                exact = self._start_highs(open_pairs, priced)
            elif self._is_outdated(exact, int(open_pairs.sum()), priced):
                exact.run.cancel()
        if exact is not None:
            exact.run.cancel()
            if exact.run.has_ended(STOP_SECONDS):
                self._read_exact(exact.run, exact.complete)
        self._read_heuristic(heuristic)

    def _is_outdated(self, exact: ExactRun, open_pairs: int, priced: Floats | None) -> bool:
        """Whether a new exact run would be better than this one."""
        return (
            open_pairs < MUCH_LESS * exact.pairs
            or time.monotonic() > exact.until
            or (isinstance(exact.run, CpSatRun) and priced is not None)
        )

    def _start_highs(self, open_pairs: Booleans, priced: Floats | None) -> ExactRun:
        """Start HiGHS on all open pairs, or on the cheapest where they are too many."""
        pairs = int(open_pairs.sum())
        # Where little was excluded, one long run over everything is better.
        everything = pairs > MUCH_LESS * self.all_pairs
        complete = everything or pairs <= 1.5 * self.restriction
        if priced is not None and not complete:
            limit = np.partition(priced, self.restriction, axis=None)[self.restriction]
            open_pairs = open_pairs & (priced <= limit)
            pairs, self.restriction = self.restriction, 2 * self.restriction
        until = self.deadline if complete else time.monotonic() + SLICE * self._time_left()
        cutoff = math.inf if everything else self.upper - self._improvement()
        seconds = until - time.monotonic() - OVERRUN
        return ExactRun(HighsRun(self.problem, open_pairs, seconds, cutoff), complete, pairs, until)

    def _open_pairs(self, priced: Floats | None) -> Booleans:
        """Pairs that can still be part of a better assignment than the best one."""
        if priced is None or math.isinf(self.upper):
            return self.problem.fits
        return np.asarray(priced <= self.upper - self._improvement()) & self.problem.fits

    def _time_left(self) -> float:
        return max(0.0, self.deadline - STOP_SECONDS - time.monotonic())

    def _improvement(self) -> float:
        """How much better an assignment must be to count."""
        if math.isinf(self.upper):
            return 0.0
        return self.step * 0.999 if self.step else 1e-9 * max(1.0, abs(self.upper))

    def _read_exact(self, run: CpSatRun | HighsRun, complete: bool) -> None:
        if run.person_of_task is not None:
            self._update(run.person_of_task)
        if complete:
            self.lower = max(self.lower, min(run.bound, self.upper))
            self.infeasible = run.proved and math.isinf(run.bound) and math.isinf(self.upper)

    def _read_heuristic(self, heuristic: Heuristic) -> None:
        person_of_task = heuristic.best()
        if person_of_task is not None and self.problem.is_within_capacity(person_of_task):
            self._update(person_of_task)
        self.lower = max(self.lower, min(heuristic.lower, self.upper))

    def _update(self, person_of_task: Integers) -> None:
        objective = self.problem.objective(person_of_task)
        if objective < self.upper:
            self.upper, self.person_of_task = objective, person_of_task

    def _bound(self) -> float:
        """The lower bound, rounded up to a possible objective."""
        if not self.step or math.isinf(self.lower):
            return self.lower
        return min(self.upper, math.ceil(self.lower / self.step - 1e-6) * self.step)

    def _is_proved(self) -> bool:
        if self.infeasible:
            return True
        gap = self.upper - self._bound()
        return math.isfinite(self.upper) and gap <= 1e-9 * max(1.0, abs(self.upper))

    def _answer(self) -> Assignment:
        if self.infeasible:
            return Assignment("infeasible", None, None, None)
        bound = self._bound() if math.isfinite(self._bound()) else None
        if self.person_of_task is None:
            return Assignment("unknown", None, bound, None)
        if self._is_proved():
            return Assignment("optimal", self.upper, self.upper, self.person_of_task)
        return Assignment("feasible", self.upper, bound, self.person_of_task)
