"""The event log: appending, dead letters, rejections, replay."""

import asyncio
from collections import Counter
from typing import Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import Field

from shoal.contract.batch import Batch, BatchResult, off_loop, read_rows, rows_body, validate_rows
from shoal.contract.bounds import Text
from shoal.contract.context import TenantContext, requires
from shoal.contract.cursors import Cursor, read_cursor, write_cursor
from shoal.contract.errors import Conflict, Invalid, NotFound
from shoal.contract.events import Event
from shoal.contract.names import Identifier
from shoal.eventlog.codec import check_position, encode_event
from shoal.eventlog.kafka_letters import replay_messages
from shoal.eventlog.tombstones import find_retracted

from .bodies import Body
from .dependencies import Platform

MAX_EVENTS = 10_000
"""Events in one request; more is 422."""
MAX_REPLAYED = 1000
"""Dead letters that one request replays."""

router = APIRouter()


class Replay(Body):
    group: Text
    """The stream that handles the events again."""
    ids: list[Identifier] | None = Field(None, max_length=MAX_REPLAYED)
    after: Text | None = None


class Replayed(Body):
    replayed: int
    """How many events."""


class DeadEvent(Body):
    id: str
    """Of the dead letter, for `POST /platform/events/replay`."""
    group: str
    error: str
    deliveries: int
    event: Event


class DeadEvents(Body):
    events: list[DeadEvent]
    cursor: str | None


class RejectedEventBody(Body):
    id: str
    group: str
    """The stream that cannot use the event."""
    reason: str
    position: str | None
    """The event's place in the log."""
    event: dict[str, str | None]
    """Its `id`, `source`, `type`, `time` and `subject`."""


class RejectedEvents(Body):
    events: list[RejectedEventBody]
    counts: dict[str, int]
    """How many each stream has rejected in all, kept or not."""
    cursor: str | None


class StreamGroup(Body):
    group: str
    installed: bool
    tenants: int
    """How many have a log that it follows."""


class StreamGroups(Body):
    groups: list[StreamGroup]


class ForgottenGroup(Body):
    group: str
    tenants: int
    dead_letters: int


def read_events(body: bytes, content_type: str) -> Batch[Event]:
    """The events of a body, and the errors of the rows that are none."""
    return validate_rows(read_rows(body, content_type, limit=MAX_EVENTS), Event.model_validate)


def reject_unwritable(batch: Batch[Event]) -> None:
    """Reject the events that cannot be encoded."""
    for index, event in list(batch.accepted.items()):
        try:
            encode_event(event)
        except Invalid as error:
            batch.reject(index, error.detail)


@router.post(
    "/events",
    status_code=202,
    openapi_extra=rows_body(Event.model_json_schema(), MAX_EVENTS),
    responses={202: {"model": BatchResult}},
)
async def append_events(
    request: Request,
    platform: Platform,
    ctx: TenantContext = Depends(requires("write:tenant")),
) -> dict[str, Any]:
    """Append one CloudEvent, an array of them, or NDJSON.

    Valid events are accepted, and durable before the answer; the others are listed with
    their errors. For an admin or the tenant's own service, since events are facts about
    any board and user.
    """
    content_type = request.headers.get("content-type", "")
    batch = await off_loop(read_events, await request.body(), content_type)
    indexes = list(batch.accepted)
    for n in await find_retracted(platform.stores, ctx.tenant, list(batch.accepted.values())):
        batch.reject(indexes[n], "id: the event was retracted")
    ctx.usage.require("events", len(batch.accepted))
    try:
        await ctx.stores.events.append(list(batch.accepted.values()))
    except Invalid:  # nothing was appended; encoding each event beforehand costs too much
        await asyncio.to_thread(reject_unwritable, batch)
        await ctx.stores.events.append(list(batch.accepted.values()))
    ctx.usage.add("events", len(batch.accepted))
    return batch.response()


@router.get("/events/dead", responses={200: {"model": DeadEvents}})
async def dead_letters(
    platform: Platform,
    limit: int = Query(100, ge=1, le=1000),
    cursor: Cursor = None,
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


@router.get("/events/rejected", responses={200: {"model": RejectedEvents}})
async def rejected_events(
    platform: Platform,
    group: Identifier | None = Query(None, description="Of this stream only."),
    limit: int = Query(100, ge=1, le=1000),
    cursor: Cursor = None,
    ctx: TenantContext = Depends(requires("read:tenant")),
) -> dict[str, Any]:
    """List the events that a stream cannot use, newest first, with the reasons.

    They are not handled again. Of each stream the last 1,000 of 30 days are kept. For
    an admin or the tenant's own service.
    """
    log, before = platform.event_log, None
    if (last := read_cursor("platform.rejected_events", cursor, str)) is not None:
        id, _, of = last.partition("/")
        before = (id, of)
    found = await log.rejections(ctx.tenant, group=group, before=before, limit=limit)
    rows = [
        {
            "id": each.id,
            "group": each.group,
            "reason": each.reason,
            "position": each.position,
            "event": {
                "id": each.event_id,
                "source": each.source,
                "type": each.type,
                "time": each.time,
                "subject": each.subject,
            },
        }
        for each in found
    ]
    more = f"{found[-1].id}/{found[-1].group}" if len(found) == limit else None
    return {
        "events": rows,
        "counts": await log.rejection_counts(ctx.tenant),
        "cursor": more and write_cursor("platform.rejected_events", more),
    }


@router.post("/events/replay", status_code=202, responses={202: {"model": Replayed}, 404: {}})
async def replay(
    body: Replay, platform: Platform, ctx: TenantContext = Depends(requires("write:tenant"))
) -> dict[str, Any]:
    """Have a stream handle events again.

    Either the dead letters `ids`, or everything after the position `after`; without
    both, the oldest 1,000 dead letters of the group. Messages of a Kafka source are
    read as it is configured now; those that are still no events remain.
    """
    groups = platform.groups()
    # An unknown group's position would keep the log from ever being trimmed.
    if body.group not in groups:
        raise NotFound(f"no stream {body.group!r}; available: {', '.join(groups)}")
    ids, log = body.ids, platform.event_log
    if ids is not None and body.after is not None:
        message = "give ids or after, not both"
        raise Invalid(message, errors=[{"location": "after", "message": message}])
    for n, id in enumerate(ids or ()):
        check_position(id, f"ids.{n}")
    if ids is None and body.after is None:
        ids = [
            d.id for d in await log.dead_letters(ctx.tenant, group=body.group, limit=MAX_REPLAYED)
        ]
    if (source := platform.sources().get(body.group)) is None:
        return {"replayed": await log.replay(ctx.tenant, body.group, ids=ids, after=body.after)}
    if ids is None:
        raise Invalid.at("after", "a source of Kafka follows no log: give ids, or neither")
    found = await replay_messages(platform.stores, source, ctx.tenant, ids, ctx.usage)
    return {"replayed": found}


@router.get("/events/groups", responses={200: {"model": StreamGroups}})
async def list_groups(
    platform: Platform, ctx: TenantContext = Depends(requires("admin:platform"))
) -> dict[str, Any]:
    """List the groups over all tenants: of streams, of Kafka's sinks and sources.

    One that is of no installed plugin, sink or source keeps every log that it follows
    from being trimmed, until it is forgotten.
    """
    tenants: Counter[str] = Counter()
    for tenant in await platform.event_log.tenants():
        tenants.update(await platform.event_log.group_names(tenant))
    installed = platform.groups()
    return {
        "groups": [
            {"group": group, "installed": group in installed, "tenants": count}
            for group, count in sorted(tenants.items())
        ]
    }


@router.delete("/events/groups/{group}", responses={200: {"model": ForgottenGroup}, 409: {}})
async def forget_group(
    group: Identifier,
    platform: Platform,
    ctx: TenantContext = Depends(requires("admin:platform")),
) -> dict[str, Any]:
    """Forget the group of a removed plugin, sink or source.

    Its positions, retry queues and dead letters in all tenants, so that their logs can
    be trimmed. 409 while it is installed.
    """
    if group in platform.groups():
        raise Conflict(f"{group} is installed; remove its plugin, sink or source first")
    log, tenants, letters = platform.event_log, 0, 0
    for tenant in await log.tenants():
        count = 0
        while found := await log.dead_letters(tenant, group=group, limit=MAX_REPLAYED):
            count += await log.delete_dead_letters(tenant, [letter.id for letter in found])
        known = await log.forget_group(tenant, group)
        tenants, letters = tenants + bool(known or count), letters + count
    if not tenants:
        raise NotFound(f"no tenant has anything of a group {group!r}")
    return {"group": group, "tenants": tenants, "dead_letters": letters}
