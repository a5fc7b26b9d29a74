"""Teams of one size as a CP-SAT model, over the people who can matter."""

import bisect
import math
import time
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bounds import CandidatePool, greedy_teams, team_lower_bounds
from .objective import ObjectiveWeights, eligible_people, member_costs, team_objective
from .solution import Status, Team
from .staffing_problem import Constraints, StaffingProblem

SCALE = 1_000_000
"""CP-SAT computes with integers: costs are multiplied by this."""
GREEDY_STARTS = 6
LITTLE_LEFT_OUT = 0.97
"""Share of people that remain at which bounding them again is not worth its time."""


class TeamModel:
    """Teams of one size, over the people who could be in one better than `upper`.

    Args:
        problem: The task and everyone scored for it.
        constraints: What the team must satisfy.
        weights: What is minimized.
        size: The team's size.
        excluded: Teams that are not to be found again.
        upper: Only teams with a lower objective are of interest.
    """

    def __init__(
        self,
        problem: StaffingProblem,
        constraints: Constraints,
        weights: ObjectiveWeights,
        size: int,
        excluded: Sequence[frozenset[int]],
        upper: float = math.inf,
    ) -> None:
        self.problem = problem
        self.constraints = constraints
        self.weights = weights
        self.size = size
        self.excluded = [team for team in excluded if len(team) == size]
        required = [n for n, people in enumerate(constraints.people) if people]
        self.covers = problem.covers(constraints)[required]
        self.needed = np.array([constraints.people[n] for n in required], dtype=np.int64)
        self.costs = member_costs(problem, weights, size)
        self.pair_reward = weights.collaboration / math.comb(size, 2) if size > 1 else 0.0
        self.constant = weights.collaboration if size > 1 else 0.0
        self.shares_hours = constraints.overlap_hours is not None and size > 1
        self.shift_of, self.group_of, self.compatible = self._group_shifts()
        self.included = np.array(sorted(constraints.include), np.int64)
        self.people = np.flatnonzero(eligible_people(problem, constraints, size))
        self.hint: list[int] | None = None
        self.lower = -math.inf
        self._reduce_people(upper)

    def solve(self, time_limit: float) -> tuple[Status, Team | None, float]:
        """Search for the best team.

        Two people who share enough hours on some day may be in a team. Shifts that
        together share too few on another are excluded when a team of them turns up.

        Args:
            time_limit: Seconds of wall time.

        Returns:
            The status, the best team and a lower bound.
        """
        from ortools.sat.python import cp_model

        deadline = time.monotonic() + time_limit
        if self.people.size < self.size or not np.isin(self.included, self.people).all():
            return "infeasible", None, math.inf
        model = cp_model.CpModel()
        chosen = {int(n): model.new_bool_var("") for n in self.people}
        self._add_constraints(model, chosen)
        self._add_groups(model, chosen)
        self._add_objective(model, chosen)
        solver = cp_model.CpSolver()
        solver.parameters.num_workers = 1
        # Otherwise CP-SAT would replace the process's handler of SIGINT.
        solver.parameters.catch_sigint_signal = False
        rounding = (self.size + math.comb(self.size, 2)) / SCALE
        while True:
            solver.parameters.max_time_in_seconds = max(0.001, deadline - time.monotonic())
            code = solver.solve(model)
            if code == cp_model.INFEASIBLE:
                return "infeasible", None, math.inf
            bound = max(self.lower, solver.best_objective_bound / SCALE + self.constant - rounding)
            if code not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
                return "unknown", self._team(self.hint) if self.hint else None, bound
            members = [n for n, variable in chosen.items() if solver.value(variable)]
            conflict = self._conflicting_shifts(members)
            if conflict is None:
                team = self._team(members)
                status: Status = "optimal" if code == cp_model.OPTIMAL else "feasible"
                return status, team, min(bound, team.objective)
            self._exclude_shifts(model, chosen, conflict)

    def _add_constraints(self, model: Any, chosen: dict[int, Any]) -> None:
        model.add(sum(chosen.values()) == self.size)
        for n in self.included.tolist():
            model.add(chosen[n] == 1)
        for has, people in zip(self.covers, self.needed, strict=True):
            model.add(sum(chosen[n] for n in chosen if has[n]) >= int(people))
        for team in self.excluded:
            if all(n in chosen for n in team):
                model.add(sum(chosen[n] for n in team) <= self.size - 1)

    def _add_groups(self, model: Any, chosen: dict[int, Any]) -> None:
        """Add a variable for each group of shifts, and exclude pairs of groups."""
        if not self.shares_hours:
            return
        group = self.group_of[self.shift_of]
        used = {int(g): model.new_bool_var("") for g in np.unique(group[self.people])}
        for n, variable in chosen.items():
            model.add_implication(variable, used[int(group[n])])
        for g in used:
            if not self.compatible[g, g]:
                model.add(used[g] == 0)
        for g, h in combinations(used, 2):
            if not self.compatible[g, h]:
                model.add_bool_or(used[g].negated(), used[h].negated())

    def _exclude_shifts(self, model: Any, chosen: dict[int, Any], shifts: set[int]) -> None:
        """No team has people of all these shifts and of no other.

        With one more shift there may be fewer common days, and those be long enough.
        """
        literals = [variable for n, variable in chosen.items() if self.shift_of[n] not in shifts]
        for shift in shifts:
            used = model.new_bool_var("")
            for n, variable in chosen.items():
                if self.shift_of[n] == shift:
                    model.add_implication(variable, used)
            literals.append(used.negated())
        model.add_bool_or(literals)

    def _add_objective(self, model: Any, chosen: dict[int, Any]) -> None:
        terms = [variable * round(SCALE * float(self.costs[n])) for n, variable in chosen.items()]
        for a, b in self._pairs():
            together = model.new_bool_var("")
            model.add_implication(together, chosen[int(self.people[a])])
            model.add_implication(together, chosen[int(self.people[b])])
            terms.append(together * -round(SCALE * self.pair_reward))
        model.minimize(sum(terms))
        if self.hint is not None:
            for n, variable in chosen.items():
                model.add_hint(variable, n in self.hint)

    def _group_shifts(
        self,
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """Everyone's shift, the group of each shift, and which groups go together.

        Shifts are in one group when they share enough hours with the same others. The
        shapes are (people,), (shifts,) and (groups, groups).
        """
        people = len(self.problem.candidates)
        if not self.shares_hours:
            zero = np.zeros(people, np.int64)
            return zero, np.zeros(1, np.int64), np.ones((1, 1), bool)
        assert self.constraints.overlap_hours is not None
        available = self.constraints.availability
        matrix = self.problem.compatible(self.constraints.overlap_hours, available)
        _, first, group_of = np.unique(matrix, axis=0, return_index=True, return_inverse=True)
        shift_of = self.problem.shifts(available)[1]
        return shift_of, group_of.reshape(-1), matrix[np.ix_(first, first)]

    def _conflicting_shifts(self, members: Sequence[int]) -> set[int] | None:
        """The shifts of a team that together share too few hours."""
        hours = self.constraints.overlap_hours
        if not self.shares_hours or hours is None:
            return None
        shared = self.problem.overlap(members, self.constraints.availability).hours
        return None if shared >= hours - 1e-9 else {int(self.shift_of[n]) for n in members}

    def _reduce_people(self, upper: float) -> None:
        """Find a good team, then drop everyone who can be in no better one."""
        self._drop_dominated()
        if self.size > 1 and self.people.size > self.size:
            self._find_hint()
        if self.hint is not None:
            upper = min(upper, team_objective(self.problem, self.hint, self.weights))
        while self.people.size:
            bounds = self.constant + team_lower_bounds(
                self._pool(), self._pairs(), self.pair_reward
            )
            self.lower = max(self.lower, float(bounds.min()))
            stays = np.isfinite(bounds) & (bounds <= upper + 1e-9)
            if self.hint is not None:
                stays |= np.isin(self.people, self.hint)
            done = stays.sum() > LITTLE_LEFT_OUT * self.people.size
            self.people = self.people[stays]
            if done:
                break
            self._drop_dominated()

    def _find_hint(self) -> None:
        pairs = self._pairs()
        rewards = np.zeros((self.people.size, self.people.size))
        if pairs.size:
            rewards[pairs[:, 0], pairs[:, 1]] = self.pair_reward
            rewards[pairs[:, 1], pairs[:, 0]] = self.pair_reward
        teams = [
            [int(self.people[n]) for n in team]
            for team in greedy_teams(self._pool(), self.needed, rewards, GREEDY_STARTS)
        ]
        allowed = [
            team
            for team in teams
            if frozenset(team) not in self.excluded
            and self.constraints.include.issubset(team)
            and self._conflicting_shifts(team) is None
        ]
        self.hint = min(
            allowed,
            key=lambda team: team_objective(self.problem, team, self.weights),
            default=None,
        )

    def _pool(self) -> CandidatePool:
        return CandidatePool(
            self.costs[self.people],
            self.covers[:, self.people],
            self.group_of[self.shift_of[self.people]],
            self.compatible,
            self.size,
        )

    def _pairs(self) -> NDArray[np.int64]:
        """Pairs who have worked together, as positions in `people`: (pairs, 2)."""
        if not self.pair_reward:
            return np.zeros((0, 2), np.int64)
        position = np.full(len(self.problem.candidates), -1)
        position[self.people] = np.arange(self.people.size)
        pairs = position[self.problem.collaborators]
        return np.asarray(pairs[(pairs >= 0).all(axis=1)])

    def _drop_dominated(self) -> None:
        """Drop people whom enough others could replace in any team.

        A replacement has the same shift and every needed skill, and costs no
        more. A team holds at most size − 1 of the replacements and each excluded team
        rules out one more, so size + len(excluded) of them are enough. Nobody replaces
        those who must be in the team.
        """
        enough = self.size + len(self.excluded)
        people = self.people
        if people.size <= enough:
            return
        pool, pairs = self._pool(), self._pairs()
        friends = np.bincount(pairs.ravel(), minlength=people.size) if pairs.size else 0
        optimistic = pool.costs - self.pair_reward * np.minimum(friends, self.size - 1)
        # Python integers (dtype object): there may be more than 63 requirements.
        bits = pool.covers * (1 << np.arange(len(pool.covers), dtype=object))[:, None]
        skills = bits.sum(axis=0) if len(bits) else np.zeros(people.size, int)
        group = self.shift_of[people]
        known: dict[int, dict[int, list[float]]] = {}  # group → skills → sorted costs
        keep = np.isin(people, self.included)
        for n in np.argsort(pool.costs, kind="stable"):
            seen = known.setdefault(int(group[n]), {})
            better = 0
            for other, costs in seen.items():
                if skills[n] & ~other == 0:
                    better += bisect.bisect_right(costs, optimistic[n])
                    if better >= enough:
                        break
            if better < enough:
                keep[n] = True
                seen.setdefault(skills[n], []).append(float(pool.costs[n]))
        self.people = people[keep]

    def _team(self, members: Sequence[int]) -> Team:
        """A team with its members by score, the lead first."""
        order = self.problem.lead_first(members)
        return Team(order, team_objective(self.problem, order, self.weights))
