"""From the event log into the windows: the stream side of every stream view."""

import time as clock
from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from shoal import Event

from .extraction import EventLike, occurrence, reads
from .online import apply
from .registry import Registry, View
from .values import micros
from .windows import SKEW, Occurrence, Plan

GRACE = 600
"""Seconds past its longest window that a view still takes events in."""

LATE = "late"
LATE_RUNS = "features.late_runs"
"""The metric of runs that are past their deadline."""

STATUS = ("features", "status")
"""Hash: view → JSON of its newest value's event time, when it was last worked on, and
its lag then, all in µs.
"""

HANDLED = """
-- KEYS: the status of the views.  ARGV: view, newest event, now
local raw, event = redis.call('HGET', KEYS[1], ARGV[1]), ARGV[2]
local old = raw and cjson.decode(raw).event
if old and old > tonumber(event) then event = string.format('%.0f', old) end
local lag = string.format('%.0f', math.max(tonumber(ARGV[3]) - tonumber(ARGV[2]), 0))
redis.call('HSET', KEYS[1], ARGV[1], '{"event":' .. event .. ',"handled":' .. ARGV[3] .. ',"lag":' .. lag .. '}')
"""

COMPUTED = """
-- KEYS: the status of the views.  ARGV: view, as of, now.  Computing a day of the past again leaves the newest one's
local raw = redis.call('HGET', KEYS[1], ARGV[1])
if raw and cjson.decode(raw).event > tonumber(ARGV[2]) then return end
redis.call('HSET', KEYS[1], ARGV[1], '{"event":' .. ARGV[2] .. ',"handled":' .. ARGV[3] .. '}')
"""


def late_key(view: str) -> tuple[str, str, str]:
    """Hash of the events that came too late for a view: member → JSON [entity, event
    µs].
    """
    return ("features", LATE, view)


def ahead_key(view: str) -> tuple[str, str, str]:
    """Sorted set by event time of the events that are too far ahead of our clock yet:
    JSON [member, entity, µs, columns].
    """
    return ("features", "ahead", view)


async def handle(
    door: Any, registry: Registry, events: Sequence[EventLike], now: int | None = None
) -> dict[str, int]:
    """Take one tenant's events into its stream views. Idempotent by (source, id).
    `now`: µs since 1970.

    How many were `applied`, `known` already, `late` (kept beside for the batch) and
    ahead of time (`future`: they are taken in once they are due).
    """
    now = now or clock.time_ns() // 1000
    counts = {"applied": 0, "known": 0, "late": 0, "future": 0}
    views = [v for v in registry.views if v.kind == "stream"]
    for view, due in zip(views, await _due(door, views, now), strict=True):
        seen = [o for o in occurrences(view, events) if o.time >= 0]
        soon = [o for o in seen if o.time <= now + SKEW * 1_000_000]
        ahead = [o for o in seen if o.time > now + SKEW * 1_000_000]
        counts["future"] += len(ahead)
        if ahead:
            await door.zadd(ahead_key(view.name), {_parked(o): o.time for o in ahead})
        taken = soon + [_unparked(raw) for raw in due]
        if not taken:
            continue
        done = await apply(door, Plan.of(view), taken, now, GRACE)
        counts["applied"] += done.fresh
        counts["known"] += done.known
        counts["late"] += len(done.late)
        pipe = door.pipeline()
        if due:
            pipe.zrem(ahead_key(view.name), *due)
        if done.late:
            pipe.hset(
                late_key(view.name),
                mapping={o.member: orjson.dumps([o.entity, o.time]) for o in done.late},
            )
        pipe.eval(HANDLED, [STATUS], [view.name, max(o.time for o in taken), now])
        await pipe.execute()
    return counts


async def tell_of_late_runs(log: Any, events: Sequence[Event]) -> None:
    """A run of ours that is past its deadline, as a point of the metric
    `features.late_runs`, which alerts can see. Once for a run, however often the event
    is delivered.
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


async def computed(door: Any, view: View, as_of: int, now: int) -> None:
    """Note that a batch view was computed as of a moment, from what the log had at
    `now`; both in µs.
    """
    await door.eval(COMPUTED, [STATUS], [view.name, as_of, now])


async def _due(door: Any, views: Sequence[View], now: int) -> list[list[bytes]]:
    """Per view, the parked events whose time has come."""
    if not views:
        return []
    pipe = door.pipeline()
    for view in views:
        pipe.zrangebyscore(ahead_key(view.name), "-inf", now + SKEW * 1_000_000, start=0, num=1000)
    found: list[list[bytes]] = await pipe.execute()
    return found


def _parked(o: Occurrence) -> bytes:
    return orjson.dumps([o.member, o.entity, o.time, o.columns])


def _unparked(raw: bytes) -> Occurrence:
    member, entity, time, columns = orjson.loads(raw)
    return Occurrence(time, member, entity, columns)


def occurrences(view: View, events: Iterable[EventLike]) -> Iterable[Occurrence]:
    """The events as the view sees them; those that are not for it are left out."""
    for event in events:
        if reads(view, event.type) and (one := occurrence(view, event, micros(event.time))):
            yield one
