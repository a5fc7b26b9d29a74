"""From the event log into the windows: the stream side of every stream view."""

import time
from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from shoal import Event

from . import keys
from .extraction import EventLike, event_row, is_read_by
from .online import apply_events
from .registry import Registry
from .values import to_micros
from .views import View
from .windows import MAX_AHEAD, EventRow, WindowPlan

GRACE = 600
"""Seconds past its longest window that a view still accepts events."""

MAX_DUE = 1_000
"""Events that were ahead of our clock, accepted at once per view."""

LATE_RUNS = "features.late_runs"
"""The metric of job runs that are past their deadline."""

RECORD_INGEST_SCRIPT = """
-- Record that a stream view was updated.
-- KEYS: 1 the status of the views (hash)
-- ARGV: 1 view, 2 time of the newest event in µs, 3 now in µs
local raw, event = redis.call('HGET', KEYS[1], ARGV[1]), ARGV[2]
local old = raw and cjson.decode(raw).event
if old and old > tonumber(event) then event = string.format('%.0f', old) end
local lag = string.format('%.0f', math.max(tonumber(ARGV[3]) - tonumber(ARGV[2]), 0))
local status = '{"event":' .. event .. ',"handled":' .. ARGV[3] .. ',"lag":' .. lag .. '}'
redis.call('HSET', KEYS[1], ARGV[1], status)
"""

RECORD_COMPUTATION_SCRIPT = """
-- Record that a view was computed or written, unless it was as of a later time.
-- KEYS: 1 the status of the views (hash)
-- ARGV: 1 view, 2 the time it was computed as of in µs, 3 now in µs
local raw = redis.call('HGET', KEYS[1], ARGV[1])
if raw and cjson.decode(raw).event > tonumber(ARGV[2]) then return end
redis.call('HSET', KEYS[1], ARGV[1], '{"event":' .. ARGV[2] .. ',"handled":' .. ARGV[3] .. '}')
"""


async def ingest_events(
    online: Any, registry: Registry, events: Sequence[EventLike], now: int | None = None
) -> dict[str, int]:
    """Add one tenant's events to its stream views. Idempotent by (source, id).

    Events that were ahead of the clock and are due by now are added as well.

    Args:
        online: The tenant's online store.
        registry: The tenant's definitions.
        events: In any order, with duplicates.
        now: µs since 1970; None for the current time.

    Returns:
        How many were `applied`, `known` already, `late` (recorded for the batch) and
        too far ahead of the clock (`future`).
    """
    now = now or time.time_ns() // 1000
    latest = now + MAX_AHEAD * 1_000_000
    counts = {"applied": 0, "known": 0, "late": 0, "future": 0}
    views = [v for v in registry.views if v.kind == "stream"]
    for view, due in zip(views, await _due_events(online, views, latest), strict=True):
        rows = [row for row in event_rows(view, events) if row.time >= 0]
        counts["future"] += await put_off(online, view, (r for r in rows if r.time > latest))
        accepted = [row for row in rows if row.time <= latest] + [_decode_row(raw) for raw in due]
        if not accepted:
            continue
        result = await apply_events(online, WindowPlan.of(view), accepted, now, GRACE)
        counts["applied"] += result.fresh
        counts["known"] += result.known
        counts["late"] += len(result.late)
        counts["future"] += await put_off(online, view, result.future)
        done = set(due) - {_encode_row(row) for row in result.future}
        pipe = online.pipeline()
        if done:
            pipe.zrem(keys.future_events(view.name), *done)
        if result.late:
            late = {row.member: orjson.dumps([row.entity, row.time]) for row in result.late}
            pipe.hset(keys.late_events(view.name), mapping=late)
        newest = max(row.time for row in accepted)
        pipe.eval(RECORD_INGEST_SCRIPT, [keys.STATUS], [view.name, newest, now])
        await pipe.execute()
    return counts


async def put_off(online: Any, view: View, rows: Iterable[EventRow]) -> int:
    """Store events until they are due; returns how many."""
    encoded = {_encode_row(row): row.time for row in rows}
    if encoded:
        await online.zadd(keys.future_events(view.name), encoded)
    return len(encoded)


async def publish_late_runs(log: Any, events: Sequence[Event]) -> None:
    """Append a point of the metric `features.late_runs` per run past its deadline.

    The point has the id of the event, so it counts once however often the event is
    delivered.
    """
    late = [
        e for e in events if e.type == "shoal.job.late" and str(e.subject).startswith("features.")
    ]
    if late:
        point = {"metric": LATE_RUNS, "value": 1, "labels": {}}
        await log.append(
            [
                Event(id=e.id, type="metric", source="shoal/features", time=e.time, data=point)
                for e in late
            ]
        )


async def record_computation(online: Any, view: View, as_of: int, now: int) -> None:
    """Record that a view was computed or written at `now` as of a time, both in µs."""
    await online.eval(RECORD_COMPUTATION_SCRIPT, [keys.STATUS], [view.name, as_of, now])


def unusable(registry: Registry, event: EventLike) -> str | None:
    """Why no view can use an event of a type that a view names; None where one can."""
    readers = [v for v in registry.views if v.kind == "stream" and event.type in v.types]
    if not readers:
        return None
    time = to_micros(event.time)
    if time < 0:
        return "time: is before 1970"
    if any(event_row(view, event, time) for view in readers):
        return None
    fields = sorted({field for view in readers for field in view.fields})
    views = ", ".join(view.name for view in readers[:5])
    return (
        f"no view can tell whom it is about ({views}): one of {', '.join(fields[:10])} must be "
        "text or an integer, of at most 512 characters and without control characters"
    )


def event_rows(view: View, events: Iterable[EventLike]) -> Iterable[EventRow]:
    """The events that a view reads, as it reads them."""
    for event in events:
        if is_read_by(view, event.type) and (row := event_row(view, event, to_micros(event.time))):
            yield row


async def _due_events(online: Any, views: Sequence[View], latest: int) -> list[list[bytes]]:
    """Per view, the stored events whose time has come."""
    if not views:
        return []
    pipe = online.pipeline()
    for view in views:
        pipe.zrangebyscore(keys.future_events(view.name), "-inf", latest, start=0, num=MAX_DUE)
    found: list[list[bytes]] = await pipe.execute()
    return found


def _encode_row(row: EventRow) -> bytes:
    return orjson.dumps([row.member, row.entity, row.time, row.columns])


def _decode_row(raw: bytes) -> EventRow:
    member, entity, time, columns = orjson.loads(raw)
    return EventRow(time, member, entity, columns)
