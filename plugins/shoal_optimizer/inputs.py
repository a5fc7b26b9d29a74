"""What a replica knows of each tenant: raw records by version, and vectors for skills'
names.
"""

from collections import OrderedDict
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from shoal import ShoalError, TenantContext

from .parameters import OptimizerParameters
from .skills import normal
from .solver import World
from .store import Store

REMEMBERED = 16
MOST_NAMES = 5000
STEP = timedelta(minutes=5)
"""Times are taken at full steps, so that what was computed for a moment serves the next
requests too.
"""


def moment() -> datetime:
    now = datetime.now(UTC)
    return now - timedelta(seconds=now.timestamp() % STEP.total_seconds())


class Worlds:
    """Makes the `World` of a request; reads the records again only when their version
    changed.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[str, World] = OrderedDict()
        self._read: OrderedDict[Any, dict[str, float]] = OrderedDict()
        self._vectors: OrderedDict[str, list[float]] = OrderedDict()

    async def of(self, ctx: TenantContext, tasks: list[bytes]) -> World:
        parameters = ctx.parameters(OptimizerParameters)
        store = Store(ctx)
        version = await store.version()
        known = self._known.get(ctx.tenant)
        if known is None or known.key[1] != version:
            people, outcomes = await store.all("people"), await store.all("outcomes")
            known = World(
                (ctx.tenant, version),
                list(people),
                list(people.values()),
                list(outcomes.values()),
                parameters,
                moment(),
            )
            self._known[ctx.tenant] = known
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        vectors = await self._embedded(ctx, known, tasks)
        success = await self._success(ctx, known, tasks)
        return World(
            known.key,
            known.ids,
            known.people,
            known.outcomes,
            parameters,
            moment(),
            vectors,
            success,
        )

    async def _success(
        self, ctx: TenantContext, world: World, tasks: list[bytes]
    ) -> dict[tuple[str, str], float]:
        """Past success from `features`, where a tenant has defined it there: the
        feature `past_success_<type>` or `past_success` of the entity `person`. What it
        does not hold is computed from the outcomes kept here.
        """
        features = ctx.capability("features")
        if features is None or not world.people:
            return {}
        found: dict[tuple[str, str], float] = {}
        for kind in sorted({orjson.loads(raw)["type"] for raw in tasks}):
            key = (ctx.tenant, kind, world.key[1], moment())
            if key not in self._read:
                self._read[key] = await _past_success(features, world, kind)
                while len(self._read) > REMEMBERED * 8:
                    self._read.popitem(last=False)
            found |= {(person, kind): value for person, value in self._read[key].items()}
        return found

    async def _embedded(
        self, ctx: TenantContext, world: World, tasks: list[bytes]
    ) -> dict[str, list[float]]:
        """Vectors for the names of skills, from `search` where it runs; without it,
        words and synonyms must do.
        """
        search = ctx.capability("search")
        if search is None:
            return {}
        names = {normal(r["skill"]) for raw in tasks for r in orjson.loads(raw)["skills"]}
        if not names:
            return {}
        names |= self._skills(world)
        missing = sorted(name for name in names if name not in self._vectors)[:MOST_NAMES]
        try:
            for at in range(0, len(missing), 128):
                some = missing[at : at + 128]
                answer: Any = await search.embed(body={"texts": some})
                self._vectors.update(zip(some, answer["vectors"], strict=True))
        except ShoalError:
            pass
        while len(self._vectors) > 4 * MOST_NAMES:
            self._vectors.popitem(last=False)
        return {name: self._vectors[name] for name in sorted(names) if name in self._vectors}

    def _skills(self, world: World) -> set[str]:
        if getattr(self, "_names_of", None) != world.key:
            self._names = {
                normal(name) for raw in world.people for name in orjson.loads(raw)["skills"]
            }
            self._names_of = world.key
        return self._names


async def _past_success(features: Any, world: World, kind: str) -> dict[str, float]:
    """Person → past success on this kind of task, for those for whom the feature store
    holds one.
    """
    ids = world.ids
    for name in (f"past_success_{kind}", "past_success"):
        found: dict[str, float] = {}
        try:
            for at in range(0, len(ids), 100):
                answer = await features.batch(
                    entity="person", ids=ids[at : at + 100], features=[name]
                )
                for id, row in zip(ids[at : at + 100], answer["results"], strict=True):
                    value = row["features"].get(name)
                    if isinstance(value, int | float) and 0 <= value <= 1:
                        found[id] = float(value)
        except ShoalError:
            continue
        return found
    return {}
