"""The solve: easy cases at once, the rest by an exact and a heuristic half side by side
until one proves the optimum.
"""

import math
import time

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .exact import Exact, Remaining
from .heuristic import Heuristic
from .problem import Assignment, Floats, Integers, Problem
from .special import slots, transport, unconstrained

ALONE = 0.3  # seconds that the exact half gets before the other half is worth starting
PATIENCE = 1.0  # seconds of CP-SAT before HiGHS takes over
STEP = 0.02
SLICE = 0.4  # of the time left, for an exact run that is not over all that is in question
KERNEL = 4  # pairs per task in the first restricted run
OVERRUN = (
    1.0  # seconds that HiGHS may need beyond its limit; what it has found is lost when it is killed
)
LAST = 0.35  # seconds kept back to stop both halves


def solve_assignment(
    cost: ArrayLike,
    load: ArrayLike,
    capacity: ArrayLike,
    *,
    maximise: bool = False,
    time_limit: float = 20.0,
) -> Assignment:
    """Give every task to exactly one person at the least (or greatest) total cost,
    within everyone's capacity.

    cost, load: shape (people, tasks). load[i, j] is what task j takes of person i's
    capacity, so a load above the capacity forbids the pair. capacity: shape (people,).
    Costs may be any finite numbers; loads and capacities must not be negative.
    time_limit: seconds of wall time.

    Raises ValueError for shapes that do not fit together, for NaN, infinite or negative
    numbers, and for a time limit that is not positive. A limit that is hit gives the
    best found, with its bound.
    """
    started = time.monotonic()
    if not (isinstance(time_limit, int | float) and time_limit > 0):
        raise ValueError(f"time_limit must be a positive number of seconds, but is {time_limit!r}")
    problem = Problem.checked(cost, load, capacity)
    if maximise:
        problem = Problem(-problem.cost, problem.load, problem.capacity)
    answer = _solve(problem, started + time_limit)
    if not maximise:
        return answer
    return Assignment(
        answer.status, _negated(answer.objective), _negated(answer.bound), answer.person_of_task
    )


def _negated(value: float | None) -> float | None:
    return None if value is None else 0.0 - value


def _solve(problem: Problem, deadline: float) -> Assignment:
    if problem.tasks == 0:
        return Assignment("optimal", 0.0, 0.0, np.zeros(0, np.int64))
    if problem.people == 0 or not problem.fits.any(axis=0).all():
        return Assignment("infeasible", None, None, None)
    if (person_of_task := unconstrained(problem)) is not None:
        return _optimal(problem, person_of_task)
    if (count := slots(problem)) is not None:
        person_of_task = transport(problem, count)
        return (
            Assignment("infeasible", None, None, None)
            if person_of_task is None
            else _optimal(problem, person_of_task)
        )
    return Race(problem, deadline).run()


def _optimal(problem: Problem, person_of_task: Integers) -> Assignment:
    objective = problem.objective(person_of_task)
    return Assignment("optimal", objective, objective, person_of_task)


class Race:
    """CP-SAT against a local search: each works on what the other has left in question.

    The search prices every pair; the exact run then leaves out pairs that cannot be in
    a better assignment, or, where that leaves too many, tries the cheapest ones first.
    """

    def __init__(self, problem: Problem, deadline: float) -> None:
        self.problem, self.deadline = problem, deadline
        self.grain = problem.grain
        self.upper = math.inf
        self.person_of_task: Integers | None = None
        self.lower = -math.inf
        self.infeasible = False
        self.kernel = KERNEL * problem.tasks

    def run(self) -> Assignment:
        heuristic: Heuristic | None = None
        exact = Exact(self.problem, self.problem.fits, self._left())
        if exact.ended(min(ALONE, self._left())):
            self._learn(exact, whole=True)
        else:
            heuristic = Heuristic(self.problem, self._left())
            heuristic.start()
            self._together(exact, heuristic)
            heuristic.stop(0.1)
        return self._answer()

    def _together(self, exact: Exact, heuristic: Heuristic) -> None:
        run: Exact | Remaining | None = exact
        whole, pairs, until = True, int(self.problem.fits.sum()), time.monotonic() + PATIENCE
        while not self._done() and self._left() > 0:
            if run is None:
                time.sleep(STEP)
            elif run.ended(STEP):
                self._learn(run, whole)
                if run.person_of_task is not None:
                    heuristic.offer(run.person_of_task)
                run = None
            self._listen(heuristic)
            if self._done() or self._left() < 0.1:
                break
            settled = heuristic.priced if heuristic.settled else None
            open_pairs = self.problem.fits if settled is None else self._open(settled)
            size = int(open_pairs.sum())
            if run is not None:
                if (
                    size < 0.6 * pairs
                    or time.monotonic() > until
                    or (isinstance(run, Exact) and settled is not None)
                ):
                    run.cancel()
                continue
            most = size > 0.6 * int(
                self.problem.fits.sum()
            )  # little was ruled out: better one long run over everything
            whole, pairs = most or size <= 1.5 * self.kernel, size
            if settled is not None and not whole:
                open_pairs &= settled <= np.partition(settled, self.kernel, axis=None)[self.kernel]
                pairs, self.kernel = self.kernel, 2 * self.kernel
            until = self.deadline if whole else time.monotonic() + SLICE * self._left()
            cutoff = math.inf if most else self.upper - self._step()
            run = Remaining(self.problem, open_pairs, until - time.monotonic() - OVERRUN, cutoff)
        if run is not None:
            run.cancel()
            if run.ended(LAST):
                self._learn(run, whole)
        self._listen(heuristic)

    def _left(self) -> float:
        return max(0.0, self.deadline - LAST - time.monotonic())

    def _open(self, priced: Floats) -> NDArray[np.bool_]:
        """Pairs that can still be part of an assignment better than the best known one."""
        if math.isinf(self.upper):
            return self.problem.fits
        return np.asarray(priced <= self.upper - self._step()) & self.problem.fits

    def _step(self) -> float:
        """How much better an assignment must be to count."""
        if math.isinf(self.upper):
            return 0.0
        return self.grain * 0.999 if self.grain else 1e-9 * max(1.0, abs(self.upper))

    def _learn(self, exact: Exact | Remaining, whole: bool) -> None:
        if exact.person_of_task is not None:
            self._take(exact.person_of_task)
        if whole:
            self.lower = max(self.lower, min(exact.bound, self.upper))
            self.infeasible = exact.proved and math.isinf(exact.bound) and math.isinf(self.upper)

    def _listen(self, heuristic: Heuristic) -> None:
        _, person_of_task = heuristic.best()
        if person_of_task is not None and self.problem.allows(person_of_task):
            self._take(person_of_task)
        self.lower = max(self.lower, min(heuristic.lower, self.upper))

    def _take(self, person_of_task: Integers) -> None:
        objective = self.problem.objective(person_of_task)
        if objective < self.upper:
            self.upper, self.person_of_task = objective, person_of_task

    def _bound(self) -> float:
        """The lower bound, rounded up to a possible objective."""
        if not self.grain or math.isinf(self.lower):
            return self.lower
        return min(self.upper, math.ceil(self.lower / self.grain - 1e-6) * self.grain)

    def _done(self) -> bool:
        return self.infeasible or (
            math.isfinite(self.upper)
            and self.upper - self._bound() <= 1e-9 * max(1.0, abs(self.upper))
        )

    def _answer(self) -> Assignment:
        if self.infeasible:
            return Assignment("infeasible", None, None, None)
        bound = self._bound()
        if self.person_of_task is None:
            return Assignment("unknown", None, bound if math.isfinite(bound) else None, None)
        if self._done():
            return Assignment("optimal", self.upper, self.upper, self.person_of_task)
        return Assignment(
            "feasible", self.upper, bound if math.isfinite(bound) else None, self.person_of_task
        )
