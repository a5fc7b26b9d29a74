"""The backend where solving happens: a pool of replicas, so that no request waits on
another's solve.
"""

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson

from .candidates import ranked
from .conflicts import conflict, relaxations
from .parameters import OptimizerParameters
from .reasons import explain
from .records import Outcome, Person, Task
from .skills import Matcher
from .staffing_problem import Demands, Situation
from .success import History
from .team import Importance, find_team

REMEMBERED = 8


@dataclass(frozen=True)
class World:
    """What a solve needs to know of a tenant at a moment; it travels to the backend,
    records still as raw JSON.

    key: the tenant and the version of its records, so that a replica parses them once.
    vectors: skills' names → vectors.
    """

    key: tuple[str, int]
    ids: Sequence[str]
    people: Sequence[bytes]
    outcomes: Sequence[bytes]
    parameters: OptimizerParameters
    now: datetime
    vectors: Mapping[str, Sequence[float]] = field(default_factory=dict)
    success: Mapping[tuple[str, str], float] = field(default_factory=dict)
    """(person, kind of task) → past success, where the feature store holds it."""


class Solver:
    """Candidates, teams and plans. Answers are plain data, ready for JSON."""

    def __init__(self) -> None:
        self._parsed: OrderedDict[tuple[str, int], tuple[list[Person], list[Outcome]]] = (
            OrderedDict()
        )
        self._histories: OrderedDict[Any, History] = OrderedDict()
        self._matchers: OrderedDict[Any, Matcher] = OrderedDict()
        self._lock = threading.Lock()
        from ortools.sat.python import cp_model  # noqa: F401  (the first solve should not pay for the import)

    def candidates(self, world: World, task: bytes) -> list[dict[str, Any]]:
        """The table of everybody, best first."""
        situation, _ = self._situation(world, Task.model_validate_json(task))
        return [candidate.row() for candidate in ranked(situation.scored)]

    def recommend(
        self, world: World, task: bytes, without: Sequence[Sequence[str]] = ()
    ) -> dict[str, Any]:
        """The best team that is none of `without`, explained; or why there is none, and
        what would help.
        """
        started = time.monotonic()
        situation, matcher = self._situation(world, Task.model_validate_json(task))
        demands = Demands.of(situation.task, world.parameters)
        start, end = situation.window
        shown = [
            frozenset(situation.index[p] for p in team)
            for team in without
            if all(p in situation.index for p in team)
        ]
        answer: dict[str, Any] = {
            "status": "infeasible",
            "objective": None,
            "bound": None,
            "gap": None,
            "team": [],
        }
        if end > start and situation.scored:
            importance = Importance.of(world.parameters)
            found = find_team(
                situation,
                demands,
                importance,
                without=shown,
                time_limit=world.parameters.time_limit,
            )
            objective = None if found.team is None else found.team.objective
            answer |= {
                "status": found.status,
                "objective": objective,
                "bound": found.bound,
                "gap": found.gap,
            }
            if found.team is not None:
                members = found.team.members
                answer["team"] = [situation.scored[m].person.id for m in members]
                answer["lead"] = answer["team"][0]
                answer |= explain(situation, members, matcher, demands)
                answer["trade_offs"] = self._trade_offs(situation, demands, members)
        if not answer["team"] and not shown and answer["status"] == "infeasible":
            why = conflict(situation, demands)
            answer["conflict"] = (
                None if why is None else why.__dict__ | {"requirements": list(why.requirements)}
            )
            answer["relaxations"] = [
                {**way.__dict__, "team": list(way.team)} for way in relaxations(situation, demands)
            ]
        answer["seconds"] = round(time.monotonic() - started, 4)
        return answer

    def plan(
        self,
        world: World,
        tasks: Sequence[bytes],
        wishes: Mapping[str, Any],
        door: Any = None,
        key: Any = None,
    ) -> dict[str, Any]:
        """A plan for all these tasks (see `planning.plan`). With a door to Redis and a
        key, progress is written to that hash, and the plan is called off when its field
        `cancel` is set.
        """
        from .planning import plan

        people, _ = self._records(world)
        stop = threading.Event()
        progress = Progress(door, key, stop)
        parsed = [Task.model_validate_json(task) for task in tasks]
        try:
            return plan(
                parsed,
                people,
                self._matcher(world),
                self._history(world),
                world.parameters,
                world.now,
                wishes,
                progress.report,
                stop,
            )
        finally:
            progress.close()

    def _trade_offs(
        self, situation: Situation, demands: Demands, members: Sequence[int]
    ) -> list[dict[str, Any]]:
        """For each soft criterion: how much better a team of this size could be if
        nothing else counted.
        """
        size, found = len(members), []
        after = situation.after(size)
        share = situation.share(size)
        measures: dict[str, tuple[Importance, Callable[[Sequence[int]], float], str]] = {
            "cost": (
                Importance(0, 1, 0, 0),
                lambda team: sum(share * float(situation.rate[m]) for m in team),
                "currency",
            ),
            "workload": (
                Importance(0, 0, 1, 0),
                lambda team: float(sum(after[m] for m in team)) / size,
                "percent, mean",
            ),
            "score": (
                Importance(1, 0, 0, 0),
                lambda team: float(sum(situation.score[m] for m in team)) / size,
                "mean score",
            ),
        }
        for name, (importance, measure, unit) in measures.items():
            best = find_team(situation, demands, importance, sizes=[size], time_limit=0.2)
            if best.team is not None:
                here, there = measure(members), measure(best.team.members)
                found.append(
                    {
                        "criterion": name,
                        "value": round(here, 4),
                        "best_alone": round(there, 4),
                        "unit": unit,
                    }
                )
        return found

    def _records(self, world: World) -> tuple[list[Person], list[Outcome]]:
        def parse() -> tuple[list[Person], list[Outcome]]:
            return (
                [Person.model_validate(orjson.loads(raw)) for raw in world.people],
                [Outcome.model_validate(orjson.loads(raw)) for raw in world.outcomes],
            )

        return self._remember(self._parsed, world.key, parse)

    def _history(self, world: World) -> History:
        parameters = world.parameters
        key = (
            world.key,
            world.now,
            parameters.half_life_days,
            parameters.prior_strength,
            tuple(sorted(world.success.items())),
        )
        return self._remember(
            self._histories,
            key,
            lambda: History.of(
                self._records(world)[1], world.now, half_life_days=parameters.half_life_days,
                prior_strength=parameters.prior_strength, given=world.success,
            ),
        )  # fmt: skip

    def _matcher(self, world: World) -> Matcher:
        key = (world.key, world.parameters.similarity, len(world.vectors))
        return self._remember(
            self._matchers, key, lambda: Matcher(world.parameters.similarity, world.vectors)
        )

    def _remember(self, memory: OrderedDict[Any, Any], key: Any, make: Any) -> Any:
        with self._lock:
            if key in memory:
                memory.move_to_end(key)
                return memory[key]
        value = make()
        with self._lock:
            memory[key] = value
            while len(memory) > REMEMBERED:
                memory.popitem(last=False)
        return value

    def _situation(self, world: World, task: Task) -> tuple[Situation, Matcher]:
        people, _ = self._records(world)
        matcher = self._matcher(world)
        return Situation.of(
            task, people, matcher, self._history(world), world.parameters, world.now
        ), matcher


class Progress:
    """Writes a plan's progress to a hash in Redis twice a second, and sets `stop` when
    the hash asks for it.
    """

    def __init__(self, door: Any, key: Any, stop: threading.Event) -> None:
        self._door, self._key, self._stop = door, key, stop
        self._started = time.monotonic()
        self._latest: dict[str, Any] | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._follow()), daemon=True)
        if door is not None:
            self._thread.start()

    def report(self, objective: float, bound: float | None) -> None:
        gap = None if bound is None else max(0.0, objective - bound) / max(abs(objective), 1e-9)
        seconds = round(time.monotonic() - self._started, 2)
        self._latest = {"objective": objective, "bound": bound, "gap": gap, "seconds": seconds}

    def close(self) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(2)

    async def _follow(self) -> None:
        while not self._ended.is_set():
            if self._latest is not None:
                await self._door.hset(self._key, mapping={"progress": orjson.dumps(self._latest)})
            if await self._door.hget(self._key, "cancel"):
                self._stop.set()
            await asyncio.sleep(0.25)
