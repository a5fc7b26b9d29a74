"""A thread that raises a lower bound once, then searches until it is stopped."""

import math
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .lagrangian import Knapsacks, linear_multipliers, price_pairs, worth_trying
from .problem import Booleans, Floats, Integers, Problem

if TYPE_CHECKING:  # Numba's import takes a second, and easy problems do not need it.
    from .local_search import Best, Instance

ELITE = 40
"""Assignments in the elite set."""
PATHS = 2
"""Paths in one call of the compiled search."""
ASCENT_ROUNDS = 1500
MAX_PEOPLE_PER_TASK = 20
MAX_KNAPSACK_WORK = 2e8
"""Above this product of capacity, people and tasks the ascent is skipped."""
POLISH = 0.5
"""Seconds of search before the bound is raised again, towards what was found."""


@dataclass
class Multipliers:
    """Where the Lagrangian bound stands.

    Attributes:
        values: λ, shape (tasks,).
        knapsacks: Integer loads and capacities.
        price: What overload costs at first, shape (people,).
        priced: What each pair is ranked by, shape (people, tasks).
    """

    values: Floats
    knapsacks: Knapsacks
    price: Floats
    priced: Floats


class Heuristic:
    """A lower bound and a local search, from `start()` to `stop()`.

    Args:
        problem: The problem.
        time_limit: Seconds that the solve has in all.

    Attributes:
        lower: The lower bound.
        priced: For each pair the bound that holds with it, shape (people, tasks); None
            until it is known.
        settled: Whether the bound has been raised towards a good assignment.
        error: What ended the thread, if anything did.
    """

    def __init__(self, problem: Problem, time_limit: float) -> None:
        self.problem = problem
        self.lower = -np.inf
        self.priced: Floats | None = None
        self.settled = False
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
        """Ask the search to end, and wait at most `timeout` seconds for it."""
        self._stop[0] = 1
        self._thread.join(timeout)

    def best(self) -> Integers | None:
        """The best assignment within capacities so far."""
        with self._lock:
            return None if np.isinf(self._best[0]) else self._person.copy()

    def offer(self, person_of_task: Integers) -> None:
        """Continue from an assignment that was found elsewhere."""
        self._offered = person_of_task

    def compile(self) -> None:
        """Run everything once in this thread, so that it is compiled."""
        self._search(self._raise_bound(), rounds=1)

    def _run(self) -> None:
        try:
            self._search(self._raise_bound())
        except BaseException as error:
            self.error = error

    def _raise_bound(self) -> Multipliers:
        problem, knapsacks = self.problem, Knapsacks.from_problem(self.problem)
        spread = float(np.ptp(problem.cost))
        linear = linear_multipliers(problem, 0.3 * self._time_limit)
        if linear is None:
            self.lower, values = -np.inf, np.where(problem.fits, problem.cost, np.inf).min(axis=0)
            price = np.full(problem.people, spread / max(float(problem.load.mean()), 1e-9))
        else:
            self.lower, values, price = linear
            price = 1.2 * np.maximum(price, 1e-3 * max(float(price.max()), 1e-6))
        priced = np.where(problem.fits, problem.cost + price[:, None] * problem.load, np.inf)
        multipliers = Multipliers(values, knapsacks, price, priced)
        if knapsacks.capacity.max() * problem.people * problem.tasks < MAX_KNAPSACK_WORK:
            target = max(self.lower, float(values.sum()))
            target += max(0.005 * abs(target), 0.05 * spread)
            self._ascend(multipliers, target)
        return multipliers

    def _ascend(self, multipliers: Multipliers, target: float) -> None:
        """Raise the bound towards a guess of the optimum, and reprice every pair."""
        from .ascent import ascend

        problem, knapsacks = self.problem, multipliers.knapsacks
        load = np.where(problem.fits, knapsacks.load, knapsacks.capacity[:, None] + 1)
        bound, values = ascend(
            problem.cost,
            load,
            knapsacks.capacity,
            multipliers.values,
            target,
            ASCENT_ROUNDS,
            self._stop,
        )
        if self.priced is None or bound > self.lower:
            self.lower = max(self.lower, float(bound))
            _, self.priced = price_pairs(problem, knapsacks, values)
            multipliers.values, multipliers.priced = values, self.priced

    def _search(self, multipliers: Multipliers, rounds: float = math.inf) -> None:
        from .local_search import Best, relink

        problem, random = self.problem, np.random.default_rng(0)
        best = Best(self._best.copy(), self._person.copy())
        elite: Integers | None = None
        seed, began, upper = 0, time.monotonic(), np.nan
        while self._stop[0] == 0 and seed < rounds:
            self._take_offer(best, elite)
            if elite is None or best.cost[0] != upper:
                upper = best.cost[0]
                instance = self._instance(multipliers.priced, float(upper))
            if elite is None or _has_converged(elite):
                picks = (random.random((ELITE, problem.tasks)) * instance.ables).astype(np.int64)
                elite = instance.able[np.arange(problem.tasks), picks]
                elite[0] = multipliers.priced.argmin(axis=0) if seed == 0 else best.person
                price = multipliers.price.copy()
            relink(instance, elite, price, best, seed, PATHS, self._stop)
            seed += 1
            found = np.isfinite(best.cost[0]) and self.priced is not None
            if not self.settled and found and time.monotonic() - began > POLISH:
                self._ascend(multipliers, float(best.cost[0]))
                self.settled = True
            if best.cost[0] < self._best[0]:
                with self._lock:
                    self._best[0], self._person[:] = best.cost[0], best.person

    def _take_offer(self, best: "Best", elite: Integers | None) -> None:
        if self._offered is None:
            return
        offered, self._offered = self._offered, None
        if (cost := self.problem.objective(offered)) < best.cost[0]:
            best.cost[0], best.person[:] = cost, offered
            if elite is not None:
                elite[-1] = offered

    def _instance(self, priced: Floats, upper: float) -> "Instance":
        """The problem with the pairs that are worth trying.

        Those can still beat `upper`, and are at most MAX_PEOPLE_PER_TASK per task.
        """
        from .local_search import Instance

        problem = self.problem
        rank = priced.argsort(axis=0).argsort(axis=0)
        limit = upper if self.priced is not None else np.inf
        allowed: Booleans = worth_trying(priced, limit) & (rank < MAX_PEOPLE_PER_TASK)
        able = np.argsort(~allowed.T, axis=1, kind="stable").astype(np.int64)
        return Instance(
            problem.cost,
            problem.load,
            problem.room,
            np.ascontiguousarray(able),
            allowed.sum(axis=0).astype(np.int64),
            np.ascontiguousarray(allowed),
        )


def _has_converged(elite: Integers) -> bool:
    return bool((elite != elite[0]).sum(axis=1).mean() < 4)
