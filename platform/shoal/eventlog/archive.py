"""Archiving: from the event log into the lake's table `events`, then trimming the log.

No crash duplicates or loses an event. The range is entered before its files are
written, and the files are named after it: so the same range is written to the same
files, whatever was appended since.
"""

import asyncio
import json
import secrets
import time
from collections.abc import Sequence
from datetime import UTC, date, timedelta
from typing import Any

import pyarrow as pa

from shoal.contract.errors import Conflict
from shoal.contract.events import Event
from shoal.contract.names import check_tenant
from shoal.stores.configuration import StoreConfig
from shoal.stores.lake import EVENTS, TenantLake, live, part_id
from shoal.stores.redis_client import async_redis, run_atomically, translate_errors

from . import keys
from .codec import Entry, decode_event, sort_key
from .leases import acquire_lease, release_lease, renew_lease

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        ("type", pa.string()),
        ("time", pa.timestamp("us", tz="UTC")),
        ("subject", pa.string()),
        ("data", pa.string()),
        ("attributes", pa.string()),
        ("position", pa.string()),
    ]
)
"""`data` and `attributes` (the CloudEvents extension attributes, or null) are JSON."""

CHUNK = 10_000
"""Events that are written at once."""
CHUNKS_AT_ONCE = 10
"""After these the next tenant's log is archived."""
LEASE_SECONDS = 120


async def archive_log(config: StoreConfig, tenant: str, keep: timedelta) -> int:
    """See `EventLog.archive`."""
    client, lease = async_redis(config.online), keys.lease(check_tenant(tenant), "archive")
    owner = secrets.token_hex(8)
    with translate_errors():
        if not await acquire_lease(client, lease, owner, LEASE_SECONDS):
            raise Conflict(f"the events of {tenant} are being archived already")
        try:
            total = 0
            for _ in range(CHUNKS_AT_ONCE):
                if not (count := await _archive_chunk(config, tenant)):
                    break
                total += count
                await renew_lease(client, lease, owner, LEASE_SECONDS)
            await _trim(config, tenant, keep)
            return total
        finally:
            await release_lease(client, lease, owner)


async def _archive_chunk(config: StoreConfig, tenant: str) -> int:
    client, state = async_redis(config.events), keys.archive(tenant)
    raw = await client.hmget(state, "done", "intent")
    done, intent = ((value or b"").decode() for value in raw)
    after, end, count = f"({done}" if done else "-", intent or "+", None if intent else CHUNK
    entries = await client.xrange(keys.log(tenant), after, end, count=count)
    if not entries:
        if intent:
            await client.hdel(state, "intent")
        return 0
    last = entries[-1][0].decode()
    await client.hset(state, "intent", last)
    await asyncio.to_thread(_write, TenantLake(config.lake, tenant), entries)
    await run_atomically(client, [("HSET", state, "done", last), ("HDEL", state, "intent")])
    return len(entries)


def _write(lake: TenantLake, entries: Sequence[Entry]) -> None:
    days: dict[date, list[dict[str, Any]]] = {}
    for position, fields in entries:
        row = _row(decode_event(fields), position.decode())
        days.setdefault(row["time"].date(), []).append(row)
    for day, rows in days.items():
        table = pa.Table.from_pylist(rows, SCHEMA)
        lake.write(lake.day(EVENTS, day), table, last=_part(rows[-1]["position"]))


def _row(event: Event, position: str) -> dict[str, Any]:
    extra = event.model_extra
    return {
        "id": event.id,
        "source": event.source,
        "type": event.type,
        "time": _utc(event),
        "subject": event.subject,
        "data": json.dumps(event.data, ensure_ascii=False),
        "attributes": json.dumps(extra, ensure_ascii=False) if extra else None,
        "position": position,
    }


def _utc(event: Event) -> Any:
    try:
        return event.time.astimezone(UTC)
    except OverflowError:  # within a day of year 1 or 9999
        return event.time.replace(tzinfo=UTC)


def _part(position: str) -> str:
    milliseconds, sequence = sort_key(position)
    return part_id(milliseconds * 1_000_000, sequence)


async def _trim(config: StoreConfig, tenant: str, keep: timedelta) -> None:
    """Remove from the log what is archived, handled by every group, and old enough."""
    client = async_redis(config.events)
    done = await client.hget(keys.archive(tenant), "done")
    if done is None:
        return
    groups = (await client.hgetall(keys.groups(tenant))).values()
    positions = [sort_key(position.decode()) for position in (done, *groups)]
    positions.append((int((time.time() - keep.total_seconds()) * 1000), 0))
    milliseconds, sequence = min(positions)
    first_kept = f"{milliseconds}-{sequence}"
    await client.xtrim(keys.log(tenant), minid=first_kept, approximate=False)


def archived_events(lake: TenantLake, after: str, before: str | None) -> list[tuple[str, Event]]:
    """The lake's events with after < position < before, in the log's order.

    Args:
        lake: The tenant's.
        after: A position.
        before: A position; None for no end.

    Returns:
        Pairs of position and event.
    """
    low, high = sort_key(after), None if before is None else sort_key(before)
    found = []
    for day in lake.days(EVENTS):
        parts = [p for p in live(lake.parts(lake.day(EVENTS, day))) if p.last > _part(after)]
        for table in lake.read(parts):
            for row in table.to_pylist():
                at = sort_key(row["position"])
                if low < at and (high is None or at < high):
                    found.append((at, row))
    found.sort(key=lambda pair: pair[0])
    return [(row["position"], _event(row)) for _, row in found]


def _event(row: dict[str, Any]) -> Event:
    extra = json.loads(row["attributes"] or "{}")
    fields = {name: row[name] for name in ("id", "source", "type", "time", "subject")}
    return Event(**fields, data=json.loads(row["data"]), **extra)
