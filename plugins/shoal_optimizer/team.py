"""The best team for one task, proved: one CP-SAT model per team size, over the people
that no others dominate.
"""

import bisect
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .bounds import bounds, greedy
from .hours import overlap
from .parameters import OptimizerParameters
from .staffing_problem import Demands, Situation

SCALE = 1_000_000
Status = Literal["optimal", "feasible", "infeasible", "unknown"]


@dataclass(frozen=True)
class Importance:
    """How much each soft criterion counts. The objective (lower is better) is the
    weighted sum of, each in [0, 1]: mean (1 − score); mean rate over the highest rate;
    mean squared workload after; share of pairs new to each other.
    """

    score: float = 1.0
    cost: float = 0.3
    balance: float = 0.3
    collaboration: float = 0.1

    @classmethod
    def of(cls, parameters: OptimizerParameters) -> "Importance":
        return cls(
            parameters.score_importance,
            parameters.cost_importance,
            parameters.balance_importance,
            parameters.collaboration_importance,
        )


NOTHING = Importance(0, 0, 0, 0)


@dataclass(frozen=True)
class Team:
    """A team for a task: members are indices into the situation's people, in order of
    score, the lead first.
    """

    members: tuple[int, ...]
    objective: float


@dataclass(frozen=True)
class Search:
    """What looking for a team found. `bound`: no allowed team has a lower objective."""

    status: Status
    team: Team | None
    bound: float | None
    seconds: float = field(default=0.0, compare=False)

    @property
    def gap(self) -> float | None:
        if self.team is None or self.bound is None:
            return None
        return max(0.0, self.team.objective - self.bound) / max(abs(self.team.objective), 1e-9)


def find_team(
    situation: Situation,
    demands: Demands,
    importance: Importance,
    *,
    without: Sequence[frozenset[int]] = (),
    sizes: Sequence[int] | None = None,
    time_limit: float = 5.0,
    any_team: bool = False,
) -> Search:
    """The team of least objective among those that keep the demands and are none of the
    teams in `without`.

    Every size allowed is solved on its own, which makes means linear; sizes whose bound
    cannot beat the best team so far are skipped. `any_team` ends the search at the
    first team.
    """
    started = time.monotonic()
    best: Team | None = None
    bound, complete = math.inf, True
    tried = list(situation.sizes(demands) if sizes is None else sizes)
    for size in sorted(tried, key=lambda k: _floor(situation, demands, importance, k)):
        floor = _floor(situation, demands, importance, size)
        if math.isinf(floor) or (best is not None and floor >= best.objective - 1 / SCALE):
            continue
        left = time_limit - (time.monotonic() - started)
        if left <= 0.005:
            complete, bound = False, min(bound, floor)
            continue
        status, team, its_bound = _Model(
            situation, demands, importance, size, without, best.objective if best else math.inf
        ).solve(left)
        if status == "infeasible":
            continue
        complete &= status == "optimal"
        bound = min(bound, its_bound)
        if team is not None and (best is None or team.objective < best.objective):
            best = team
            if any_team:
                break
    seconds = time.monotonic() - started
    if best is None:
        status = "infeasible" if complete else "unknown"
        return Search(status, None, None if complete or math.isinf(bound) else bound, seconds)
    bound = min(bound, best.objective)
    return Search(
        "optimal" if complete else "feasible", best, best.objective if complete else bound, seconds
    )


def objective(situation: Situation, members: Sequence[int], importance: Importance) -> float:
    """A team's objective."""
    size, members = len(members), list(members)
    separable = _separable(situation, importance, size)[members].sum()
    return float(separable + importance.collaboration * (1 - _familiarity(situation, members)))


def _familiarity(situation: Situation, members: Sequence[int]) -> float:
    """Share of the team's pairs who have worked together; 1 for one person alone."""
    if len(members) < 2:
        return 1.0
    ids = [situation.scored[n].person.id for n in members]
    return len(situation.history.pairs(ids)) / math.comb(len(members), 2)


def _separable(situation: Situation, importance: Importance, size: int) -> NDArray[np.float64]:
    """What each person adds to the objective of a team of this size, collaboration
    aside.
    """
    after = np.minimum(situation.after(size), 1000.0) / 100
    highest = max(float(situation.rate.max(initial=0)), 1e-9)
    return (
        np.asarray(
            importance.score * (1 - situation.score)
            + importance.cost * situation.rate / highest
            + importance.balance * after**2
        )
        / size
    )


def _eligible(situation: Situation, demands: Demands, size: int) -> NDArray[np.bool_]:
    after = situation.after(size, demands.availability)
    eligible = np.ones(len(situation.scored), bool)
    if demands.availability:
        eligible &= situation.hours > 0
    if demands.workload_limit is not None:
        eligible &= after <= demands.workload_limit + 1e-9
    return eligible


def _floor(situation: Situation, demands: Demands, importance: Importance, size: int) -> float:
    """A quick lower bound for teams of one size; +inf when there are not enough people
    for it.
    """
    eligible = _eligible(situation, demands, size)
    covering = (situation.covers(demands) & eligible).sum(axis=1)
    if eligible.sum() < size or np.any(covering < np.array(demands.people)):
        return math.inf
    return float(np.sort(_separable(situation, importance, size)[eligible])[:size].sum())


class _Model:
    """Teams of one size as a CP-SAT model, over the people who could be in one better
    than `upper`.
    """

    def __init__(
        self,
        situation: Situation,
        demands: Demands,
        importance: Importance,
        size: int,
        without: Sequence[frozenset[int]],
        upper: float = math.inf,
    ) -> None:
        self.situation, self.demands, self.importance, self.size = (
            situation,
            demands,
            importance,
            size,
        )
        self.without = [team for team in without if len(team) == size]
        kept = [n for n, people in enumerate(demands.people) if people]
        self.covers = situation.covers(demands)[kept]
        self.needed = np.array([demands.people[n] for n in kept], dtype=np.int64)
        self.separable = _separable(situation, importance, size)
        self.reward = importance.collaboration / math.comb(size, 2) if size > 1 else 0.0
        self.constant = importance.collaboration if size > 1 else 0.0
        self.compatible = self._compatible()
        self.people = np.flatnonzero(_eligible(situation, demands, size))
        self.hint: list[int] | None = None
        self.floor = -math.inf
        self._narrow(upper)

    def _compatible(self) -> NDArray[np.bool_]:
        """Shape (schedules, schedules): whether people with these two share enough
        hours.
        """
        schedules = range(len(self.situation.schedules))
        together = np.ones((len(schedules), len(schedules)), bool)
        if self.demands.overlap_hours is not None and self.size > 1:
            for s in schedules:
                for t in schedules[: s + 1]:
                    together[s, t] = together[t, s] = (
                        self._shared({s, t}) >= self.demands.overlap_hours
                    )
        return together

    def _narrow(self, upper: float) -> None:
        """Find a good team, then leave out everyone who cannot be in a better one, and
        whom enough others can replace.
        """
        self._undominated()
        if self.size > 1 and self.people.size > self.size:
            self._guess()
        if self.hint is not None:
            upper = min(upper, objective(self.situation, self.hint, self.importance))
        while self.people.size:
            least = self.constant + bounds(
                self.separable[self.people], self.covers[:, self.people], self.situation.schedule[self.people],
                self.compatible, self._pairs(), self.reward, self.size,
            )  # fmt: skip
            self.floor = max(self.floor, float(least.min()))
            stays = np.isfinite(least) & (least <= upper + 1e-9)
            if self.hint is not None:
                stays |= np.isin(self.people, self.hint)
            if stays.sum() > 0.97 * self.people.size:
                self.people = self.people[stays]
                break
            self.people = self.people[stays]
            self._undominated()

    def _guess(self) -> None:
        own, pairs = self.separable[self.people], self._pairs()
        near = np.zeros((self.people.size, self.people.size))
        if pairs.size:
            near[pairs[:, 0], pairs[:, 1]] = near[pairs[:, 1], pairs[:, 0]] = self.reward
        teams = greedy(
            own, self.covers[:, self.people], self.needed, self.situation.schedule[self.people], self.compatible, near,
            self.size, 6,
        )  # fmt: skip
        found = [[int(self.people[n]) for n in team] for team in teams]
        allowed = [
            team
            for team in found
            if frozenset(team) not in self.without and self._clash(team) is None
        ]
        self.hint = min(
            allowed, key=lambda team: objective(self.situation, team, self.importance), default=None
        )

    def _pairs(self) -> NDArray[np.int64]:
        """Pairs among `people` who have worked together, as positions in it: shape
        (pairs, 2).
        """
        if not self.reward:
            return np.zeros((0, 2), np.int64)
        place = np.full(len(self.situation.scored), -1)
        place[self.people] = np.arange(self.people.size)
        pairs = place[self.situation.collaborators]
        return np.asarray(pairs[(pairs >= 0).all(axis=1)])

    def _undominated(self) -> None:
        """Leave out whom enough others could replace in any team: same regular hours,
        every needed skill, no dearer.

        A team holds at most size − 1 of the others and `without` rules out that many
        teams more, so size + len(without) replacements are enough.
        """
        enough = self.size + len(self.without)
        people = self.people
        if people.size <= enough:
            return
        pairs = self._pairs()
        friends = (
            np.bincount(pairs.ravel(), minlength=people.size)
            if pairs.size
            else np.zeros(people.size)
        )
        own = self.separable[people]
        optimistic = own - self.reward * np.minimum(friends, self.size - 1)
        has = self.covers[:, people]
        sets = (
            (has * (1 << np.arange(len(has), dtype=object))[:, None]).sum(axis=0)
            if len(has)
            else np.zeros(people.size, int)
        )
        timed = self.demands.overlap_hours is not None and self.size > 1
        group = self.situation.schedule[people] if timed else np.zeros(people.size, int)
        known: dict[int, dict[int, list[float]]] = {}
        keep = np.zeros(people.size, bool)
        for n in np.argsort(own, kind="stable"):
            seen = known.setdefault(int(group[n]), {})
            better = 0
            for other, costs in seen.items():
                if sets[n] & ~other == 0:
                    better += bisect.bisect_right(costs, optimistic[n])
                    if better >= enough:
                        break
            if better < enough:
                keep[n] = True
                seen.setdefault(sets[n], []).append(float(own[n]))
        self.people = people[keep]

    def solve(self, time_limit: float) -> tuple[Status, Team | None, float]:
        """Status, best team and bound; schedules that clash only three or more at a
        time are ruled out as they turn up.
        """
        from ortools.sat.python import cp_model

        deadline = time.monotonic() + time_limit
        if self.people.size < self.size:
            return "infeasible", None, math.inf
        model = cp_model.CpModel()
        chosen = {int(n): model.new_bool_var("") for n in self.people}
        model.add(sum(chosen.values()) == self.size)
        for has, people in zip(self.covers, self.needed, strict=True):
            model.add(sum(chosen[n] for n in chosen if has[n]) >= int(people))
        for shown in self.without:
            if all(n in chosen for n in shown):
                model.add(sum(chosen[n] for n in shown) <= self.size - 1)
        kept = self._schedules(model, chosen)
        terms = [
            variable * round(SCALE * float(self.separable[n])) for n, variable in chosen.items()
        ]
        for a, b in self._pairs():
            together = model.new_bool_var("")
            model.add_implication(together, chosen[int(self.people[a])])
            model.add_implication(together, chosen[int(self.people[b])])
            terms.append(together * -round(SCALE * self.reward))
        model.minimize(sum(terms))
        for n, variable in chosen.items():
            if self.hint is not None:
                model.add_hint(variable, n in self.hint)
        solver = cp_model.CpSolver()
        solver.parameters.num_workers = 1
        solver.parameters.catch_sigint_signal = (
            False  # it would leave the process with the default handler
        )
        while True:
            solver.parameters.max_time_in_seconds = max(0.001, deadline - time.monotonic())
            code = solver.solve(model)
            if code == cp_model.INFEASIBLE:
                return "infeasible", None, math.inf
            rounding = (self.size + math.comb(self.size, 2)) / SCALE
            bound = max(self.floor, solver.best_objective_bound / SCALE + self.constant - rounding)
            if code not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
                return "unknown", self._team(self.hint) if self.hint else None, bound
            members = [n for n, variable in chosen.items() if solver.value(variable)]
            clash = self._clash(members)
            if clash is None:
                team = self._team(members)
                return (
                    ("optimal" if code == cp_model.OPTIMAL else "feasible"),
                    team,
                    min(bound, team.objective),
                )
            model.add(sum(kept[s] for s in clash) <= len(clash) - 1)

    def _schedules(self, model: Any, chosen: dict[int, Any]) -> dict[int, Any]:
        """Variables for "someone of this schedule is in the team", no two of which
        clash.
        """
        if self.demands.overlap_hours is None or self.size == 1:
            return {}
        kept = {
            int(s): model.new_bool_var("") for s in np.unique(self.situation.schedule[self.people])
        }
        for n, variable in chosen.items():
            model.add_implication(variable, kept[int(self.situation.schedule[n])])
        for s in kept:
            if not self.compatible[s, s]:
                model.add(kept[s] == 0)
        for s, t in combinations(kept, 2):
            if not self.compatible[s, t]:
                model.add_bool_or(kept[s].negated(), kept[t].negated())
        return kept

    def _shared(self, schedules: set[int]) -> float:
        return overlap(
            frozenset(self.situation.schedules[s] for s in schedules), *self.situation.window
        ).hours

    def _clash(self, members: Sequence[int]) -> set[int] | None:
        if self.demands.overlap_hours is None or self.size == 1:
            return None
        used = {int(self.situation.schedule[n]) for n in members}
        return used if self._shared(used) < self.demands.overlap_hours else None

    def _team(self, members: Sequence[int]) -> Team:
        order = sorted(
            members, key=lambda n: (-self.situation.score[n], self.situation.scored[n].person.id)
        )
        return Team(tuple(order), objective(self.situation, order, self.importance))
