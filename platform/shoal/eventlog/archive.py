"""From the event log into the lake's table `events`, and the log made short again.

How it stays exact: the range is written down before the files are, and the files are
named by it; so after a crash the same range gives the same files, whatever was appended
since.
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

from . import codec
from .consumer import RELEASE, RENEW

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
LEASE = 120_000


async def archive(config: StoreConfig, tenant: str, keep: timedelta = timedelta(hours=1)) -> int:
    """Bring what the lake lacks of the tenant's log there, then trim the log: past what
    is archived, handled by every group, and older than `keep`. How many events were
    archived. Conflict when it is being done elsewhere.
    """
    client, lease = async_redis(config.online), codec.lease(check_tenant(tenant), "archive")
    token = secrets.token_hex(8)
    with translate_errors():
        if not await client.set(lease, token, nx=True, px=LEASE):
            raise Conflict(f"the events of {tenant} are being archived already")
        try:
            total = 0
            while count := await _chunk(config, tenant):
                total += count
                await client.eval(RENEW, 1, lease, token, LEASE)
            await trim(config, tenant, keep)
            return total
        finally:
            await client.eval(RELEASE, 1, lease, token)


async def _chunk(config: StoreConfig, tenant: str) -> int:
    client, log, key = async_redis(config.events), codec.log(tenant), codec.archive(tenant)
    done, intent = ((value or b"").decode() for value in await client.hmget(key, "done", "intent"))
    after = f"({done}" if done else "-"
    found = await client.xrange(log, after, intent or "+", count=None if intent else CHUNK)
    if not found:
        if intent:
            await client.hdel(key, "intent")
        return 0
    last = found[-1][0].decode()
    await client.hset(key, "intent", last)
    await asyncio.to_thread(_write, TenantLake(config.lake, tenant), found)
    await run_atomically(client, [("HSET", key, "done", last), ("HDEL", key, "intent")])
    return len(found)


def _write(folder: TenantLake, found: Sequence[tuple[bytes, dict[bytes, bytes]]]) -> None:
    days: dict[date, list[dict[str, Any]]] = {}
    for raw, fields in found:
        event, position = codec.read(fields), raw.decode()
        row = {
            "id": event.id,
            "source": event.source,
            "type": event.type,
            "time": _utc(event),
            "subject": event.subject,
            "data": json.dumps(event.data, ensure_ascii=False),
            "attributes": json.dumps(event.model_extra, ensure_ascii=False)
            if event.model_extra
            else None,
            "position": position,
        }
        days.setdefault(row["time"].date(), []).append(row)
    for day, rows in days.items():
        folder.write(
            folder.day(EVENTS, day),
            pa.Table.from_pylist(rows, SCHEMA),
            last=_part(rows[-1]["position"]),
        )


def _utc(event: Event) -> Any:
    try:
        return event.time.astimezone(UTC)
    except OverflowError:  # within a day of year 1 or 9999
        return event.time.replace(tzinfo=UTC)


def _part(position: str) -> str:
    milliseconds, sequence = codec.order(position)
    return part_id(milliseconds * 1_000_000, sequence)


async def trim(config: StoreConfig, tenant: str, keep: timedelta) -> int:
    """Drop from the log what nobody needs there any more; how many entries went."""
    client, log = async_redis(config.events), codec.log(tenant)
    done = await client.hget(codec.archive(tenant), "done")
    if done is None:
        return 0
    safe = [codec.order(done.decode()), (int((time.time() - keep.total_seconds()) * 1000), 0)]
    safe += [
        codec.order(at.decode()) for at in (await client.hgetall(codec.groups(tenant))).values()
    ]
    milliseconds, sequence = min(safe)
    return int(await client.xtrim(log, minid=f"{milliseconds}-{sequence}", approximate=False))


def archived(folder: TenantLake, after: str, before: str | None) -> list[tuple[str, Event]]:
    """(position, event) from the lake with after < position < before, in the log's
    order.
    """
    low, high = codec.order(after), None if before is None else codec.order(before)
    found = []
    for day in folder.days(EVENTS):
        parts = [
            part for part in live(folder.parts(folder.day(EVENTS, day))) if part.last > _part(after)
        ]
        for rows in folder.read(parts):
            for row in rows.to_pylist():
                at = codec.order(row["position"])
                if low < at and (high is None or at < high):
                    found.append((at, row))
    found.sort(key=lambda pair: pair[0])
    return [(row["position"], _event(row)) for _, row in found]


def _event(row: dict[str, Any]) -> Event:
    given = json.loads(row["attributes"] or "{}")
    fields = {name: row[name] for name in ("id", "source", "type", "time", "subject")}
    return Event(**fields, data=json.loads(row["data"]), **given)
