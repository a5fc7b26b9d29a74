"""The heuristic half of a solve: a thread that raises a lower bound once, then searches
until it is stopped.
"""

import math
import threading
import time

import numpy as np
from numpy.typing import NDArray

from .lagrangian import Knapsacks, linear_multipliers, prices, worth_trying
from .problem import Floats, Integers, Problem

ELITE = 40
MOST_PEOPLE_PER_TASK = 20
MOST_KNAPSACK_WORK = 2e8
POLISH = 0.5  # seconds of search before the bound is raised again, towards what it found


class Heuristic:
    """Runs from `start()` to `stop()`. Read at any time: `lower`, `priced` (None until
    known), `upper`, `person_of_task`.

    `offer` hands it an assignment found elsewhere.
    """

    def __init__(self, problem: Problem, time_limit: float) -> None:
        self.problem = problem
        self.lower = -np.inf
        self.priced: Floats | None = None
        self.settled = False
        """Whether the bound has been raised towards a good assignment already."""
        self.error: BaseException | None = None
        self._time_limit = time_limit
        self._best = np.full(1, np.inf)
        self._person = np.zeros(problem.tasks, np.int64)
        self._offered: Integers | None = None
        self._stop = np.zeros(1, np.int64)
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="assignment-search", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout: float) -> None:
        self._stop[0] = 1
        self._thread.join(timeout)

    def best(self) -> tuple[float, Integers | None]:
        """The best assignment within capacities so far and its cost; (inf, None) while
        there is none.
        """
        with self._lock:
            return float(self._best[0]), None if np.isinf(self._best[0]) else self._person.copy()

    def offer(self, person_of_task: Integers) -> None:
        self._offered = person_of_task

    def compile(self) -> None:
        """Do everything once, in this thread."""
        self._bound()
        self._search(rounds=1)

    def _run(self) -> None:
        try:
            self._bound()
            self._search()
        except BaseException as error:
            self.error = error

    def _bound(self) -> None:

        problem, knapsacks = self.problem, Knapsacks.of(self.problem)
        linear = linear_multipliers(problem, 0.3 * self._time_limit)
        if linear is None:
            value, multipliers = -np.inf, np.where(problem.fits, problem.cost, np.inf).min(axis=0)
            self._price = np.full(
                problem.people, float(np.ptp(problem.cost)) / max(float(problem.load.mean()), 1e-9)
            )
        else:
            value, multipliers, price = linear
            self._price = 1.2 * np.maximum(price, 1e-3 * max(float(price.max()), 1e-6))
        self.lower = value
        self._multipliers, self._knapsacks = multipliers, knapsacks
        target = max(value, float(multipliers.sum()))
        target += max(0.005 * abs(target), 0.05 * float(np.ptp(problem.cost)))
        self._able = np.where(
            problem.fits, problem.cost + self._price[:, None] * problem.load, np.inf
        )
        if knapsacks.capacity.max() * problem.people * problem.tasks < MOST_KNAPSACK_WORK:
            self._ascend(target)

    def _ascend(self, target: float) -> None:
        """Raise the bound and reprice every pair; `target` is a guess of the optimum
        from above.
        """
        from . import search

        problem, knapsacks = self.problem, self._knapsacks
        load = np.where(problem.fits, knapsacks.load, knapsacks.capacity[:, None] + 1)
        bound, multipliers = search.ascend(
            problem.cost, load, knapsacks.capacity, self._multipliers, target, 1500, self._stop
        )
        if self.priced is None or bound > self.lower:
            self._multipliers = multipliers
            self.lower = max(self.lower, float(bound))
            _, self.priced = prices(problem, knapsacks, multipliers)
            self._able = self.priced

    def _search(self, rounds: float = math.inf) -> None:
        from . import search

        problem, random = self.problem, np.random.default_rng(0)
        best_person = self._person.copy()
        best = self._best.copy()
        elite, seed, raised, began = None, 0, False, time.monotonic()
        upper_used = np.nan
        while self._stop[0] == 0 and seed < rounds:
            if self._offered is not None:
                offered, self._offered = self._offered, None
                if (its := problem.objective(offered)) < best[0]:
                    best[0], best_person[:] = its, offered
                    if elite is not None:
                        elite[-1] = offered
            if elite is None or best[0] != upper_used:
                allowed, able, ables = self._candidates(float(best[0]))
                upper_used = best[0]
            if elite is None or _converged(elite):
                picks = (random.random((ELITE, problem.tasks)) * ables).astype(np.int64)
                elite = able[np.arange(problem.tasks), picks]
                elite[0] = self._able.argmin(axis=0) if seed == 0 else best_person
                price = self._price.copy()
            search.relink(
                problem.cost, problem.load, problem.room, elite, price, able, ables, allowed, best, best_person, seed,
                2, self._stop,
            )  # fmt: skip
            seed += 1
            if (
                not raised
                and np.isfinite(best[0])
                and time.monotonic() - began > POLISH
                and self.priced is not None
            ):
                raised = True
                self._ascend(float(best[0]))
                self.settled = True
            if best[0] < self._best[0]:
                with self._lock:
                    self._best[0], self._person[:] = best[0], best_person

    def _candidates(self, upper: float) -> tuple[NDArray[np.bool_], Integers, Integers]:
        """Pairs worth trying: those that can still beat `upper`, at most
        MOST_PEOPLE_PER_TASK per task.
        """
        rank = self._able.argsort(axis=0).argsort(axis=0)
        allowed = worth_trying(self._able, upper if self.priced is not None else np.inf) & (
            rank < MOST_PEOPLE_PER_TASK
        )
        ables = allowed.sum(axis=0).astype(np.int64)
        able = np.argsort(~allowed.T, axis=1, kind="stable").astype(np.int64)
        return np.ascontiguousarray(allowed), np.ascontiguousarray(able), ables


def _converged(elite: Integers) -> bool:
    return bool((elite != elite[0]).sum(axis=1).mean() < 4)
