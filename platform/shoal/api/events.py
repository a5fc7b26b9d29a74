"""The event log: appending, dead letters, replay."""

from typing import Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import Field

from shoal.contract.batch import read_rows, validate_rows
from shoal.contract.context import TenantContext, requires
from shoal.contract.cursors import read_cursor, write_cursor
from shoal.contract.errors import Invalid, NotFound
from shoal.contract.events import Event
from shoal.contract.names import Identifier
from shoal.eventlog.codec import encode_event

from .bodies import Body
from .dependencies import Platform

MAX_EVENTS = 10_000
"""Events in one request; more is 422."""
MAX_REPLAYED = 1000
"""Dead letters that one request replays."""
EVENTS_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {}},
            "application/x-ndjson": {"schema": {"type": "string"}},
        },
    }
}

router = APIRouter()


class Replay(Body):
    group: str
    """The stream that handles the events again."""
    ids: list[Identifier] | None = Field(None, max_length=MAX_REPLAYED)
    after: str | None = None


@router.post("/events", status_code=202, openapi_extra=EVENTS_BODY)
async def append_events(
    request: Request, ctx: TenantContext = Depends(requires("write:tenant"))
) -> dict[str, Any]:
    """Append one CloudEvent, an array of them, or NDJSON.

    Valid events are accepted, and durable before the answer; the others are listed with
    their errors. For an admin or the tenant's own service, since events are facts about
    any board and user.
    """
    content_type = request.headers.get("content-type", "")
    rows = read_rows(await request.body(), content_type, limit=MAX_EVENTS)
    batch = validate_rows(rows, Event.model_validate)
    ctx.usage.require("events", len(batch.accepted))
    try:
        await ctx.stores.events.append(list(batch.accepted.values()))
    except Invalid:  # nothing was appended; encoding each event beforehand costs too much
        for index, event in list(batch.accepted.items()):
            try:
                encode_event(event)
            except Invalid as error:
                batch.reject(index, error.detail)
        await ctx.stores.events.append(list(batch.accepted.values()))
    ctx.usage.add("events", len(batch.accepted))
    return batch.response()


@router.get("/events/dead")
async def dead_letters(
    platform: Platform,
    limit: int = Query(100, ge=1, le=1000),
    cursor: str | None = None,
    ctx: TenantContext = Depends(requires("read:tenant")),
) -> dict[str, Any]:
    """List the events that a stream could not handle, oldest first, with the errors.

    For an admin or the tenant's own service.
    """
    after = read_cursor("platform.dead_letters", cursor, str) or "0"
    found = await platform.event_log.dead_letters(ctx.tenant, after=after, limit=limit)
    letters = [
        {
            "id": d.id,
            "group": d.group,
            "error": d.error,
            "deliveries": d.deliveries,
            "event": d.event.model_dump(mode="json"),
        }
        for d in found
    ]
    last = found[-1].id if len(found) == limit else None
    return {"events": letters, "cursor": last and write_cursor("platform.dead_letters", last)}


@router.post("/events/replay", status_code=202)
async def replay(
    body: Replay, platform: Platform, ctx: TenantContext = Depends(requires("write:tenant"))
) -> dict[str, Any]:
    """Have a stream handle events again.

    Either the dead letters `ids`, or everything after the position `after`; without
    both, the oldest 1,000 dead letters of the group.
    """
    groups = list(platform.streams())
    # An unknown group's position would keep the log from ever being trimmed.
    if body.group not in groups:
        raise NotFound(f"no stream {body.group!r}; available: {', '.join(groups)}")
    ids, log = body.ids, platform.event_log
    if ids is not None and body.after is not None:
        message = "give ids or after, not both"
        raise Invalid(message, errors=[{"location": "after", "message": message}])
    if ids is None and body.after is None:
        ids = [
            d.id for d in await log.dead_letters(ctx.tenant, group=body.group, limit=MAX_REPLAYED)
        ]
    return {"replayed": await log.replay(ctx.tenant, body.group, ids=ids, after=body.after)}
