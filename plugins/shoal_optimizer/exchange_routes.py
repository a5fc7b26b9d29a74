"""The HTTP operations that export people, tasks and plans."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from fastapi import APIRouter, Depends, Response

from shoal import Conflict, Identifier, TenantContext, requires

from . import exchange
from .exchange import MEDIA_TYPES, Format
from .plan_runs import read_run
from .store import RecordStore
from .tasks import is_visible

Writers = Mapping[Format, Callable[[Any], str | bytes]]
TEXT: dict[int | str, dict[str, Any]] = {
    200: {"content": {media: {"schema": {"type": "string"}} for media in MEDIA_TYPES.values()}}
}

router = APIRouter()


@router.get("/exports/people", response_class=Response, responses=TEXT)
async def export_people(
    format: Format = "csv", ctx: TenantContext = Depends(requires("read:tenant"))
) -> Response:
    """Export people as CSV, which POST /people reads; or their leave as iCalendar."""
    stored = await RecordStore(ctx).get_all("people")
    write: Writers = {"csv": exchange.people_csv, "ics": exchange.people_ics}
    return await _text(format, write, [orjson.loads(raw) for raw in stored.values()])


@router.get("/exports/tasks", response_class=Response, responses=TEXT)
async def export_tasks(
    format: Format = "csv", ctx: TenantContext = Depends(requires("read:boards"))
) -> Response:
    """Export tasks as CSV, or as to-dos of iCalendar; POST /tasks reads both."""
    stored = await RecordStore(ctx).get_all("tasks")
    rows = [orjson.loads(raw) for raw in stored.values()]
    rows = [row for row in rows if is_visible(ctx, row["board_id"])]
    write: Writers = {"csv": exchange.tasks_csv, "ics": exchange.tasks_ics}
    return await _text(format, write, rows)


@router.get("/exports/plans/{id}", response_class=Response, responses={**TEXT, 409: {}})
async def export_plan(
    id: Identifier,
    format: Format = "csv",
    ctx: TenantContext = Depends(requires("read:own", others="read:tenant")),
) -> Response:
    """Export a plan as CSV, or as events of iCalendar: one for each task and member."""
    plan = (await read_run(ctx, id))["result"] or {}
    if "assignments" not in plan:
        raise Conflict(f"plan {id!r} has no teams to export")
    write: Writers = {"csv": exchange.plan_csv, "ics": exchange.plan_ics}
    return await _text(format, write, plan)


async def _text(format: Format, write: Writers, value: Any) -> Response:
    text = await asyncio.to_thread(write[format], value)
    return Response(text, media_type=MEDIA_TYPES[format])
