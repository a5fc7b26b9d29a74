"""The event log in Redis streams, one per tenant."""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from shoal.contract.names import check_tenant
from shoal.stores.configuration import StoreConfig
from shoal.stores.redis_client import async_redis, translate_errors
from shoal.stores.redis_keys import delete_keys, has_keys

from . import dead_letters, keys, rejections, replay
from .codec import check_position, sort_key
from .consumer import Consumer
from .log import DeadLetter, GroupState, RejectedEvent
from .streams import PAGE, announce
from .subscription import Handler, Subscription, Tenants

MAX_LAG = 10_000


class RedisEventLog:
    """See `shoal.eventlog.log.EventLog`."""

    def __init__(self, config: StoreConfig) -> None:
        self._config = config

    @property
    def _events(self) -> Any:
        return async_redis(self._config.events)

    async def consume(
        self,
        group: str,
        worker: str,
        handler: Handler,
        *,
        types: Sequence[str] = (),
        tenants: Tenants | None = None,
        stop: asyncio.Event | None = None,
        batch_size: int = 256,
        deliveries: int = 5,
        lease: float = 10.0,
        concurrency: int = 8,
    ) -> None:
        consumer = Consumer(
            self._config,
            Subscription(group, handler, tuple(types), batch_size, deliveries),
            worker,
            tenants=tenants,
            lease=lease,
            concurrency=concurrency,
        )
        task = asyncio.ensure_future(consumer.run())
        stopped = asyncio.ensure_future((stop or asyncio.Event()).wait())
        try:
            await asyncio.wait([task, stopped], return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            if not task.done():
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def tenants(self) -> list[str]:
        with translate_errors():
            return [name.decode() for name in await self._events.zrange(keys.TENANTS, 0, -1)]

    async def groups(self, tenant: str) -> list[GroupState]:
        log, found = keys.log(check_tenant(tenant)), []
        with translate_errors():
            positions = await self._events.hgetall(keys.groups(tenant))
            for name, position in sorted(positions.items()):
                oldest, lag = await self._count_after(log, position.decode())
                appended = sort_key(oldest)[0] / 1000 if oldest else time.time()
                behind = max(time.time() - appended, 0.0)
                found.append(GroupState(name.decode(), position.decode(), lag, behind))
        return found

    async def _count_after(self, log: str, position: str) -> tuple[str | None, int]:
        """The position of the first event after a position, and how many there are."""
        oldest, count = None, 0
        while count < MAX_LAG:
            page = await self._events.xrange(log, f"({position}", "+", count=PAGE)
            if page and oldest is None:
                oldest = page[0][0].decode()
            count += len(page)
            if len(page) < PAGE:
                break
            position = page[-1][0].decode()
        return oldest, count

    async def group_names(self, tenant: str) -> list[str]:
        with translate_errors():
            names = await self._events.hkeys(keys.groups(check_tenant(tenant)))
            letters = await dead_letters.count_dead_letters(self._events, tenant)
            rejected = await rejections.count_rejections(self._events, tenant)
        return sorted({name.decode() for name in names} | letters.keys() | rejected.keys())

    async def forget_group(self, tenant: str, group: str) -> bool:
        online, retry_queue = async_redis(self._config.online), keys.retry_queue(tenant, group)
        with translate_errors():
            known = await self._events.hdel(keys.groups(check_tenant(tenant)), group)
            known += await self._events.delete(retry_queue)
            known += await rejections.forget_rejections(self._events, tenant, group)
            works = [keys.work(stream, group) for stream in (keys.log(tenant), retry_queue)]
            known += await online.delete(*works, keys.lease(tenant, group))
            await online.delete(keys.workers(group))
        return bool(known)

    async def dead_letters(
        self, tenant: str, *, group: str | None = None, after: str = "0", limit: int = 100
    ) -> list[DeadLetter]:
        check_tenant(tenant)
        with translate_errors():
            return await dead_letters.list_dead_letters(self._events, tenant, group, after, limit)

    async def delete_dead_letters(self, tenant: str, ids: Sequence[str]) -> int:
        positions = [check_position(letter) for letter in ids]
        check_tenant(tenant)
        with translate_errors():
            return await dead_letters.delete_dead_letters(self._events, tenant, positions)

    async def dead_letter_counts(self, tenant: str) -> dict[str, int]:
        check_tenant(tenant)
        with translate_errors():
            return await dead_letters.count_dead_letters(self._events, tenant)

    async def rejections(
        self,
        tenant: str,
        *,
        group: str | None = None,
        before: tuple[str, str] | None = None,
        limit: int = 100,
    ) -> list[RejectedEvent]:
        check_tenant(tenant)
        if before is not None:
            check_position(before[0], "cursor")
        groups = [group] if group else await self.rejection_counts(tenant)
        with translate_errors():
            return await rejections.list_rejections(self._events, tenant, groups, before, limit)

    async def rejection_counts(self, tenant: str) -> dict[str, int]:
        with translate_errors():
            return await rejections.count_rejections(self._events, check_tenant(tenant))

    async def replay(
        self, tenant: str, group: str, *, ids: Sequence[str] | None = None, after: str | None = None
    ) -> int:
        if (ids is None) == (after is None):
            raise ValueError("replay takes either ids or a position")
        check_tenant(tenant)
        with translate_errors():
            if ids is not None:
                count = await dead_letters.requeue_dead_letters(self._events, tenant, group, ids)
            else:
                count = await replay.rewind(self._config, tenant, group, after or "0")
            await announce(self._events, tenant)
        return count

    async def archive(
        self,
        tenant: str,
        keep: timedelta = timedelta(hours=1),
        wait: timedelta = timedelta(0),
    ) -> int:
        from .archive import archive_log  # imports pyarrow

        return await archive_log(self._config, tenant, keep, wait)


async def erase(config: StoreConfig, tenant: str) -> int:
    """Delete a tenant's log; return how many events and dead letters there were."""
    events, online = async_redis(config.events), async_redis(config.online)
    with translate_errors():
        lengths = [await events.xlen(key(tenant)) for key in (keys.log, keys.dead_letters)]
        for client in {config.events: events, config.online: online}.values():
            await delete_keys(client, f"{keys.log(tenant)}*")
        await events.zrem(keys.TENANTS, tenant)
    return sum(map(int, lengths))


async def has_data(config: StoreConfig, tenant: str) -> bool:
    """Whether a tenant has a log."""
    with translate_errors():
        return await has_keys(async_redis(config.events), f"{keys.log(tenant)}*")
