"""The HTTP operations on people, tasks and outcomes."""

from collections.abc import Mapping
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel

from shoal import (
    BatchResult,
    Cursor,
    Identifier,
    Invalid,
    NotFound,
    TenantContext,
    off_loop,
    read_cursor,
    requires,
    rows_body,
    write_cursor,
)

from .bodies import Outcomes, People, Tasks
from .intake import MAX_ROWS, put_people, read_records, store_records, validate_record
from .intake import delete_person as remove_person
from .outcomes import hidden_outcomes, store_outcomes, visible_outcomes, with_id
from .records import Outcome, Person, Task
from .responses import json_response, raw_response
from .store import Kind, RecordStore, encode
from .tasks import get_task as read_task
from .tasks import is_visible, is_writable, merge_stored, replace_tasks

NDJSON = "application/x-ndjson"
Limit = Annotated[int, Query(ge=1, le=1000)]

router = APIRouter()


def record_body(model: type[BaseModel], *, many: bool = False) -> dict[str, Any]:
    """OpenAPI of a body that the handler reads itself."""
    more = ("text/csv", "text/calendar") if model is Task and many else ("text/csv",)
    return rows_body(model.model_json_schema(), MAX_ROWS if many else 1, *more)


@router.get("/people", responses={200: {"model": People}})
async def list_people(
    limit: Limit = 100,
    cursor: Cursor = None,
    ctx: TenantContext = Depends(requires("read:tenant")),
) -> Response:
    """List people by id."""
    return await _list(ctx, "people", limit, cursor)


@router.post(
    "/people",
    openapi_extra=record_body(Person, many=True),
    responses={200: {"model": BatchResult}},
)
async def add_people(
    request: Request, ctx: TenantContext = Depends(requires("write:tenant"))
) -> Response:
    """Create or replace people: a JSON array, NDJSON, or CSV with a header."""
    return json_response((await store_records(ctx, "people", await _rows(request))).response())


@router.put("/people/{id}", openapi_extra=record_body(Person), responses={200: {"model": Person}})
async def put_person(
    id: Identifier, request: Request, ctx: TenantContext = Depends(requires("write:tenant"))
) -> Response:
    """Create or replace a person."""
    person = encode(validate_record(Person, await _single_row(request), id))
    await put_people(ctx, {id: person})
    return raw_response(person)


@router.get("/people/{id}", responses={200: {"model": Person}})
async def get_person(
    id: Identifier, ctx: TenantContext = Depends(requires("read:tenant"))
) -> Response:
    """Get a person."""
    raw = await RecordStore(ctx).get("people", id)
    if raw is None:
        raise _person_not_found(id)
    return raw_response(raw)


@router.delete("/people/{id}", status_code=204)
async def delete_person(
    id: Identifier, ctx: TenantContext = Depends(requires("write:tenant"))
) -> None:
    """Delete a person."""
    if not await remove_person(ctx, id):
        raise _person_not_found(id)


@router.get("/tasks", responses={200: {"model": Tasks}})
async def list_tasks(
    limit: Limit = 100,
    cursor: Cursor = None,
    ctx: TenantContext = Depends(requires("read:boards")),
) -> Response:
    """List tasks by id."""
    return await _list(ctx, "tasks", limit, cursor)


@router.post(
    "/tasks",
    openapi_extra=record_body(Task, many=True),
    responses={200: {"model": BatchResult}, 409: {}},
)
async def add_tasks(
    request: Request, ctx: TenantContext = Depends(requires("write:boards", others="write:tenant"))
) -> Response:
    """Create or replace tasks: a JSON array, NDJSON, CSV, or to-dos of iCalendar."""
    return json_response((await store_records(ctx, "tasks", await _rows(request))).response())


@router.put(
    "/tasks/{id}",
    openapi_extra=record_body(Task),
    responses={200: {"model": Task}, 404: {}, 409: {}},
)
async def put_task(
    id: Identifier,
    request: Request,
    ctx: TenantContext = Depends(requires("write:boards", others="write:tenant")),
) -> Response:
    """Create or replace a task; its state, team and commitment stay unless given."""
    task = validate_record(Task, await _single_row(request), id)
    if is_writable(ctx, task.board_id):
        stored = await replace_tasks(ctx, [id], lambda _, old: merge_stored(task, old))
        if id in stored:
            return raw_response(encode(merge_stored(task, stored[id])))
    raise NotFound("no such board that you may see")


@router.get("/tasks/{id}", responses={200: {"model": Task}})
async def get_task(
    id: Identifier, ctx: TenantContext = Depends(requires("read:boards"))
) -> Response:
    """Get a task."""
    _, raw = await read_task(ctx, id)
    return raw_response(raw)


@router.delete("/tasks/{id}", status_code=204, responses={409: {}})
async def delete_task(
    id: Identifier, ctx: TenantContext = Depends(requires("write:boards", others="write:tenant"))
) -> None:
    """Delete a task and free the workload that its assignment committed."""
    if (await replace_tasks(ctx, [id], lambda _, old: None)).get(id) is None:
        raise NotFound(f"task {id!r} not found")


@router.post(
    "/outcomes",
    openapi_extra=record_body(Outcome, many=True),
    responses={200: {"model": BatchResult}, 404: {}, 409: {}},
)
async def add_outcomes(
    request: Request, ctx: TenantContext = Depends(requires("write:boards", others="write:tenant"))
) -> Response:
    """Store how tasks went: one outcome, a JSON array, NDJSON or CSV.

    A finished task frees the workload that it committed.
    """
    rows = await _rows(request)
    if len(rows) != 1 or not isinstance(rows[0], dict):
        return json_response((await store_records(ctx, "outcomes", rows)).response())
    outcome = with_id(validate_record(Outcome, rows[0]))
    if await hidden_outcomes(ctx, {outcome.id: outcome}):
        raise NotFound(f"task {outcome.task!r} not found")
    await store_outcomes(ctx, [outcome])
    return json_response({"accepted": 1, "rejected": []})


@router.get("/outcomes", responses={200: {"model": Outcomes}})
async def list_outcomes(
    task: Identifier | None = None,
    person: Identifier | None = None,
    limit: Limit = 100,
    cursor: Cursor = None,
    ctx: TenantContext = Depends(requires("read:boards")),
) -> Response:
    """List outcomes by id: of a task, of a person, or all."""
    wanted = {"task": task, "people": person}
    return await _list(ctx, "outcomes", limit, cursor, wanted)


@router.get("/outcomes/{id}", responses={200: {"model": Outcome}})
async def get_outcome(
    id: Identifier, ctx: TenantContext = Depends(requires("read:boards"))
) -> Response:
    """Get an outcome."""
    raw = await RecordStore(ctx).get("outcomes", id)
    if raw is None or not await visible_outcomes(ctx, [orjson.loads(raw)]):
        raise _outcome_not_found(id)
    return raw_response(raw)


@router.put(
    "/outcomes/{id}",
    openapi_extra=record_body(Outcome),
    responses={200: {"model": Outcome}, 404: {}, 409: {}},
)
async def put_outcome(
    id: Identifier,
    request: Request,
    ctx: TenantContext = Depends(requires("write:boards", others="write:tenant")),
) -> Response:
    """Create or correct an outcome."""
    outcome = validate_record(Outcome, await _single_row(request), id)
    if await hidden_outcomes(ctx, {id: outcome}):
        raise _outcome_not_found(id)
    [stored] = await store_outcomes(ctx, [outcome])
    return raw_response(encode(stored))


@router.delete("/outcomes/{id}", status_code=204)
async def delete_outcome(
    id: Identifier, ctx: TenantContext = Depends(requires("write:boards", others="write:tenant"))
) -> None:
    """Delete an outcome, which then counts for nobody; its task stays done."""
    store = RecordStore(ctx)
    raw = await store.get("outcomes", id)
    outcome = None if raw is None else Outcome.model_validate_json(raw)
    if outcome is None or await hidden_outcomes(ctx, {id: outcome}):
        raise _outcome_not_found(id)
    await store.delete("outcomes", id)


async def _rows(request: Request) -> list[Any]:
    content_type = request.headers.get("content-type", "")
    return await off_loop(read_records, await request.body(), content_type)


async def _single_row(request: Request) -> Any:
    rows = await _rows(request)
    if len(rows) != 1:
        raise Invalid.at("body", "it must be one record")
    return rows[0]


async def _list(
    ctx: TenantContext,
    kind: Kind,
    limit: int,
    cursor: str | None,
    wanted: Mapping[str, str | None] | None = None,
) -> Response:
    """A page of the records that the caller may see, by id.

    Of `wanted` (field → value) those are listed that have the value or contain it.
    """
    after = read_cursor(f"optimizer.{kind}", cursor, str) or ""
    stored = await RecordStore(ctx).get_all(kind)
    rows = [orjson.loads(raw) for id, raw in stored.items() if id > after]
    for field, value in (wanted or {}).items():
        if value is not None:
            rows = [row for row in rows if value in _values(row[field])]
    if kind == "outcomes":
        rows = await visible_outcomes(ctx, rows)
    else:
        rows = [row for row in rows if is_visible(ctx, row.get("board_id"))]
    more = write_cursor(f"optimizer.{kind}", rows[limit - 1]["id"]) if len(rows) > limit else None
    return json_response({kind: rows[:limit], "cursor": more})


def _values(field: Any) -> list[Any]:
    return field if isinstance(field, list) else [field]


def _outcome_not_found(id: str) -> NotFound:
    return NotFound(f"outcome {id!r} not found")


def _person_not_found(id: str) -> NotFound:
    return NotFound(f"person {id!r} not found")
