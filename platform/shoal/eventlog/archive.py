"""Archiving: from the event log into the lake's table `events`, then trimming the log.

The table itself keeps the position up to which it has the log, and sets it with the
rows, in one commit. So no crash duplicates or loses an event, and neither do two that
archive the same log.
"""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, date, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from shoal.contract.errors import Conflict
from shoal.contract.events import Event
from shoal.contract.names import check_tenant
from shoal.stores.configuration import StoreConfig
from shoal.stores.lake import EVENTS, TenantLake, run
from shoal.stores.lake_schema import DATE
from shoal.stores.lake_table import LakeTable
from shoal.stores.leases import acquire_lease, release_lease, renew_lease
from shoal.stores.redis_client import async_redis, translate_errors

from . import keys
from .codec import Entry, decode_event, sort_key

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
"""Events that are written at once; as many waiting are reason to archive."""
TRIMMED_AT_ONCE = 10_000
"""Events that one command removes from the log."""
CHUNKS_AT_ONCE = 10
"""After these the next tenant's log is archived."""
CHUNK_DAYS = 100
"""Days of which events are written at once: each is a file."""
MARKS = ("log.milliseconds", "log.sequence")
"""The table's marks with the position up to which it has the log."""
LEASE_SECONDS = 120


async def archive_log(
    config: StoreConfig, tenant: str, keep: timedelta, wait: timedelta = timedelta(0)
) -> int:
    """See `EventLog.archive`."""
    client, lease = async_redis(config.online), keys.lease(check_tenant(tenant), "archive")
    owner, total = secrets.token_hex(8), 0
    with translate_errors():
        if await _is_due(config, tenant, wait):
            if not await acquire_lease(client, lease, owner, LEASE_SECONDS):
                raise Conflict(f"the events of {tenant} are being archived already")
            try:
                async for count in _archive_chunks(config, tenant):
                    total += count
                    await renew_lease(client, lease, owner, LEASE_SECONDS)
            finally:
                await release_lease(client, lease, owner)
        await _trim(config, tenant, keep)
    return total


async def _is_due(config: StoreConfig, tenant: str, wait: timedelta) -> bool:
    """Whether an event has waited for long enough, or many wait."""
    client, log = async_redis(config.events), keys.log(tenant)
    done, archived = await client.hmget(keys.archive(tenant), "done", "archived")
    first = await client.xrange(log, f"({done.decode()}" if done else "-", count=1)
    if not first:
        return False
    waited = time.time() - sort_key(first[0][0].decode())[0] / 1000
    if waited >= wait.total_seconds():
        return True
    return int(await client.xlen(log)) - int(archived or 0) >= CHUNK


async def _archive_chunks(config: StoreConfig, tenant: str) -> AsyncIterator[int]:
    """Write the events that the log has now; yields the number of each chunk's."""
    client, log, state = async_redis(config.events), keys.log(tenant), keys.archive(tenant)
    table = TenantLake(config.lake, tenant).table(EVENTS)
    newest, length = await client.xrevrange(log, count=1), await client.xlen(log)
    marks = await run(table.marks, MARKS)
    for _ in range(CHUNKS_AT_ONCE if newest else 0):
        done = None if marks[MARKS[0]] is None else "{}-{}".format(*marks.values())
        after = f"({done}" if done else "-"
        entries = await client.xrange(log, after, newest[0][0], count=CHUNK)
        if not entries:
            # Also where an earlier archiving had written the rows, and then was killed.
            await client.hset(state, mapping={"done": done or "0", "archived": length})
            return
        rows = await asyncio.to_thread(_rows, entries)
        position = rows["position"][-1].as_py()
        last = dict(zip(MARKS, sort_key(position), strict=True))
        await run(table.append, rows, {name: (marks[name], last[name]) for name in MARKS})
        await client.hset(state, mapping={"done": position})
        marks = {**last}
        yield rows.num_rows


def _rows(entries: Sequence[Entry]) -> pa.Table:
    """The first entries as rows with their dates, of at most `CHUNK_DAYS` days."""
    rows: list[dict[str, Any]] = []
    days: set[date] = set()
    for position, fields in entries:
        row = _row(decode_event(fields), position.decode())
        days.add(row["time"].date())
        if len(days) > CHUNK_DAYS:
            break
        rows.append({**row, DATE: row["time"].date().isoformat()})
    return pa.Table.from_pylist(rows, SCHEMA.append(pa.field(DATE, pa.string())))


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
    log, removed = keys.log(tenant), 0
    while count := await client.xtrim(
        log, minid=first_kept, approximate=True, limit=TRIMMED_AT_ONCE
    ):
        removed += count
    removed += await client.xtrim(log, minid=first_kept, approximate=False)  # of one node
    if removed:
        await client.hincrby(keys.archive(tenant), "archived", -removed)


def archived_events(table: LakeTable, after: str, before: str | None) -> list[tuple[str, Event]]:
    """The archived events with after < position < before, in the log's order.

    Args:
        table: The tenant's table `events`.
        after: A position.
        before: A position; None for no end.

    Returns:
        Pairs of position and event.
    """
    low, high = sort_key(after), None if before is None else sort_key(before)
    found = []
    for day in table.days():
        rows = table.read(day, day, None)
        if rows is None:
            continue
        since_epoch = pc.cast(
            pc.list_element(pc.split_pattern(rows["position"], "-"), 0), pa.int64()
        )
        for row in rows.filter(pc.greater_equal(since_epoch, low[0])).to_pylist():
            at = sort_key(row["position"])
            if low < at and (high is None or at < high):
                found.append((at, row))
    found.sort(key=lambda pair: pair[0])
    return [(row["position"], archived_event(row)) for _, row in found]


def archived_event(row: dict[str, Any]) -> Event:
    """The event of a row of the lake's table `events`."""
    extra = json.loads(row["attributes"] or "{}")
    fields = {name: row[name] for name in ("id", "source", "type", "time", "subject")}
    return Event(**fields, data=json.loads(row["data"]), **extra)
