"""The HTTP operations on plans."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Depends, Query, Response
from pydantic import Field

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

from . import bodies
from .checks import RequestBody, check_distinct, check_people
from .forecast import Grouping
from .inputs import InputsLoader, PlanningInputs
from .plan.terms import compare
from .plan_acceptance import accept_plan, read_plan
from .plan_runs import PlanRuns, cancel_run, read_run, read_runs, read_terms
from .record_routes import Limit
from .records import Task
from .responses import answers, json_response
from .scenarios import apply_scenario, get_scenario
from .store import RecordStore, encode, fingerprint
from .tasks import get_task, is_visible, with_team

MAX_TASKS = 1000


class Pin(RequestBody):
    task: Identifier
    person: Identifier
    pin: Literal["in", "out"] = "in"


class PlanRequest(RequestBody):
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
    scenario: Identifier | None = Field(None, description="Plan with what this changes.")
    time_limit: float | None = Field(None, gt=0, le=300, description="Seconds.")
    wait: bool = True


class Acceptance(RequestBody):
    """Which tasks of a plan are accepted, by default all that have a team."""

    tasks: list[Identifier] | None = Field(None, max_length=MAX_TASKS)
    partial: bool = Field(
        False, description="Accept the others where some no longer fit, instead of none."
    )


class PlanRoutes:
    """The operations, over one cache of inputs per process and the solver's backend."""

    def __init__(self, services: Services, inputs: InputsLoader) -> None:
        self.inputs = inputs
        self.solver = services.backend("solver")
        self.plans = PlanRuns(self.solver)

    async def plan(
        self,
        body: PlanRequest | None = None,
        ctx: TenantContext = Depends(requires("write:boards")),
    ) -> Response:
        """Plan tasks against all people together."""
        body = body or PlanRequest.model_validate({})
        scenario = None
        if body.scenario is not None:
            ctx.require("read:tenant")
            scenario = await get_scenario(ctx, body.scenario)
        tasks = await _tasks_to_plan(ctx, body)
        change = (lambda inputs: inputs) if scenario is None else partial(apply_scenario, scenario)
        inputs = await self.inputs.load(ctx, list(tasks.values()), change)
        check_people(inputs)
        _check_pins(body.pins, tasks, set(inputs.ids))
        options = body.model_dump(include={"pins", "previous", "one_each"})
        options["time_limit"] = body.time_limit or inputs.parameters.plan_time_limit
        run = await self.plans.create(ctx, inputs, tasks, options, scenario)
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

    async def list_plans(
        self,
        limit: Limit = 100,
        cursor: Cursor = None,
        ctx: TenantContext = Depends(requires("read:own", others="read:tenant")),
    ) -> Response:
        """List the plans of the last week, the latest first."""
        before = read_cursor("optimizer.plans", cursor, str)
        ids = [id for id in await RecordStore(ctx).ids("plans") if before is None or id < before]
        ids.reverse()
        page = ids[:limit]
        more = write_cursor("optimizer.plans", page[-1]) if len(ids) > limit else None
        return json_response({"plans": await read_runs(ctx, page), "cursor": more})

    async def score_plan(
        self,
        id: Identifier,
        against: Identifier | None = None,
        limit: Limit = 100,
        cursor: Cursor = None,
        ctx: TenantContext = Depends(requires("read:own", others="read:tenant")),
    ) -> Response:
        """Tell the terms that a plan's objective is the sum of, the largest first.

        With `against` they are compared with another plan's, the most different first.
        """
        now = await read_terms(ctx, id)
        before = None if against is None else await read_terms(ctx, against)
        constraints, rows = await asyncio.to_thread(compare, now, before)
        start = read_cursor("optimizer.score", cursor, int) or 0
        end = start + limit
        answer = {
            "plan": id,
            "against": against,
            "objective": sum(now.values()),
            "constraints": constraints,
            "terms": rows[start:end],
            "total": len(rows),
            "cursor": write_cursor("optimizer.score", end) if end < len(rows) else None,
        }
        return json_response(answer)

    async def load(
        self,
        weeks: Annotated[int, Query(ge=1, le=53)] = 13,
        by: Grouping = "person",
        plan: Annotated[
            Identifier | None, Query(description="Count this plan's teams as committed.")
        ] = None,
        limit: Limit = 1000,
        cursor: Cursor = None,
        ctx: TenantContext = Depends(requires("read:tenant")),
    ) -> Response:
        """Forecast capacity and load by week: per person, skill, or in total.

        Committed work is spread evenly over the working time of its window.
        `open_hours` are those of tasks without a team, spread over their windows.
        """
        inputs = await self.inputs.load(ctx, [])
        tasks = await _open_tasks(ctx)
        if plan is not None:
            planned = await read_plan(ctx, plan, None)
            teams = {id: team for id, team in planned.teams.items() if id in tasks}
            inputs = await asyncio.to_thread(_with_teams, inputs, tasks, teams)
            tasks = {id: raw for id, raw in tasks.items() if id not in teams}
        rows = await self.solver.forecast(inputs, list(tasks.values()), weeks, by)
        start = read_cursor("optimizer.load", cursor, int) or 0
        end = start + limit
        more = write_cursor("optimizer.load", end) if end < len(rows) else None
        return json_response({"weeks": rows[start:end], "total": len(rows), "cursor": more})

    async def accept_plan(
        self,
        id: Identifier,
        body: Acceptance | None = None,
        ctx: TenantContext = Depends(requires("write:boards")),
    ) -> Response:
        """Commit the teams of a plan in one step. Accepting twice is the same as once.

        A scenario's changes of people and tasks are made in the same step. 409 when a
        task or a team no longer fits: then nothing is accepted, and the errors say
        which and why. With `partial`, the others are accepted.
        """
        body = body or Acceptance.model_validate({})
        plan = await read_plan(ctx, id, body.tasks)
        inputs = await self.inputs.load(ctx, list(plan.tasks.values()))
        return json_response(await accept_plan(ctx, inputs, plan, body.partial))


def routes(services: Services, inputs: InputsLoader) -> APIRouter:
    """The operations on plans."""
    handlers, router = PlanRoutes(services, inputs), APIRouter()
    plan = {**answers(bodies.FinishedPlan), **answers(bodies.PlanState, 202), 404: {}, 409: {}}
    cancelled = {**answers(bodies.PlanState, 202), 409: {}}
    accepted = {**answers(bodies.AcceptedPlan), 409: {}}
    router.post("/plan", responses=plan)(handlers.plan)
    router.get("/load", responses=answers(bodies.Forecast))(handlers.load)
    router.get("/plans", responses=answers(bodies.Plans))(handlers.list_plans)
    router.get("/plans/{id}", responses=answers(bodies.PlanRun))(handlers.get_plan)
    scored = {**answers(bodies.PlanScore), 409: {}}
    router.get("/plans/{id}/score", responses=scored)(handlers.score_plan)
    router.delete("/plans/{id}", status_code=202, responses=cancelled)(handlers.cancel_plan)
    router.post("/plans/{id}/accept", responses=accepted)(handlers.accept_plan)
    return router


async def _tasks_to_plan(ctx: TenantContext, body: PlanRequest) -> dict[str, bytes]:
    """The named tasks, or every open one that the caller may see; id → raw JSON."""
    if body.tasks is not None:
        check_distinct("tasks", body.tasks)
        tasks = {id: await get_task(ctx, id) for id in body.tasks}
        if closed := [id for id, (task, _) in tasks.items() if task.state != "open"]:
            raise Conflict(f"not open: {', '.join(closed)}")
        return {id: raw for id, (_, raw) in tasks.items()}
    found = await _open_tasks(ctx)
    if len(found) > MAX_TASKS:
        raise Invalid(
            f"{len(found):,} open tasks; at most {MAX_TASKS:,} can be planned together: "
            "name some in `tasks`"
        )
    return found


async def _open_tasks(ctx: TenantContext) -> dict[str, bytes]:
    """Every open task that the caller may see; id → raw JSON."""
    found = {}
    for id, raw in (await RecordStore(ctx).get_all("tasks")).items():
        row = orjson.loads(raw)
        if row["state"] == "open" and is_visible(ctx, row["board_id"]):
            found[id] = raw
    return found


def _with_teams(
    inputs: PlanningInputs,
    tasks: Mapping[str, bytes],
    teams: Mapping[str, Sequence[str]],
) -> PlanningInputs:
    """The inputs as if the teams of a plan were assigned."""
    assigned = [
        encode(with_team(Task.model_validate_json(tasks[id]), team, inputs.now))
        for id, team in teams.items()
    ]
    key = (*inputs.key, fingerprint(b"".join(assigned)))
    return replace(inputs, key=key, assigned=[*inputs.assigned, *assigned])


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
