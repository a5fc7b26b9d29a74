"""From the event log into the windows: the stream side of every stream view."""

import time as clock
from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from .extraction import EventLike, occurrence, reads
from .online import apply
from .registry import Registry, View
from .values import micros
from .windows import SKEW, Occurrence, Plan

GRACE = 600
"""Seconds past its longest window that a view still takes events in."""

LATE = "late"
STATUS = ("features", "status")
"""Hash: view → JSON of when it was last worked on."""


def late_key(view: str) -> tuple[str, str, str]:
    """Hash of the events that came too late for a view: member → JSON [entity, event µs]."""
    return ("features", LATE, view)


async def handle(door: Any, registry: Registry, events: Sequence[EventLike], now: int | None = None) -> dict[str, int]:
    """Take one tenant's events into its stream views. Idempotent by (source, id). `now`: µs since 1970.

    How many were `applied`, `known` already, `late` (kept beside for the batch) and ahead of time (`future`).
    """
    now = now or clock.time_ns() // 1000
    counts = {"applied": 0, "known": 0, "late": 0, "future": 0}
    for view in registry.views:
        if view.kind != "stream":
            continue
        seen = list(occurrences(view, events))
        soon = [o for o in seen if 0 <= o.time <= now + SKEW * 1_000_000]
        counts["future"] += len(seen) - len(soon)
        if not soon:
            continue
        done = await apply(door, Plan.of(view), soon, now, GRACE)
        counts["applied"] += done.fresh
        counts["known"] += done.known
        counts["late"] += len(done.late)
        newest = max(o.time for o in soon)
        pipe = door.pipeline()
        if done.late:
            pipe.hset(late_key(view.name), mapping={o.member: orjson.dumps([o.entity, o.time]) for o in done.late})
        pipe.hset(STATUS, view.name, orjson.dumps({"event": newest, "handled": now}))
        await pipe.execute()
    return counts


def occurrences(view: View, events: Iterable[EventLike]) -> Iterable[Occurrence]:
    """The events as the view sees them; those that are not for it are left out."""
    for event in events:
        if reads(view, event.type) and (one := occurrence(view, event, micros(event.time))):
            yield one
