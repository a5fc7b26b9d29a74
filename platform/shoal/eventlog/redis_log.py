"""The platform's end of the event log: following it, its dead letters, replay and the
archive.
"""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from shoal.contract.errors import NotFound
from shoal.contract.events import Event
from shoal.contract.names import check_tenant
from shoal.stores.configuration import StoreConfig
from shoal.stores.redis_client import async_redis, run_atomically, translate_errors
from shoal.stores.redis_keys import delete_keys, has_keys

from . import codec
from .consumer import Consumer, Handler, Subscription, Tenants
from .event_store import announce, append_command

CHUNK = 1_000


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that a group's handler could not handle."""

    id: str
    group: str
    position: str
    error: str
    deliveries: int
    event: Event


@dataclass(frozen=True, slots=True)
class GroupState:
    """How far a group is in one tenant's log: up to `position`, with `lag` events after
    it (counted up to 10,000), the oldest of them appended `behind` seconds ago.
    """

    group: str
    position: str
    lag: int
    behind: float


class EventLog:
    """All tenants' logs. Unavailable when Redis is away, except in `consume`, which
    waits for it.
    """

    def __init__(self, config: StoreConfig) -> None:
        self._config = config

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
        """Follow the logs as one worker of a group, until `stop` is set or the task is
        cancelled.

        `handler(tenant, events)` gets one tenant's events of the given `types`
        (`item.*` is a prefix; none: all), in order. At least once: after a fault or a
        worker's death the same events come again, one by one, and after `deliveries` of
        them an event that still fails becomes a dead letter. `Unavailable` does not
        count as a fault: the event waits, and what is behind it. `worker` must be
        unique among the group's living workers. `tenants` says whose logs to follow
        (default: all that there are).
        """
        consumer = Consumer(
            self._config,
            Subscription(group, handler, tuple(types), batch_size, deliveries),
            worker,
            tenants=tenants,
            lease=lease,
            concurrency=concurrency,
        )
        task = asyncio.ensure_future(consumer.run())
        stopped = asyncio.ensure_future(stop.wait() if stop is not None else asyncio.Event().wait())
        try:
            await asyncio.wait([task, stopped], return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            if not task.done():
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def tenants(self) -> list[str]:
        """Those who have a log."""
        with translate_errors():
            return [
                t.decode()
                for t in await async_redis(self._config.events).zrange(codec.TENANTS, 0, -1)
            ]

    async def groups(self, tenant: str) -> list[GroupState]:
        """The groups that follow a tenant's log."""
        client, log, found = async_redis(self._config.events), codec.log(check_tenant(tenant)), []
        with translate_errors():
            for name, position in sorted((await client.hgetall(codec.groups(tenant))).items()):
                left = await client.xrange(log, f"({position.decode()}", "+", count=10_000)
                behind = time.time() - codec.order(left[0][0].decode())[0] / 1000 if left else 0.0
                found.append(
                    GroupState(name.decode(), position.decode(), len(left), max(behind, 0.0))
                )
        return found

    async def forget_group(self, tenant: str, group: str) -> None:
        """Remove a group that will not come back: it would keep the log from being
        trimmed.
        """
        client = async_redis(self._config.events)
        with translate_errors():
            await client.hdel(codec.groups(check_tenant(tenant)), group)
            await client.delete(codec.again(tenant, group))

    async def dead_letters(
        self, tenant: str, *, group: str | None = None, after: str = "0", limit: int = 100
    ) -> list[DeadLetter]:
        """Oldest first, from after the letter `after`."""
        position, found = codec.check_position(after), list[DeadLetter]()
        client, key = async_redis(self._config.events), codec.dead(check_tenant(tenant))
        with translate_errors():
            while len(found) < limit:
                letters = await client.xrange(key, f"({position}", "+", count=CHUNK)
                found += [
                    _letter(raw, f)
                    for raw, f in letters
                    if group is None or f[b"group"].decode() == group
                ]
                if len(letters) < CHUNK:
                    break
                position = letters[-1][0].decode()
        return found[:limit]

    async def forget(self, tenant: str, ids: Sequence[str]) -> int:
        """Drop dead letters; how many went."""
        ids = [codec.check_position(i) for i in ids]
        with translate_errors():
            return (
                int(
                    await async_redis(self._config.events).xdel(
                        codec.dead(check_tenant(tenant)), *ids
                    )
                )
                if ids
                else 0
            )

    async def replay(
        self, tenant: str, group: str, *, ids: Sequence[str] | None = None, after: str | None = None
    ) -> int:
        """Give a group events again: the dead letters `ids` (NotFound when one is none
        of the group's), or all after a position, which may lie in the archive. They
        come before anything newer, in the log's order. How many.
        """
        if (ids is None) == (after is None):
            raise ValueError("replay takes either ids or a position")
        check_tenant(tenant)
        with translate_errors():
            count = await (
                self._requeue(tenant, group, ids)
                if ids is not None
                else self._rewind(tenant, group, after or "0")
            )
            await announce(async_redis(self._config.events), tenant)
        return count

    async def archive(self, tenant: str, keep: timedelta = timedelta(hours=1)) -> int:
        """See `shoal.eventlog.archive.archive`."""
        from .archive import archive

        return await archive(self._config, tenant, keep)

    async def _requeue(self, tenant: str, group: str, ids: Sequence[str]) -> int:
        client, key = async_redis(self._config.events), codec.dead(tenant)
        letters = []
        for position in dict.fromkeys(codec.check_position(i) for i in ids):
            found = await client.xrange(key, position, position)
            if not found or found[0][1][b"group"].decode() != group:
                raise NotFound(f"{group} has no dead letter {position}")
            letters.append(found[0])
        letters.sort(key=lambda letter: codec.order(letter[1][b"position"].decode()))
        commands: list[tuple[Any, ...]] = []
        for position, fields in letters:
            entry = {"t": fields[b"t"], "e": fields[b"e"]}
            commands.append(append_command(codec.again(tenant, group), entry))
            commands.append(("XDEL", key, position))
        await run_atomically(client, commands)
        return len(letters)

    async def _rewind(self, tenant: str, group: str, after: str) -> int:
        client, log = async_redis(self._config.events), codec.log(tenant)
        codec.check_position(after)
        first = await client.xrange(log, "-", "+", count=1)
        held = first[0][0].decode() if first else None
        count = 0
        if held is None or codec.order(after) < codec.order(held):
            from shoal.stores.lake import TenantLake, run

            from .archive import archived

            old = await run(archived, TenantLake(self._config.lake, tenant), after, held)
            for start in range(0, len(old), CHUNK):
                chunk = old[start : start + CHUNK]
                retry_queue = codec.again(tenant, group)
                await run_atomically(
                    client,
                    [append_command(retry_queue, codec.write(event)) for _, event in chunk],
                )
            count = len(old)
        if held is not None:
            await client.hset(codec.groups(tenant), group, after)
            await async_redis(self._config.online).delete(
                codec.work(log, group)
            )  # what was taken before is no sign of a death
            cursor = after
            while page := await client.xrange(log, f"({cursor}", "+", count=CHUNK):
                count, cursor = count + len(page), page[-1][0].decode()
        return count


def _letter(raw: bytes, fields: dict[bytes, Any]) -> DeadLetter:
    text = {
        name: fields[name.encode()].decode(errors="replace")
        for name in ("group", "position", "error", "deliveries")
    }
    return DeadLetter(
        raw.decode(),
        text["group"],
        text["position"],
        text["error"],
        int(text["deliveries"]),
        codec.read(fields),
    )


async def erase(config: StoreConfig, tenant: str) -> int:
    """Delete a tenant's log; return how many events and dead letters there were."""
    events, online = async_redis(config.events), async_redis(config.online)
    with translate_errors():
        lengths = [await events.xlen(key(tenant)) for key in (codec.log, codec.dead)]
        for client in {config.events: events, config.online: online}.values():
            await delete_keys(client, f"{codec.log(tenant)}*")
        await events.zrem(codec.TENANTS, tenant)
    return sum(map(int, lengths))


async def has_data(config: StoreConfig, tenant: str) -> bool:
    """Whether a tenant has a log."""
    with translate_errors():
        return await has_keys(async_redis(config.events), f"{codec.log(tenant)}*")
