"""Setting a group back to a position, so that it handles events again."""

from typing import Any

from shoal.stores.configuration import StoreConfig
from shoal.stores.redis_client import async_redis, run_atomically

from . import keys
from .codec import check_position, encode_event, sort_key
from .streams import PAGE, append_command


async def rewind(config: StoreConfig, tenant: str, group: str, after: str) -> int:
    """Have a group handle all events after a position again; return how many.

    Events that only the lake still has go to the group's retry queue; for the others
    the group's position in the log is set back.
    """
    events, online = async_redis(config.events), async_redis(config.online)
    log = keys.log(tenant)
    check_position(after)
    first = await events.xrange(log, "-", "+", count=1)
    oldest = first[0][0].decode() if first else None
    count = 0
    if oldest is None or sort_key(after) < sort_key(oldest):
        count += await _queue_archived(config, tenant, group, after, oldest)
    if oldest is not None:
        await events.hset(keys.groups(tenant), group, after)
        # A batch that was taken before is now no sign of a worker's death.
        await online.delete(keys.work(log, group))
        count += await _count_after(events, log, after)
    return count


async def _queue_archived(
    config: StoreConfig, tenant: str, group: str, after: str, before: str | None
) -> int:
    from shoal.stores.lake import EVENTS, TenantLake, run

    from .archive import archived_events

    events, retry_queue = async_redis(config.events), keys.retry_queue(tenant, group)
    table = TenantLake(config.lake, tenant).table(EVENTS)
    found = await run(archived_events, table, after, before)
    for start in range(0, len(found), PAGE):
        entries = [
            {**encode_event(event), "p": position.encode()}
            for position, event in found[start : start + PAGE]
        ]
        await run_atomically(events, [append_command(retry_queue, entry) for entry in entries])
    return len(found)


async def _count_after(events: Any, log: str, position: str) -> int:
    count = 0
    while page := await events.xrange(log, f"({position}", "+", count=PAGE):
        count, position = count + len(page), page[-1][0].decode()
    return count
