"""HTTP: the optimizer of the caller's tenant."""

import asyncio
import logging
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import uuid4

import orjson
from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from shoal import (
    Conflict,
    Event,
    Identifier,
    Invalid,
    NotFound,
    Services,
    ShoalError,
    TenantContext,
    current_tenant,
    reader,
)

from . import decisions
from .decisions import task_of
from .inputs import Worlds
from .intake import SOURCE, checked, hidden, learned, merged, outcome_id, rows, take, unseen, write
from .parameters import OptimizerParameters
from .records import Outcome, Person, Task
from .store import Kind, Store, packed

Id = Annotated[str, Path(min_length=1, max_length=512)]
Limit = Annotated[int, Query(ge=1, le=1000)]
MOST_PEOPLE = 5000
MOST_TASKS = 1000
HIDDEN = ("people_then", "task_then", "shown")
SAFE = {"x-shoal-safe": True}


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Pin(Body):
    task: Identifier
    person: Identifier
    pin: Literal["in", "out"] = "in"


class PlanRequest(Body):
    """Without `tasks`, all open ones. `previous` (task → team) is kept where nothing
    speaks against it. With `wait` false the answer comes at once, and the plan is
    followed at /plans/{id}.
    """

    tasks: list[Identifier] | None = Field(None, max_length=MOST_TASKS)
    pins: list[Pin] = Field([], max_length=10_000)
    previous: dict[Identifier, list[Identifier]] | None = None
    one_each: bool = Field(
        False, description="At most one task for each person, one person for each task."
    )
    time_limit: float | None = Field(None, gt=0, le=300, description="Seconds.")
    wait: bool = True


class Assignment(Body):
    people: list[Identifier] = Field(min_length=1, max_length=50)
    override: bool = False
    reason: str = Field("", max_length=1000)


def routes(services: Services) -> APIRouter:
    router = APIRouter()
    worlds = Worlds()
    solver = services.backend("solver")
    running: set[asyncio.Task[Any]] = set()

    async def put(
        ctx: TenantContext, kind: Kind, model: type[Person] | type[Task], id: str, request: Request
    ) -> Response:
        found = rows(await request.body(), request.headers.get("content-type", ""))
        if len(found) != 1:
            raise Invalid("the body must be one record")
        record = checked(model, found[0], id)
        if not isinstance(record, Task):
            await Store(ctx).put(kind, {id: packed(record)})
            return _raw(packed(record))
        stored = (
            {}
            if hidden(ctx, record)
            else await write(ctx, [id], lambda _, held: merged(record, held))
        )
        if id not in stored:
            raise NotFound("there is no such board that you may see")
        return _raw(packed(merged(record, stored[id])))

    async def listed(ctx: TenantContext, kind: Kind, limit: int, cursor: str) -> Response:
        everything = [
            orjson.loads(raw) for id, raw in (await Store(ctx).all(kind)).items() if id > cursor
        ]
        seen = [
            row for row in everything if row.get("board_id") is None or ctx.may_see(row["board_id"])
        ]
        return _json(
            {kind: seen[:limit], "cursor": seen[limit - 1]["id"] if len(seen) > limit else None}
        )

    # People, tasks, outcomes

    @router.get("/people")
    async def list_people(
        limit: Limit = 100, cursor: str = "", ctx: TenantContext = Depends(current_tenant)
    ) -> Response:
        """People, by id."""
        return await listed(ctx, "people", limit, cursor)

    @router.post("/people", openapi_extra=_body(Person))
    async def add_people(
        request: Request, ctx: TenantContext = Depends(current_tenant)
    ) -> Response:
        """Many people at once: a JSON array, NDJSON, or CSV with a header (`text/csv`)."""
        found = rows(await request.body(), request.headers.get("content-type", ""))
        return _json(await take(ctx, "people", Person, found))

    @router.put("/people/{id}", openapi_extra=_body(Person))
    async def put_person(
        id: Id, request: Request, ctx: TenantContext = Depends(current_tenant)
    ) -> Response:
        """Make or replace a person."""
        return await put(ctx, "people", Person, id, request)

    @router.get("/people/{id}")
    async def get_person(id: Id, ctx: TenantContext = Depends(current_tenant)) -> Response:
        """One person."""
        raw = await Store(ctx).get("people", id)
        if raw is None:
            raise NotFound(f"there is no person {id!r}")
        return _raw(raw)

    @router.delete("/people/{id}", status_code=204)
    async def delete_person(id: Id, ctx: TenantContext = Depends(current_tenant)) -> None:
        """Remove a person."""
        if not await Store(ctx).delete("people", id):
            raise NotFound(f"there is no person {id!r}")

    @router.get("/tasks")
    async def list_tasks(
        limit: Limit = 100, cursor: str = "", ctx: TenantContext = Depends(current_tenant)
    ) -> Response:
        """Tasks, by id."""
        return await listed(ctx, "tasks", limit, cursor)

    @router.post("/tasks", openapi_extra=_body(Task))
    async def add_tasks(request: Request, ctx: TenantContext = Depends(current_tenant)) -> Response:
        """Many tasks at once: a JSON array, NDJSON, or CSV with a header (`text/csv`)."""
        found = rows(await request.body(), request.headers.get("content-type", ""))
        return _json(await take(ctx, "tasks", Task, found))

    @router.put("/tasks/{id}", openapi_extra=_body(Task))
    async def put_task(
        id: Id, request: Request, ctx: TenantContext = Depends(current_tenant)
    ) -> Response:
        """Make or replace a task; its state, team and commitment stay unless they are
        given.
        """
        return await put(ctx, "tasks", Task, id, request)

    @router.get("/tasks/{id}")
    async def get_task(id: Id, ctx: TenantContext = Depends(current_tenant)) -> Response:
        """One task."""
        return _raw((await task_of(ctx, id))[1])

    @router.delete("/tasks/{id}", status_code=204)
    async def delete_task(id: Id, ctx: TenantContext = Depends(current_tenant)) -> None:
        """Remove a task and free what its assignment had committed."""
        if (await write(ctx, [id], lambda _, held: None)).get(id) is None:
            raise NotFound(f"there is no task {id!r}")

    @router.post("/outcomes", openapi_extra=_body(Outcome))
    async def add_outcomes(
        request: Request, ctx: TenantContext = Depends(current_tenant)
    ) -> Response:
        """How tasks went: one outcome, an array, NDJSON or CSV. A finished task frees
        what it had committed.
        """
        found = rows(await request.body(), request.headers.get("content-type", ""))
        if len(found) == 1 and isinstance(found[0], dict):
            outcome = checked(Outcome, found[0])
            outcome = outcome.model_copy(update={"id": outcome.id or outcome_id(outcome)})
            if await unseen(ctx, {outcome.id: outcome}):
                raise NotFound(f"there is no task {outcome.task!r}")
            await Store(ctx).put("outcomes", {outcome.id: packed(outcome)})
            await learned(ctx, [outcome])
            return _json({"accepted": 1, "rejected": []})
        return _json(await take(ctx, "outcomes", Outcome, found))

    # One task

    @router.get("/tasks/{id}/candidates")
    async def candidates(
        id: Id, limit: Limit = 100, cursor: str = "", ctx: TenantContext = Depends(current_tenant)
    ) -> Response:
        """Everybody scored for a task, best first: 0.5 · skill match + 0.3 · (1 −
        workload) + 0.2 · past success.
        """
        _, raw = await task_of(ctx, id)
        world = await worlds.of(ctx, [raw])
        table = await solver.candidates(world, raw)
        at = _offset(cursor)
        more = str(at + limit) if at + limit < len(table) else None
        return _json(
            {"task": id, "candidates": table[at : at + limit], "total": len(table), "cursor": more}
        )

    @router.post("/tasks/{id}/recommendation")
    async def recommend(id: Id, ctx: TenantContext = Depends(current_tenant)) -> Response:
        """The best team for a task, proved and explained; or why there is none, and
        what would make one possible.
        """
        task, raw = await task_of(ctx, id)
        world = await worlds.of(ctx, [raw])
        _few(len(world.people))
        return _json(_shown(await decisions.recommended(ctx, solver, world, task, raw)))

    @router.get("/recommendations/{id}")
    async def get_recommendation(id: Id, ctx: TenantContext = Depends(current_tenant)) -> Response:
        """A recommendation and what became of it."""
        return _json(_shown((await decisions.recommendation_of(ctx, id))[0]))

    @router.post("/recommendations/{id}/accept")
    async def accept(id: Id, ctx: TenantContext = Depends(current_tenant)) -> Response:
        """Commit the recommended team. 409 when anyone's state changed since; accepting
        twice is accepting once.
        """
        return _json(_shown(await decisions.accepted(ctx, id)))

    @router.post("/recommendations/{id}/alternative")
    async def alternative(id: Id, ctx: TenantContext = Depends(current_tenant)) -> Response:
        """The next best team, never one that was shown; `status` is "none" when there
        is no other.
        """
        record, _ = await decisions.recommendation_of(ctx, id)
        _, raw = await task_of(ctx, record["task"])
        world = await worlds.of(ctx, [raw])
        return _json(_shown(await decisions.alternative(ctx, solver, world, id)))

    @router.post("/recommendations/{id}/assign")
    async def assign(
        id: Id, body: Assignment, ctx: TenantContext = Depends(current_tenant)
    ) -> Response:
        """Assign a team by hand. 422 says what it violates and by how much; `override`
        assigns it all the same, on record.
        """
        if len(set(body.people)) < len(body.people):
            raise Invalid(
                "somebody is named twice",
                errors=[{"location": "people", "message": "must be different people"}],
            )
        record, _ = await decisions.recommendation_of(ctx, id)
        _, raw = await task_of(ctx, record["task"])
        world = await worlds.of(ctx, [raw])
        return _json(
            _shown(
                await decisions.assigned(ctx, world, id, body.people, body.override, body.reason)
            )
        )

    # Many tasks

    @router.post("/plan")
    async def plan(
        body: PlanRequest | None = None, ctx: TenantContext = Depends(current_tenant)
    ) -> Response:
        """Plan tasks against all people together."""
        body = body or PlanRequest.model_validate({})
        store = Store(ctx)
        tasks = await _tasks(ctx, store, body)
        world = await worlds.of(ctx, list(tasks.values()))
        _few(len(world.people))
        _check(body, set(tasks), set(world.ids))
        limit = body.time_limit or ctx.parameters(OptimizerParameters).plan_time_limit
        id, key = uuid4().hex, None
        key = store.key(f"plan:{id}")
        await ctx.stores.online.hset(
            key, mapping={"state": "running", "created": datetime.now(UTC).isoformat()}
        )
        await ctx.stores.online.expire(key, 7 * 86_400)
        wishes = {**body.model_dump(include={"pins", "previous", "one_each"}), "time_limit": limit}

        async def solve() -> dict[str, Any]:
            try:
                answer = await solver.plan(
                    world, list(tasks.values()), wishes, ctx.stores.online, key
                )
            except ShoalError as error:
                await ctx.stores.online.hset(
                    key,
                    mapping={"state": "failed", "result": orjson.dumps({"error": error.detail})},
                )
                raise
            answer = {"id": id, **answer, "tasks": len(tasks), "people": len(world.people)}
            state = "cancelled" if await ctx.stores.online.hget(key, "cancel") else "done"
            await ctx.stores.online.hset(
                key, mapping={"state": state, "result": orjson.dumps(answer)}
            )
            data = {
                "plan": id,
                "status": answer["status"],
                "assigned": len(answer["assignments"]),
                "left_out": len(answer["left_out"]),
            }
            await ctx.stores.events.append(
                [Event(id=f"{id}:planned", source=SOURCE, type="optimizer.planned", data=data)]
            )
            return answer

        def ended(task: asyncio.Task[Any]) -> None:
            running.discard(task)
            if not task.cancelled() and (error := task.exception()) is not None:
                logging.getLogger("shoal.optimizer").warning("plan %s failed: %s", id, error)

        if body.wait:
            return _json({"state": "done", **await solve()})
        task = asyncio.create_task(solve())
        running.add(task)
        task.add_done_callback(ended)
        return _json({"id": id, "state": "running"}, 202)

    @router.get("/plans/{id}")
    async def get_plan(id: Id, ctx: TenantContext = Depends(current_tenant)) -> Response:
        """A plan: its state, how far it is (objective, bound, gap, seconds), and its
        result when it is there.
        """
        found = await ctx.stores.online.hgetall(Store.key(f"plan:{id}"))
        held = {(k.decode() if isinstance(k, bytes) else k): v for k, v in found.items()}
        if not held:
            raise NotFound(f"there is no plan {id!r}")
        answer: dict[str, Any] = {
            "id": id,
            "state": held["state"].decode(),
            "created": held["created"].decode(),
        }
        for part in ("progress", "result"):
            answer[part] = orjson.loads(held[part]) if part in held else None
        return _json(answer)

    @router.delete("/plans/{id}", status_code=202)
    async def cancel_plan(id: Id, ctx: TenantContext = Depends(current_tenant)) -> Response:
        """Call a running plan off: it ends within a second, with the best found so far."""
        key = Store.key(f"plan:{id}")
        state = await ctx.stores.online.hget(key, "state")
        if state is None:
            raise NotFound(f"there is no plan {id!r}")
        if state == b"running":
            await ctx.stores.online.hset(key, mapping={"cancel": "1"})
        return _json(
            {"id": id, "state": "cancelling" if state == b"running" else state.decode()}, 202
        )

    @router.post("/violations/{id}", openapi_extra=SAFE)
    async def check_team(
        id: Id, body: Assignment, ctx: TenantContext = Depends(reader)
    ) -> Response:
        """What a team of these people would violate for a task, and by how much;
        nothing is changed.
        """
        from .rules import violations
        from .skills import Matcher

        task, raw = await task_of(ctx, id)
        world = await worlds.of(ctx, [raw])
        held = await Store(ctx).many("people", body.people)
        people = [Person.model_validate_json(found) for found in held if found is not None]
        if len(people) < len(body.people):
            raise Invalid("not all of these people are known")
        parameters = ctx.parameters(OptimizerParameters)
        found = violations(
            task, people, Matcher(parameters.similarity, world.vectors), parameters, world.now
        )
        return _json({"violations": [violation.__dict__ for violation in found]})

    return router


async def _tasks(ctx: TenantContext, store: Store, body: PlanRequest) -> dict[str, bytes]:
    """The tasks to plan: those asked for, or every open one whose deadline is to come."""
    if body.tasks is not None:
        if len(set(body.tasks)) < len(body.tasks):
            raise Invalid(
                "a task is named twice",
                errors=[{"location": "tasks", "message": "must be different tasks"}],
            )
        wanted = {id: (await task_of(ctx, id)) for id in body.tasks}
        if closed := [id for id, (task, _) in wanted.items() if task.state != "open"]:
            raise Conflict(f"not open: {', '.join(closed)}")
        return {id: raw for id, (_, raw) in wanted.items()}
    found = {}
    for id, raw in (await store.all("tasks")).items():
        row = orjson.loads(raw)
        if row["state"] == "open" and (row["board_id"] is None or ctx.may_see(row["board_id"])):
            found[id] = raw
    if len(found) > MOST_TASKS:
        raise Invalid(
            f"{len(found)} open tasks; at most {MOST_TASKS} are planned together: name some in `tasks`"
        )
    return found


def _check(body: PlanRequest, tasks: set[str], people: set[str]) -> None:
    faults = []
    for n, pin in enumerate(body.pins):
        for field, value, known in (("task", pin.task, tasks), ("person", pin.person, people)):
            if value not in known:
                faults.append(
                    {
                        "location": f"pins.{n}.{field}",
                        "message": f"there is no {field} {value!r} in this plan",
                    }
                )
    seen: dict[tuple[str, str], str] = {}
    for n, pin in enumerate(body.pins):
        if seen.setdefault((pin.task, pin.person), pin.pin) != pin.pin:
            faults.append(
                {
                    "location": f"pins.{n}",
                    "message": "the same person is pinned both in and out of the same task",
                }
            )
    if faults:
        raise Invalid(faults[0]["message"], errors=faults)


def _few(people: int) -> None:
    if people > MOST_PEOPLE:
        raise Invalid(f"{people} people are more than the {MOST_PEOPLE} that one solve takes")


def _offset(cursor: str) -> int:
    if cursor and not (cursor.isascii() and cursor.isdigit() and len(cursor) < 10):
        raise Invalid(
            "the cursor is none that this list gave",
            errors=[{"location": "cursor", "message": "not a cursor"}],
        )
    return int(cursor or 0)


def _shown(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in HIDDEN}


def _json(value: Any, status: int = 200) -> Response:
    return _raw(orjson.dumps(value), status)


def _raw(value: bytes, status: int = 200) -> Response:
    return Response(value, status, media_type="application/json")


def _body(model: type[BaseModel]) -> dict[str, Any]:
    return {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": {"type": "object", "title": model.__name__}}
            },
        }
    }
