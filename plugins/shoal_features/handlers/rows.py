"""Rows of a view: pushed by callers, and read from the offline table."""

import time
from typing import Any

from fastapi import Depends, Request, Response

from shoal import Invalid, TenantContext, Text, off_loop, requires

from ..catalog import load_registry
from ..ingest import record_computation
from ..online import write_rows
from ..values import parse_time
from ..views import MAX_FEATURES, USER
from .requests import PARQUET, check_time, encode_parquet, find_view, import_offline_modules

MAX_WRITTEN = 10_000
MAX_FIELDS = MAX_FEATURES + 4
"""Features of a row, and its entity, tenant and times."""

DESTINATIONS = ("online", "offline", "online_and_offline")
PUSH_SCHEMA = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["rows"],
                    "additionalProperties": False,
                    "properties": {
                        "rows": {
                            "type": "array",
                            "maxItems": MAX_WRITTEN,
                            "items": {"type": "object", "maxProperties": MAX_FIELDS},
                        },
                        "to": {"enum": DESTINATIONS, "default": "online"},
                    },
                }
            }
        },
    }
}


async def push(
    view: Text,
    request: Request,
    ctx: TenantContext = Depends(requires("write:own", others="write:tenant")),
) -> dict[str, Any]:
    """Write values of a view online, offline or both.

    Each row has the entity's id by its type or join key, `event_timestamp`, perhaps
    `created`, and values. A value replaces the stored one unless that is newer by
    (event time, created time). Valid rows are written even if others are rejected.
    Users push their own rows of the entity type `user`, online only.
    """
    await import_offline_modules()
    from ..erasure import append_pushed
    from ..rows import read_pushed

    registry = await load_registry(ctx)
    if not any(known.name == view and known.entity == USER for known in registry.views):
        ctx.require("write:tenant")
    target = find_view(registry, view)
    if target.kind == "stream":
        raise Invalid(f"{view} is computed from events: append events to the log instead")
    to, batch = await off_loop(
        read_pushed, await request.body(), target, DESTINATIONS, MAX_WRITTEN, ctx.tenant
    )
    if to != "online":
        ctx.require("write:tenant")
    rows = list(batch.accepted.values())
    if any(row.entity != ctx.user for row in rows):
        ctx.require("write:tenant")
    now = time.time_ns() // 1000
    if to != "offline":
        encoded = [row.to_online(target, now) for row in rows]
        await write_rows(ctx.stores.online, target, encoded, now)
        if rows:
            newest = max(row.event for row in rows)
            await record_computation(ctx.stores.online, target, newest, now)
    if to != "online" and rows:
        await append_pushed(ctx.stores, target, rows, now)
    return batch.response()


async def rows(
    view: Text,
    start: Text | None = None,
    end: Text | None = None,
    latest: bool = False,
    ctx: TenantContext = Depends(requires("read:tenant")),
) -> Response:
    """The offline rows of a view with event times from `start` to `end`, as Parquet.

    Both ends are included; with `latest`, only the newest row of each entity.
    """
    await import_offline_modules()
    from ..offline import read_range
    from ..rows import rename_columns

    target = find_view(await load_registry(ctx), view)
    since = check_time(parse_time, start, "query.start") if start else None
    until = check_time(parse_time, end, "query.end") if end else None
    table = await read_range(ctx.stores.lake, target, since, until, latest)
    return Response(encode_parquet(rename_columns(table, target.join_key)), media_type=PARQUET)
