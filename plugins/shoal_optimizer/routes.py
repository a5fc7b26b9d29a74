"""The HTTP operations that solve: candidates, recommendations and plans."""

from collections.abc import Collection
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, ConfigDict, Field

from shoal import (
    Conflict,
    Cursor,
    Identifier,
    Invalid,
    Services,
    TenantContext,
    read_cursor,
    requires,
    write_cursor,
)

from . import bodies, decisions, record_routes
from .inputs import InputsLoader, PlanningInputs
from .parameters import OptimizerParameters
from .plan_runs import PlanRuns, cancel_run, read_run
from .record_routes import Limit
from .records import Person
from .responses import json_response
from .store import RecordStore
from .tasks import get_task, is_visible

MAX_PEOPLE = 5000
MAX_TASKS = 1000
CONFLICT: dict[int | str, dict[str, Any]] = {409: {}}


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Pin(Body):
    task: Identifier
    person: Identifier
    pin: Literal["in", "out"] = "in"


class PlanRequest(Body):
    """Without `tasks`, all open ones are planned.

    Changes to the teams in `previous` (task → team) have a cost. With `wait` false the
    answer comes immediately, and the plan can be polled at /plans/{id}.
    """

    tasks: list[Identifier] | None = Field(None, max_length=MAX_TASKS)
    pins: list[Pin] = Field([], max_length=2_000)
    previous: dict[Identifier, Annotated[list[Identifier], Field(max_length=50)]] | None = Field(
        None, max_length=MAX_TASKS
    )
    one_each: bool = Field(
        False, description="At most one task for each person, one person for each task."
    )
    time_limit: float | None = Field(None, gt=0, le=300, description="Seconds.")
    wait: bool = True


class Assignment(Body):
    people: list[Identifier] = Field(min_length=1, max_length=50)
    override: bool = False
    reason: str = Field("", max_length=1000)


class OptimizerRoutes:
    """The operations, over one cache of inputs per process and the solver's backend."""

    def __init__(self, services: Services) -> None:
        self.solver = services.backend("solver")
        self.inputs = InputsLoader()
        self.plans = PlanRuns(self.solver)

    async def candidates(
        self,
        id: Identifier,
        limit: Limit = 100,
        cursor: Cursor = None,
        ctx: TenantContext = Depends(requires("read:boards")),
    ) -> Response:
        """Score everyone for a task, the best first.

        By default score = 0.5 · skill match + 0.3 · availability + 0.2 · past success.
        """
        _, raw = await get_task(ctx, id)
        rows = await self.solver.candidates(await self.inputs.load(ctx, [raw]), raw)
        start = read_cursor("optimizer.candidates", cursor, int) or 0
        end = start + limit
        more = write_cursor("optimizer.candidates", end) if end < len(rows) else None
        return json_response(
            {"task": id, "candidates": rows[start:end], "total": len(rows), "cursor": more}
        )

    async def recommend(
        self, id: Identifier, ctx: TenantContext = Depends(requires("write:boards"))
    ) -> Response:
        """Recommend the best team for a task, proved and explained.

        Where there is none, the answer says why, and what would make one possible. For
        a broken assignment it is a repair: as few people as possible change.
        """
        task, raw = await get_task(ctx, id)
        inputs = await self.inputs.load(ctx, [raw])
        _check_size(inputs)
        record = await decisions.recommend(ctx, self.solver, inputs, task, raw)
        return json_response(decisions.public(record))

    async def get_recommendation(
        self, id: Identifier, ctx: TenantContext = Depends(requires("read:boards"))
    ) -> Response:
        """Get a recommendation and the decision on it."""
        recommendation = await decisions.get_recommendation(ctx, id)
        return json_response(decisions.public(recommendation.record))

    async def accept(
        self, id: Identifier, ctx: TenantContext = Depends(requires("write:boards"))
    ) -> Response:
        """Commit the recommended team. Accepting twice is the same as once.

        409 when anyone in the team, or the task, has changed since, or when the team
        now breaks a rule.
        """
        recommendation = await decisions.get_recommendation(ctx, id)
        inputs = await self.inputs.load(ctx, [recommendation.task_raw])
        record = await decisions.accept(ctx, inputs, recommendation)
        return json_response(decisions.public(record))

    async def alternative(
        self, id: Identifier, ctx: TenantContext = Depends(requires("write:boards"))
    ) -> Response:
        """Recommend the next best team, never one that was shown before.

        `status` is "none" when there is no other.
        """
        recommendation = await decisions.get_recommendation(ctx, id)
        inputs = await self.inputs.load(ctx, [recommendation.task_raw])
        record = await decisions.suggest_alternative(ctx, self.solver, inputs, recommendation)
        return json_response(decisions.public(record))

    async def assign(
        self,
        id: Identifier,
        body: Assignment,
        ctx: TenantContext = Depends(requires("write:boards")),
    ) -> Response:
        """Assign a team manually.

        422 when it violates a rule, with the amount; `override` assigns it anyway, and
        the violations are recorded.
        """
        _check_distinct("people", body.people)
        recommendation = await decisions.get_recommendation(ctx, id)
        inputs = await self.inputs.load(ctx, [recommendation.task_raw])
        record = await decisions.assign(
            ctx, inputs, recommendation, body.people, body.override, body.reason
        )
        return json_response(decisions.public(record))

    async def plan(
        self,
        body: PlanRequest | None = None,
        ctx: TenantContext = Depends(requires("write:boards")),
    ) -> Response:
        """Plan tasks against all people together."""
        body = body or PlanRequest.model_validate({})
        tasks = await _tasks_to_plan(ctx, body)
        inputs = await self.inputs.load(ctx, list(tasks.values()))
        _check_size(inputs)
        _check_pins(body.pins, tasks, set(inputs.ids))
        options = body.model_dump(include={"pins", "previous", "one_each"})
        options["time_limit"] = (
            body.time_limit or ctx.parameters(OptimizerParameters).plan_time_limit
        )
        run = await self.plans.create(ctx, inputs, tasks, options)
        if body.wait:
            return json_response({"state": "done", **await self.plans.solve(ctx, run)})
        self.plans.solve_in_background(ctx, run)
        return json_response({"id": run.id, "state": "running"}, 202)

    async def get_plan(
        self,
        id: Identifier,
        ctx: TenantContext = Depends(requires("read:own", others="read:tenant")),
    ) -> Response:
        """Get a plan: state, progress (objective, bound, gap, seconds) and result."""
        return json_response(await read_run(ctx, id))

    async def cancel_plan(
        self,
        id: Identifier,
        ctx: TenantContext = Depends(requires("write:own", others="write:tenant")),
    ) -> Response:
        """Cancel a running plan; it ends within a second with the best found so far."""
        return json_response({"id": id, "state": await cancel_run(ctx, id)}, 202)

    async def check_team(
        self,
        id: Identifier,
        body: Assignment,
        ctx: TenantContext = Depends(requires("read:boards")),
    ) -> Response:
        """Tell what a team would violate for a task, and by how much."""
        task, raw = await get_task(ctx, id)
        inputs = await self.inputs.load(ctx, [raw])
        stored = await RecordStore(ctx).get_many("people", body.people)
        unknown = [
            {"location": f"people.{n}", "message": f"no person {body.people[n]!r}"}
            for n, found in enumerate(stored)
            if found is None
        ]
        if unknown:
            raise Invalid("; ".join(fault["message"] for fault in unknown), errors=unknown)
        people = [Person.model_validate_json(found) for found in stored if found is not None]
        violations = decisions.team_violations(ctx, inputs, task, people)
        return json_response({"violations": violations})


def routes(services: Services) -> APIRouter:
    """The capability's router."""
    handlers, router = OptimizerRoutes(services), APIRouter()
    router.include_router(record_routes.router)
    recommendation = _answer(bodies.Recommendation)
    decision = {**recommendation, **CONFLICT}
    alternative = {**_answer(bodies.Recommendation | bodies.NoAlternative), **CONFLICT}
    plan = {**_answer(bodies.FinishedPlan), **_answer(bodies.PlanState, 202)}
    cancelled = {**_answer(bodies.PlanState, 202), **CONFLICT}
    router.get("/tasks/{id}/candidates", responses=_answer(bodies.Candidates))(handlers.candidates)
    router.post("/tasks/{id}/recommendation", responses=decision)(handlers.recommend)
    router.get("/recommendations/{id}", responses=recommendation)(handlers.get_recommendation)
    router.post("/recommendations/{id}/accept", responses=decision)(handlers.accept)
    router.post("/recommendations/{id}/alternative", responses=alternative)(handlers.alternative)
    router.post("/recommendations/{id}/assign", responses=decision)(handlers.assign)
    router.post("/plan", responses={**plan, **CONFLICT, 404: {}})(handlers.plan)
    router.get("/plans/{id}", responses=_answer(bodies.PlanRun))(handlers.get_plan)
    router.delete("/plans/{id}", status_code=202, responses=cancelled)(handlers.cancel_plan)
    router.post(
        "/violations/{id}",
        openapi_extra={"x-shoal-safe": True},
        responses=_answer(bodies.Violations),
    )(handlers.check_team)
    return router


def _answer(model: Any, status: int = 200) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": model}}


async def _tasks_to_plan(ctx: TenantContext, body: PlanRequest) -> dict[str, bytes]:
    """The named tasks, or every open one that the caller may see; id → raw JSON."""
    if body.tasks is not None:
        _check_distinct("tasks", body.tasks)
        tasks = {id: await get_task(ctx, id) for id in body.tasks}
        if closed := [id for id, (task, _) in tasks.items() if task.state != "open"]:
            raise Conflict(f"not open: {', '.join(closed)}")
        return {id: raw for id, (_, raw) in tasks.items()}
    found = {}
    for id, raw in (await RecordStore(ctx).get_all("tasks")).items():
        row = orjson.loads(raw)
        if row["state"] == "open" and is_visible(ctx, row["board_id"]):
            found[id] = raw
    if len(found) > MAX_TASKS:
        raise Invalid(
            f"{len(found):,} open tasks; at most {MAX_TASKS:,} can be planned together: "
            "name some in `tasks`"
        )
    return found


def _check_distinct(location: str, ids: Collection[str]) -> None:
    if len(set(ids)) < len(ids):
        raise Invalid(
            f"{location} must be distinct",
            errors=[{"location": location, "message": "must be distinct"}],
        )


def _check_pins(pins: list[Pin], tasks: Collection[str], people: Collection[str]) -> None:
    errors: list[dict[str, Any]] = []
    for n, pin in enumerate(pins):
        for field, value, known in (("task", pin.task, tasks), ("person", pin.person, people)):
            if value not in known:
                message = f"{field} {value!r} is not in this plan"
                errors.append({"location": f"pins.{n}.{field}", "message": message})
    seen: dict[tuple[str, str], str] = {}
    for n, pin in enumerate(pins):
        if seen.setdefault((pin.task, pin.person), pin.pin) != pin.pin:
            message = f"person {pin.person!r} is pinned both in and out of task {pin.task!r}"
            errors.append({"location": f"pins.{n}", "message": message})
    if errors:
        raise Invalid(errors[0]["message"], errors=errors)


def _check_size(inputs: PlanningInputs) -> None:
    if len(inputs.people) > MAX_PEOPLE:
        raise Invalid(f"{len(inputs.people):,} people; one solve takes at most {MAX_PEOPLE:,}")
