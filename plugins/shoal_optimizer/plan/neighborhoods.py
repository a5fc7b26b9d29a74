"""Large neighbourhoods: some tasks and their people are planned again, the rest stays.

Source: Shaw, "Using constraint programming and local search methods to solve vehicle
routing problems", 1998.
"""

from collections.abc import Callable

import numpy as np

from .balance import balance_cost, hours_of
from .columns import Column, column, grow_team, may_join
from .packing import choose_columns
from .problem import CHANGE_COST, Booleans, Floats, PlanProblem

FREED = 36
"""Tasks that are planned again together."""
POOL = 60
"""Columns that are kept of a task, the cheapest at the prices of the time."""
TRIES = 3
"""Teams of each size that are built for a task in each neighbourhood."""
WORK = 0.3
"""CP-SAT's measure of the work on a neighbourhood; about as many seconds."""
BALANCED = 0.2
"""Share of the neighbourhoods in which the spread of work counts."""
LEARNING = 0.3
"""Share by which a price follows what is seen."""


class NeighborhoodSearch:
    """Improves a plan by planning some of its tasks again at a time.

    Args:
        problem: The tasks and people.
        teams: The plan to begin with, shape (tasks, people).
        seed: Of the random choices.
    """

    def __init__(self, problem: PlanProblem, teams: Booleans, seed: int = 0) -> None:
        self.problem = problem
        self.random = np.random.default_rng(seed)
        self.chosen: dict[int, Column] = {
            int(t): column(problem, int(t), np.flatnonzero(teams[t]).tolist())
            for t in np.flatnonzero(teams.any(axis=1))
        }
        self.pool: list[dict[tuple[int, ...], Column]] = [{} for _ in problem.tasks]
        for t, each in self.chosen.items():
            self.pool[t][each.team] = each
        self.able = np.array([self._able(t) for t in range(len(problem.tasks))])
        self.prices = np.zeros(len(problem.people))

    @property
    def teams(self) -> Booleans:
        """The plan, shape (tasks, people)."""
        teams = np.zeros(self.problem.eligible.shape, bool)
        for t, each in self.chosen.items():
            teams[t, list(each.team)] = True
        return teams

    def objective(self) -> float:
        """What the plan costs."""
        return plan_objective(self.problem, self.teams)

    def step(
        self, seconds: float = 5.0, configure: Callable[[object], None] = lambda solver: None
    ) -> bool:
        """Plan one neighbourhood again; whether that is better."""
        tasks = self._pick_tasks()
        if not tasks:
            return False
        left, hours = self._rest(set(tasks))
        columns = [each for t in tasks for each in self._columns(t, left)]
        old = {t: self.chosen[t] for t in tasks if t in self.chosen}
        # The spread of work makes a model much harder, so it is not always in it.
        spread = hours if self.random.random() < BALANCED else None
        before = self.objective()
        _, picked, _ = choose_columns(
            self.problem, tasks, columns, left, spread, old, seconds, WORK, configure
        )
        if picked is None:
            return False
        kept = dict(self.chosen)
        self.chosen = {t: each for t, each in kept.items() if t not in set(tasks)} | picked
        if self.objective() > before - 1e-9:
            self.chosen = kept
            self._learn()
            return False
        self._learn()
        return True

    def fill(self) -> None:
        """Add every task that still fits, the most important first."""
        costs = self.problem.unassigned_costs
        for t in np.argsort(-costs, kind="stable").tolist():
            if t in self.chosen:
                continue
            left, _ = self._rest(set())
            for each in sorted(self._columns(t, left), key=lambda each: each.cost):
                before = self.objective()
                self.chosen[t] = each
                if self.objective() < before:
                    break
                del self.chosen[t]

    def _pick_tasks(self) -> list[int]:
        """An unassigned task, those that occupy its people, and some that compete."""
        count = len(self.problem.tasks)
        open_ = np.array([t for t in range(count) if t not in self.chosen and self.able[t].any()])
        costs = self.problem.unassigned_costs
        if open_.size:
            weights = costs[open_] / costs[open_].sum()
            seed = int(self.random.choice(open_, p=weights))
        else:
            seed = int(self.random.integers(count))
        near = (self.able & self.able[seed]).sum(axis=1) / np.sqrt(self.able.sum(axis=1) + 1)
        near = near + self.random.random(count) * near.max() * 0.7
        near[seed] = np.inf
        picked = np.argsort(-near)[: min(FREED, count)]
        return [int(t) for t in picked if self.able[t].any() or int(t) in self.chosen]

    def _able(self, t: int) -> Booleans:
        """Who could help with a task in some team, shape (people,)."""
        room = may_join(self.problem, t, max(self.problem.sizes(t), default=1))
        covers = self.problem.covers[t]
        return room & covers.any(axis=0) if len(covers) else room

    def _rest(self, tasks: set[int]) -> tuple[Floats, Floats]:
        """Room and hours, with the tasks that are not planned again in their places."""
        problem, left = self.problem, self.problem.free_hours.copy()
        hours = np.zeros(len(problem.people))
        for t, each in self.chosen.items():
            if t not in tasks:
                since, until = int(problem.released[t]) + 1, int(problem.due[t])
                left[: since + 1, until:, list(each.team)] -= each.share
                hours[list(each.team)] += each.share
        return left, hours

    def _columns(self, t: int, left: Floats) -> list[Column]:
        """Known and new teams of a task that fit into the room that is left."""
        problem, pool = self.problem, self.pool[t]
        since, until = int(problem.released[t]) + 1, int(problem.due[t])
        if until < since:
            return []
        free = left[: since + 1, until:].min(axis=(0, 1))
        for size in problem.sizes(t):
            share = problem.tasks[t].estimated_hours / size
            room = may_join(problem, t, size) & (free >= share - 1e-9)
            if room.sum() < size:
                continue
            for _ in range(TRIES):
                noise = self.random.exponential(1.0, len(problem.people))
                price = problem.raw_costs[t] / size + share * self.prices * noise
                price = price + 0.2 * noise
                team = grow_team(problem, t, size, price, room)
                if team is not None:
                    each = column(problem, t, team)
                    pool.setdefault(each.team, each)
        ranked = sorted(pool.values(), key=lambda each: self._priced(each))
        if len(ranked) > 4 * POOL:
            self.pool[t] = {each.team: each for each in ranked[: 2 * POOL]}
        fits = [each for each in ranked if (free[list(each.team)] >= each.share - 1e-9).all()]
        mine = self.chosen.get(t)
        return fits[:POOL] + ([mine] if mine is not None and mine not in fits[:POOL] else [])

    def _priced(self, each: Column) -> float:
        return each.cost + each.share * float(self.prices[list(each.team)].sum())

    def _learn(self) -> None:
        """Raise the price of an hour of people who are full; lower that of others."""
        room = np.maximum(self.problem.room, 1e-9)
        hours = hours_of(self.problem, self.teams)
        used = np.clip(hours / room, 0.0, 1.0)
        value = self.problem.unassigned_costs.mean() / max(
            float(np.mean([task.estimated_hours for task in self.problem.tasks])), 1e-9
        )
        self.prices += LEARNING * (value * used**4 - self.prices)


def plan_objective(problem: PlanProblem, teams: Booleans) -> float:
    """What a plan costs: unassigned tasks, teams, changes, and the spread of work."""
    assigned = np.flatnonzero(teams.any(axis=1))
    changes = CHANGE_COST * problem.previous.any(axis=1).sum()
    unassigned = problem.unassigned_costs.sum() - problem.unassigned_costs[assigned].sum()
    costs = sum(problem.team_cost(int(t), np.flatnonzero(teams[t]).tolist()) for t in assigned)
    return float(unassigned + costs + changes + balance_cost(problem, hours_of(problem, teams)))
