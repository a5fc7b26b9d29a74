"""Rejections: events that a group's handler cannot use, kept with the reason."""

from collections.abc import Iterable
from typing import Any

import msgspec

from shoal.contract.events import Rejection

from . import keys
from .codec import sort_key
from .log import RejectedEvent

KEPT = 1_000
"""Rejections of one group in one tenant; the oldest go first."""
KEPT_SECONDS = 30 * 86_400

ADD = """
-- KEYS[3], KEYS[4]: the group's rejections, the counts of all groups.
local rejected = 2 * ARGV[1] + 4
for i = rejected + 4, rejected + 3 + ARGV[rejected] do
  local id = redis.call('XADD', KEYS[3], 'MAXLEN', '=', ARGV[rejected + 2], '*', 'r', ARGV[i])
  local oldest = tonumber(string.match(id, '^%d+')) - 1000 * ARGV[rejected + 3]
  redis.call('XTRIM', KEYS[3], 'MINID', '=', string.format('%.0f', oldest))
end
if tonumber(ARGV[rejected]) > 0 then
  redis.call('EXPIRE', KEYS[3], ARGV[rejected + 3])
  redis.call('HINCRBY', KEYS[4], ARGV[rejected + 1], ARGV[rejected])
end
"""
"""Part of the scripts that move past events. ARGV from `2 * ARGV[1] + 4` on: as
`arguments` gives them.
"""


class _Stored(msgspec.Struct):
    """A rejection as it is stored."""

    id: str
    source: str
    type: str
    time: str
    subject: str | None
    position: str | None
    reason: str


def arguments(group: str, rejections: Iterable[Rejection]) -> list[Any]:
    """How many rejections, the group, what is kept of them, and each in JSON."""
    encoded = [
        msgspec.json.encode(
            _Stored(
                rejection.event.id,
                rejection.event.source,
                rejection.event.type,
                rejection.event.time.isoformat(),
                rejection.event.subject,
                rejection.event.position,
                rejection.reason,
            )
        )
        for rejection in rejections
    ]
    return [len(encoded), group, KEPT, KEPT_SECONDS, *encoded]


async def count_rejections(events: Any, tenant: str) -> dict[str, int]:
    """How many events each group has rejected in all, kept or not."""
    counts = await events.hgetall(keys.rejection_counts(tenant))
    return {group.decode(): int(count) for group, count in sorted(counts.items())}


async def list_rejections(
    events: Any, tenant: str, groups: Iterable[str], before: tuple[str, str] | None, limit: int
) -> list[RejectedEvent]:
    """See `EventLog.rejections`."""
    seconds, _ = await events.time()
    oldest = f"{1000 * (int(seconds) - KEPT_SECONDS)}"
    found: list[RejectedEvent] = []
    for group in groups:
        newest = "+"
        if before is not None:  # of the same id, groups come in the order of their names
            newest = before[0] if group > before[1] else f"({before[0]}"
        page = await events.xrevrange(keys.rejections(tenant, group), newest, oldest, count=limit)
        found += [_rejected_event(group, id.decode(), fields[b"r"]) for id, fields in page]
    found.sort(key=lambda each: each.group)
    found.sort(key=lambda each: sort_key(each.id), reverse=True)
    return found[:limit]


async def forget_rejections(events: Any, tenant: str, group: str) -> int:
    """Remove a group's rejections and their count; whether there were any."""
    removed = await events.delete(keys.rejections(tenant, group))
    return int(removed) + int(await events.hdel(keys.rejection_counts(tenant), group))


def event_name(raw: bytes) -> tuple[str, str]:
    """Source and id of the event of a stored rejection."""
    stored = msgspec.json.decode(raw, type=_Stored)
    return stored.source, stored.id


def _rejected_event(group: str, id: str, raw: bytes) -> RejectedEvent:
    stored = msgspec.json.decode(raw, type=_Stored)
    return RejectedEvent(
        id,
        group,
        stored.position,
        stored.reason,
        stored.id,
        stored.source,
        stored.type,
        stored.time,
        stored.subject,
    )
