"""The backend that solves: replicas, so that no request waits on another's solve."""

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, TypeVar

import orjson

from .calendar import Calendar
from .candidates import rank
from .forecast import Grouping, forecast
from .inputs import PlanningInputs
from .plan.report import make_plan
from .records import Outcome, Person, Task
from .skills import Matcher
from .success import History
from .team.conflicts import find_conflict
from .team.explanation import explain
from .team.objective import ObjectiveWeights, change_cost, team_objective
from .team.relaxations import find_relaxations
from .team.search import find_team
from .team.staffing_problem import Constraints, StaffingProblem
from .team.why import explain_absence

T = TypeVar("T")

MAX_CACHED = 8
TRADE_OFF_SECONDS = 0.2
POLL_SECONDS = 0.25


class Solver:
    """Candidates, teams and plans, as plain data that is ready for JSON."""

    def __init__(self) -> None:
        self._records: OrderedDict[Any, tuple[list[Person], list[Outcome]]] = OrderedDict()
        self._calendars: OrderedDict[Any, Calendar] = OrderedDict()
        self._histories: OrderedDict[Any, History] = OrderedDict()
        self._matchers: OrderedDict[Any, Matcher] = OrderedDict()
        self._lock = threading.Lock()
        # Imported here, so that the first solve need not wait for it.
        from ortools.sat.python import cp_model  # noqa: F401

    def candidates(self, inputs: PlanningInputs, task: bytes) -> list[dict[str, Any]]:
        """Everyone scored for a task (raw JSON), the best first."""
        problem, _ = self._problem(inputs, Task.model_validate_json(task))
        return [candidate.row() for candidate in rank(problem.candidates)]

    def recommend(
        self,
        inputs: PlanningInputs,
        task: bytes,
        excluded: Sequence[Sequence[str]] = (),
        wishes: Mapping[str, Sequence[str]] | None = None,
    ) -> dict[str, Any]:
        """The best team for a task, explained.

        Args:
            inputs: The tenant's records.
            task: The task, as raw JSON.
            excluded: Teams that are not to be recommended again, as ids.
            wishes: `include` and `exclude`: ids of people who must, and must not, be in
                the team.

        Returns:
            The answer of POST /tasks/{id}/recommendation. Without any team it has the
            conflict and the changes that would help instead.
        """
        started = time.monotonic()
        problem, matcher = self._problem(inputs, Task.model_validate_json(task))
        constraints = Constraints.from_task(problem.task, inputs.parameters)
        include, exclude = (
            frozenset(problem.index[id] for id in (wishes or {}).get(field, ()))
            for field in ("include", "exclude")
        )
        constraints = replace(constraints, include=include, exclude=exclude)
        answer = _best_team(problem, constraints, matcher, excluded)
        if answer["status"] == "infeasible" and not excluded:
            conflict = find_conflict(problem, constraints)
            answer["conflict"] = None if conflict is None else asdict(conflict)
            answer["relaxations"] = [
                asdict(relaxation) for relaxation in find_relaxations(problem, constraints)
            ]
        answer["seconds"] = round(time.monotonic() - started, 4)
        return answer

    def why(self, inputs: PlanningInputs, task: bytes, person: str) -> dict[str, Any]:
        """Why somebody is not in the best team, see `team.why.explain_absence`."""
        problem, _ = self._problem(inputs, Task.model_validate_json(task))
        constraints = Constraints.from_task(problem.task, inputs.parameters)
        return explain_absence(problem, constraints, problem.index[person])

    def forecast(
        self, inputs: PlanningInputs, tasks: Sequence[bytes], weeks: int, by: Grouping
    ) -> list[dict[str, Any]]:
        """Capacity and load week by week, see `forecast.forecast`.

        Args:
            inputs: The tenant's records.
            tasks: The open tasks, as raw JSON.
            weeks: How many.
            by: Whose rows are given.
        """
        open_tasks = [Task.model_validate_json(task) for task in tasks]
        return forecast(self._calendar(inputs), open_tasks, weeks, by)

    def describe(self, inputs: PlanningInputs, task: bytes, team: Sequence[str]) -> dict[str, Any]:
        """A team that was chosen by hand, as `recommend` describes one."""
        problem, matcher = self._problem(inputs, Task.model_validate_json(task))
        constraints = Constraints.from_task(problem.task, inputs.parameters)
        return _described(
            problem, problem.lead_first([problem.index[id] for id in team]), matcher, constraints
        )

    def plan(
        self,
        inputs: PlanningInputs,
        tasks: Sequence[bytes],
        options: Mapping[str, Any],
        online: Any = None,
        key: Any = None,
    ) -> dict[str, Any]:
        """Plan tasks.

        Args:
            inputs: The tenant's records.
            tasks: The tasks, as raw JSON.
            options: See `plan.report.make_plan`.
            online: The tenant's online store.
            key: A hash there, to which progress is written. The search stops when its
                field `cancel` is set.

        Returns:
            The answer of POST /plan.
        """
        stop = threading.Event()
        progress = ProgressReporter(online, key, stop)
        try:
            return make_plan(
                [Task.model_validate_json(task) for task in tasks],
                self._calendar(inputs),
                self._matcher(inputs),
                self._history(inputs),
                inputs.parameters,
                options,
                progress.report,
                stop,
            )
        finally:
            progress.close()

    def _problem(self, inputs: PlanningInputs, task: Task) -> tuple[StaffingProblem, Matcher]:
        calendar, matcher = self._calendar(inputs), self._matcher(inputs)
        history = self._history(inputs)
        problem = StaffingProblem.build(task, calendar, matcher, history, inputs.parameters)
        return problem, matcher

    def _calendar(self, inputs: PlanningInputs) -> Calendar:
        def build() -> Calendar:
            assigned = [Task.model_validate_json(raw) for raw in inputs.assigned]
            return Calendar(self._parsed(inputs)[0], assigned, inputs.now)

        return self._cached(self._calendars, (inputs.key, inputs.assigned_key, inputs.now), build)

    def _parsed(self, inputs: PlanningInputs) -> tuple[list[Person], list[Outcome]]:
        def parse() -> tuple[list[Person], list[Outcome]]:
            return (
                [Person.model_validate(orjson.loads(raw)) for raw in inputs.people],
                [Outcome.model_validate(orjson.loads(raw)) for raw in inputs.outcomes],
            )

        return self._cached(self._records, inputs.key, parse)

    def _history(self, inputs: PlanningInputs) -> History:
        half_life, prior = inputs.parameters.half_life_days, inputs.parameters.prior_strength
        key = (inputs.key, inputs.now, half_life, prior, tuple(sorted(inputs.success.items())))

        def aggregate() -> History:
            return History.from_outcomes(
                self._parsed(inputs)[1],
                inputs.now,
                half_life_days=half_life,
                prior_strength=prior,
                given=inputs.success,
            )

        return self._cached(self._histories, key, aggregate)

    def _matcher(self, inputs: PlanningInputs) -> Matcher:
        similarity = inputs.parameters.similarity
        key = (similarity, inputs.model, frozenset(inputs.vectors))
        return self._cached(self._matchers, key, lambda: Matcher(similarity, inputs.vectors))

    def _cached(self, cache: OrderedDict[Any, T], key: Any, make: Callable[[], T]) -> T:
        with self._lock:
            if key in cache:
                cache.move_to_end(key)
                return cache[key]
        value = make()
        with self._lock:
            cache[key] = value
            while len(cache) > MAX_CACHED:
                cache.popitem(last=False)
        return value


class ProgressReporter:
    """Writes a plan's progress to Redis, and sets `stop` when it is cancelled there.

    Args:
        online: The tenant's online store; None to report nothing.
        key: The hash with the fields `progress` and `cancel`.
        stop: Set once `cancel` is.
    """

    def __init__(self, online: Any, key: Any, stop: threading.Event) -> None:
        self._online, self._key, self._stop = online, key, stop
        self._started = time.monotonic()
        self._latest: dict[str, Any] | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._write()), daemon=True)
        if online is not None:
            self._thread.start()

    def report(self, objective: float, bound: float | None) -> None:
        """Note a better plan; it is written with the next interval."""
        gap = None if bound is None else max(0.0, objective - bound) / max(abs(objective), 1e-9)
        seconds = round(time.monotonic() - self._started, 2)
        self._latest = {"objective": objective, "bound": bound, "gap": gap, "seconds": seconds}

    def close(self) -> None:
        """Stop writing."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(2)

    async def _write(self) -> None:
        while not self._ended.is_set():
            if self._latest is not None:
                progress = {"progress": orjson.dumps(self._latest)}
                await self._online.hset(self._key, mapping=progress)
            if await self._online.hget(self._key, "cancel"):
                self._stop.set()
            await asyncio.sleep(POLL_SECONDS)


def _best_team(
    problem: StaffingProblem,
    constraints: Constraints,
    matcher: Matcher,
    excluded: Sequence[Sequence[str]],
) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "status": "infeasible",
        "objective": None,
        "bound": None,
        "gap": None,
        "team": [],
    }
    start, end = problem.window
    if end <= start or not problem.candidates:
        return answer
    shown = [
        frozenset(problem.index[id] for id in team)
        for team in excluded
        if all(id in problem.index for id in team)
    ]
    solution = find_team(
        problem,
        constraints,
        ObjectiveWeights.from_parameters(problem.parameters),
        excluded=shown,
        time_limit=problem.parameters.time_limit,
    )
    answer |= {"status": solution.status, "bound": solution.bound, "gap": solution.gap}
    if solution.team is None:
        return answer
    members = solution.team.members
    answer |= _described(problem, members, matcher, constraints, shown)
    answer["trade_offs"] = _trade_offs(problem, constraints, members)
    if solution.bound is not None:  # The objective does not show the cost of changes.
        changes = change_cost(problem, members)
        bound = min(max(solution.bound - changes, 0.0), answer["objective"])
        gap = (answer["objective"] - bound) / max(answer["objective"], 1e-9)
        answer |= {"bound": bound, "gap": gap}
    return answer


def _described(
    problem: StaffingProblem,
    members: Sequence[int],
    matcher: Matcher,
    constraints: Constraints,
    shown: Sequence[frozenset[int]] = (),
) -> dict[str, Any]:
    """A team, the lead first, with what it is worth and why."""
    team = [problem.people[m].id for m in members]
    weights = ObjectiveWeights.from_parameters(problem.parameters)
    objective = team_objective(problem, members, weights) - change_cost(problem, members)
    explained = explain(problem, members, matcher, constraints, shown)
    return {"objective": objective, "team": team, "lead": team[0], **explained}


def _trade_offs(
    problem: StaffingProblem, constraints: Constraints, members: Sequence[int]
) -> list[dict[str, Any]]:
    """How much better a team of this size could be in one criterion alone."""
    size = len(members)
    hours, after = problem.hours_each(size), problem.workloads_after(size)
    measures: dict[str, tuple[ObjectiveWeights, Callable[[Sequence[int]], float], str]] = {
        "cost": (
            ObjectiveWeights(0, 1, 0, 0),
            lambda team: sum(hours * float(problem.rates[m]) for m in team),
            "currency",
        ),
        "workload": (
            ObjectiveWeights(0, 0, 0, 0, workload=1),
            lambda team: float(sum(after[m] for m in team)) / size,
            "percent, mean",
        ),
        "score": (
            ObjectiveWeights(1, 0, 0, 0),
            lambda team: float(sum(problem.scores[m] for m in team)) / size,
            "mean score",
        ),
    }
    rows = []
    for criterion, (weights, measure, unit) in measures.items():
        best = find_team(
            problem, constraints, weights, sizes=[size], time_limit=TRADE_OFF_SECONDS
        ).team
        if best is not None:
            rows.append(
                {
                    "criterion": criterion,
                    "value": round(measure(members), 4),
                    "best_alone": round(measure(best.members), 4),
                    "unit": unit,
                }
            )
    return rows
