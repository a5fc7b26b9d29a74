"""Scenarios: named changes of a tenant's records, to plan with before they are made."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date
from typing import Annotated, Any

import orjson
from pydantic import AwareDatetime, Field, ValidationError, model_validator

from shoal import Identifier, Invalid, JsonObject, NotFound, TenantContext, validation_errors

from .checks import RequestBody
from .inputs import PlanningInputs
from .parameters import OptimizerParameters
from .records import Hours, Leave, Person, Task
from .store import RecordStore, encode, fingerprint

MAX_SCENARIOS = 100


class PersonLeave(RequestBody):
    """Days on which somebody is absent, both inclusive, beside their other leave."""

    person: Identifier
    start: date = Field(alias="from")
    end: date = Field(alias="to")

    @model_validator(mode="after")
    def _check_order(self) -> "PersonLeave":
        if self.end < self.start:
            raise ValueError("leave must not end before it begins")
        return self


class TaskChange(RequestBody):
    """What is different about a task; what is not given stays."""

    task: Identifier
    start: AwareDatetime | None = None
    deadline: AwareDatetime | None = None
    estimated_hours: Hours | None = None
    priority: Annotated[int, Field(ge=1, le=5)] | None = None


class Scenario(RequestBody):
    """What is different from the records that are stored."""

    people: list[Person] = Field([], max_length=200, description="Added, or in place of others.")
    remove: list[Identifier] = Field([], max_length=200, description="People who are not there.")
    leave: list[PersonLeave] = Field([], max_length=1000)
    tasks: list[TaskChange] = Field([], max_length=1000)
    parameters: JsonObject = Field({}, description="Parameters of the optimizer, by name.")

    @model_validator(mode="after")
    def _check_people(self) -> "Scenario":
        if not all(person.id for person in self.people):
            raise ValueError("each of the people needs an id")
        return self

    @property
    def concerned(self) -> set[str]:
        """The people who are different."""
        return {
            *(person.id for person in self.people),
            *self.remove,
            *(leave.person for leave in self.leave),
        }


async def put_scenario(ctx: TenantContext, name: str, scenario: Scenario) -> None:
    """Store a scenario.

    Raises:
        Invalid: Its parameters are not valid, or there are too many scenarios.
    """
    apply_parameters(scenario, ctx.parameters(OptimizerParameters))
    store = RecordStore(ctx)
    names = await store.ids("scenarios")
    if name not in names and len(names) >= MAX_SCENARIOS:
        raise Invalid(f"there are {MAX_SCENARIOS} scenarios already; delete one")
    await store.put("scenarios", {name: encode(scenario)})


async def get_scenario(ctx: TenantContext, name: str) -> Scenario:
    """A stored scenario.

    Raises:
        NotFound: There is none of this name.
    """
    raw = await RecordStore(ctx).get("scenarios", name)
    if raw is None:
        raise NotFound(f"scenario {name!r} not found")
    return Scenario.model_validate_json(raw)


def apply_parameters(scenario: Scenario, parameters: OptimizerParameters) -> OptimizerParameters:
    """The parameters with those of a scenario.

    Raises:
        Invalid: They are not valid.
    """
    try:
        return OptimizerParameters.model_validate(
            {**parameters.model_dump(), **scenario.parameters}
        )
    except ValidationError as error:
        errors = validation_errors(error)
        errors = [{**fault, "location": f"parameters.{fault['location']}"} for fault in errors]
        raise Invalid(errors[0]["message"], errors=errors) from None


def changed_people(scenario: Scenario, people: Mapping[str, bytes]) -> dict[str, bytes | None]:
    """Person → the raw record that a scenario gives them, None for one who is removed.

    Args:
        scenario: The scenario.
        people: Those whom it concerns, raw, by id.

    Raises:
        Invalid: The leave is somebody's who does not exist.
    """
    changed: dict[str, bytes | None] = {person.id: encode(person) for person in scenario.people}
    changed |= dict.fromkeys(scenario.remove)
    for n, leave in enumerate(scenario.leave):
        raw = changed.get(leave.person, people.get(leave.person))
        if raw is None:
            raise Invalid.at(f"leave.{n}.person", f"there is no person {leave.person!r}")
        person = Person.model_validate_json(raw)
        away = Leave.model_validate({"from": leave.start, "to": leave.end})
        if away not in person.leave:
            person = person.model_copy(update={"leave": (*person.leave, away)})
        changed[leave.person] = encode(person)
    return {id: raw for id, raw in changed.items() if raw != people.get(id)}


def changed_tasks(scenario: Scenario, tasks: Mapping[str, bytes]) -> dict[str, bytes]:
    """Task → the raw record that a scenario gives it, of those among `tasks`.

    Raises:
        Invalid: A task would not be valid.
    """
    changed = {}
    for n, change in enumerate(scenario.tasks):
        if (raw := tasks.get(change.task)) is not None:
            fields = change.model_dump(exclude={"task"}, exclude_none=True)
            changed[change.task] = encode(_changed_task(n, raw, fields))
    return {id: raw for id, raw in changed.items() if raw != tasks[id]}


def apply_scenario(scenario: Scenario, inputs: PlanningInputs) -> PlanningInputs:
    """The inputs of a solve with the people and parameters of a scenario."""
    people = dict(zip(inputs.ids, inputs.people, strict=True))
    merged = {**people, **changed_people(scenario, people)}
    kept = {id: raw for id, raw in sorted(merged.items()) if raw is not None}
    return replace(
        inputs,
        key=(*inputs.key, fingerprint(orjson.dumps([raw.decode() for raw in kept.values()]))),
        ids=list(kept),
        people=list(kept.values()),
        parameters=apply_parameters(scenario, inputs.parameters),
    )


def _changed_task(n: int, raw: bytes, fields: Mapping[str, Any]) -> Task:
    task = Task.model_validate_json(raw)
    for field in ("start", "deadline"):
        if field in fields:
            fields = {**fields, field: fields[field].astimezone(UTC)}
    try:
        return Task.model_validate({**task.model_dump(by_alias=True), **fields})
    except ValidationError as error:
        fault: Sequence[dict[str, Any]] = validation_errors(error)
        raise Invalid.at(f"tasks.{n}", fault[0]["message"]) from None
