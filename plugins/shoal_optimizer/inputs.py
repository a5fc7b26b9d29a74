"""What a solve needs of a tenant, cached by the version of its records."""

from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from shoal import Operations, ShoalError, TenantContext

from .parameters import OptimizerParameters
from .records import Task
from .skills import normalize_skill
from .store import RecordStore

MAX_TENANTS = 16
MAX_MODELS = 10_000
"""Tenants whose model is remembered."""
MAX_NAMES = 5000
"""Names of skills that are embedded for one request."""
EMBED_BATCH = 128
FEATURE_BATCH = 100
STEP = timedelta(minutes=5)
"""Times are rounded down to it, so that results for a moment serve later requests."""


@dataclass(frozen=True)
class PlanningInputs:
    """A tenant's records at a moment, as they travel to the solver.

    Attributes:
        key: The tenant and the version of its records: a replica parses them once. In a
            scenario also a digest of its people.
        ids: The ids of `people`.
        people: Raw JSON.
        outcomes: Raw JSON.
        assigned: The tasks that have a team, as raw JSON; those on all boards.
        assigned_key: The version of `assigned`.
        parameters: The caller's parameters.
        now: The moment at which the work begins.
        vectors: Name of a skill → embedding.
        model: The model that made the embeddings.
        success: (person, type of task) → past success from the feature store.
    """

    key: tuple[str | int, ...]
    ids: Sequence[str]
    people: Sequence[bytes]
    outcomes: Sequence[bytes]
    assigned: Sequence[bytes]
    assigned_key: int
    parameters: OptimizerParameters
    now: datetime
    vectors: Mapping[str, Sequence[float]] = field(default_factory=dict)
    model: str = ""
    success: Mapping[tuple[str, str], float] = field(default_factory=dict)

    def assigned_to(self, people: Collection[str]) -> list[Task]:
        """The tasks that have some of these people in their team."""
        return [
            Task.model_validate_json(raw)
            for raw in self.assigned
            if not set(people).isdisjoint(orjson.loads(raw)["team"])
        ]


def rounded_now() -> datetime:
    """The current time, rounded down to STEP."""
    now = datetime.now(UTC)
    return now - timedelta(seconds=now.timestamp() % STEP.total_seconds())


class InputsLoader:
    """Loads the inputs of a request; records are read again when they have changed."""

    def __init__(self) -> None:
        self._records: OrderedDict[str, PlanningInputs] = OrderedDict()
        self._success: OrderedDict[Any, dict[str, float]] = OrderedDict()
        self._vectors: OrderedDict[tuple[str, str], list[float]] = OrderedDict()
        """By model and name."""
        self._models: OrderedDict[str, tuple[str, datetime]] = OrderedDict()
        """Tenant → the model that it had at a moment."""
        self._skills: tuple[tuple[str | int, ...] | None, set[str]] = (None, set())

    async def load(
        self,
        ctx: TenantContext,
        tasks: Sequence[bytes],
        change: Callable[[PlanningInputs], PlanningInputs] = lambda inputs: inputs,
    ) -> PlanningInputs:
        """The inputs for these tasks (raw JSON).

        Args:
            ctx: The caller's context.
            tasks: The tasks.
            change: What a scenario makes of the records.
        """
        inputs = change(await self._load_records(ctx))
        parsed = [orjson.loads(raw) for raw in tasks]
        names = {normalize_skill(need["skill"]) for task in parsed for need in task["skills"]}
        types = {task["type"] for task in parsed}
        model, vectors = await self._load_vectors(ctx, inputs, names)
        return replace(
            inputs,
            vectors=vectors,
            model=model,
            success=await self._load_success(ctx, inputs, types),
        )

    async def _load_records(self, ctx: TenantContext) -> PlanningInputs:
        store = RecordStore(ctx)
        version, assigned_key = await store.versions()
        key = (ctx.tenant, version)
        cached = self._records.get(ctx.tenant)
        parameters, now = ctx.parameters(OptimizerParameters), rounded_now()
        if cached is None or cached.key != key:
            people, outcomes = await store.get_all("people"), await store.get_all("outcomes")
            inputs = PlanningInputs(
                key,
                list(people),
                list(people.values()),
                list(outcomes.values()),
                (),
                -1,
                parameters,
                now,
            )
        else:
            inputs = replace(cached, parameters=parameters, now=now)
        if inputs.assigned_key != assigned_key:
            assigned = list((await store.get_all("assigned")).values())
            inputs = replace(inputs, assigned=assigned, assigned_key=assigned_key)
        self._records[ctx.tenant] = inputs
        _shrink(self._records, MAX_TENANTS)
        return inputs

    async def _load_success(
        self, ctx: TenantContext, inputs: PlanningInputs, types: set[str]
    ) -> dict[tuple[str, str], float]:
        """Past success from `features`, where the tenant has defined it there.

        What is missing there is computed from the stored outcomes.
        """
        features = ctx.as_service().capability("features")  # about people, not shown
        if features is None or not inputs.people:
            return {}
        found: dict[tuple[str, str], float] = {}
        for type in sorted(types):
            key = (*inputs.key, type, inputs.now)
            if key not in self._success:
                self._success[key] = await _read_success(features, inputs.ids, type)
                _shrink(self._success, 8 * MAX_TENANTS)
            found |= {(person, type): value for person, value in self._success[key].items()}
        return found

    async def _load_vectors(
        self, ctx: TenantContext, inputs: PlanningInputs, names: set[str]
    ) -> tuple[str, dict[str, list[float]]]:
        """Embeddings of skills from `search`, and their model.

        There are none when `search` is not available. The tenant's model is asked for
        again at every STEP, so that no two models are compared for longer.
        """
        search = ctx.as_service().capability("search")
        if search is None or not names:
            return "", {}
        names = names | self._names_of_skills(inputs)
        model, moment = self._models.get(ctx.tenant, ("", None))
        missing = self._missing(model, names)
        if not missing and moment != inputs.now:
            missing = [min(names)]
        try:
            while missing:
                texts, missing = missing[:EMBED_BATCH], missing[EMBED_BATCH:]
                answer = await search.embed(body={"texts": texts})
                rows = zip(texts, answer["vectors"], strict=True)
                self._vectors.update({(answer["model"], name): vector for name, vector in rows})
                if answer["model"] != model:
                    model = answer["model"]
                    missing = self._missing(model, names)
            self._models[ctx.tenant] = (model, inputs.now)
        except ShoalError:
            pass  # Skills then match by word and synonym.
        _shrink(self._vectors, 4 * MAX_NAMES)
        _shrink(self._models, MAX_MODELS)
        found = ((name, self._vectors.get((model, name))) for name in sorted(names))
        return model, {name: vector for name, vector in found if vector is not None}

    def _missing(self, model: str, names: set[str]) -> list[str]:
        """Names without an embedding by a model."""
        return sorted(name for name in names if (model, name) not in self._vectors)[:MAX_NAMES]

    def _names_of_skills(self, inputs: PlanningInputs) -> set[str]:
        """The names of all people's skills; those of the last inputs are cached."""
        key, names = self._skills
        if key != inputs.key:
            names = {
                normalize_skill(name)
                for raw in inputs.people
                for name in orjson.loads(raw)["skills"]
            }
            self._skills = (inputs.key, names)
        return names


def _shrink(cache: OrderedDict[Any, Any], size: int) -> None:
    while len(cache) > size:
        cache.popitem(last=False)


async def _read_success(features: Operations, ids: Sequence[str], type: str) -> dict[str, float]:
    """Person → past success, by the first of two features that is defined."""
    for name in (f"past_success_{type}", "past_success"):
        found: dict[str, float] = {}
        try:
            for at in range(0, len(ids), FEATURE_BATCH):
                batch = ids[at : at + FEATURE_BATCH]
                answer = await features.batch(entity="person", ids=batch, features=[name])
                for id, row in zip(batch, answer["results"], strict=True):
                    value = row["features"].get(name)
                    if isinstance(value, int | float) and 0 <= value <= 1:
                        found[id] = float(value)
        except ShoalError:
            continue
        return found
    return {}
