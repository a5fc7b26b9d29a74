"""A worker that follows the tenants' logs for one group.

A tenant's log is worked on by one worker at a time, who holds a lease. A group's
position in it moves on when a batch has been handled, so what a dead worker had taken
is what the next owner takes first. Whose turn a tenant is follows from hashing the
tenant with the living workers' names: no one has to divide them up. An append announces
itself on a channel; a look now and then finds what an announcement missed.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from mmh3 import hash as murmur3

from shoal.contract.errors import Unavailable
from shoal.contract.events import Event
from shoal.stores.configuration import StoreConfig
from shoal.stores.redis_client import REDIS_ERRORS, async_redis

from . import codec
from .partition_reader import LeaseLost, PartitionReader

logger = logging.getLogger("shoal.events")

RENEW = """if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('pexpire', KEYS[1], ARGV[2]) end return 0"""
RELEASE = """if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0"""
BEAT = """
local now = redis.call('time')
now = now[1] + now[2] / 1e6
redis.call('zadd', KEYS[1], now, ARGV[1])
redis.call('zremrangebyscore', KEYS[1], '-inf', now - ARGV[2])
return redis.call('zrange', KEYS[1], 0, -1)"""

Handler = Callable[[str, list[Event]], Awaitable[None]]
Tenants = Callable[[], Awaitable[Sequence[str]]]
FAULTS = (*REDIS_ERRORS, Unavailable)
SLICE = 32
"""Batches of one tenant, after which another has the turn."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """What a group wants, and what it does with it: `handle(tenant, events)` gets
    events of one tenant in order, and again after a fault.

    An event that fails goes to the dead letters at its `deliveries`th delivery, or at
    the next one where each killed its worker. `Unavailable` does not count: then the
    event waits, and what is behind it too.
    """

    group: str
    handle: Handler
    types: tuple[str, ...] = ()
    batch_size: int = 256
    deliveries: int = 5


class Consumer:
    """One worker of a group. `run()` works until it is cancelled; `lease` is after how
    many seconds a silent worker counts as dead.
    """

    def __init__(
        self,
        config: StoreConfig,
        subscription: Subscription,
        worker: str,
        *,
        tenants: Tenants | None = None,
        lease: float = 10.0,
        poll: float = 5.0,
        backoff: float = 0.1,
        concurrency: int = 8,
    ) -> None:
        self._config, self._sub, self._worker = config, subscription, worker
        self._tenants, self._known = tenants, frozenset[str]()
        self._lease, self._poll, self._backoff, self._concurrency = (
            lease,
            poll,
            backoff,
            concurrency,
        )
        self._hurry = asyncio.Event()
        self._queue: asyncio.Queue[str] = asyncio.Queue()
        self._queued: set[str] = set()
        self._busy: set[str] = set()
        self._woken: set[str] = set()
        self._waiting: set[str] = set()
        self._held: set[str] = set()
        self._seen: dict[str, float] = {}
        self._faults: dict[str, int] = {}
        self._members: list[str] = [worker]
        self._stopping = False

    async def run(self) -> None:
        self._events, self._online = (
            async_redis(self._config.events),
            async_redis(self._config.online),
        )
        await self._steadily(self._beat, once=True)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._steadily(self._beat, every=self._lease / 3))
                group.create_task(self._steadily(self._look))
                group.create_task(self._steadily(self._listen))
                for _ in range(self._concurrency):
                    group.create_task(self._work())
                try:
                    await asyncio.Event().wait()
                finally:
                    self._stopping = True  # for whom a library keeps the cancellation from, as redis-py at times does
        finally:
            with contextlib.suppress(*FAULTS):
                await self._online.zrem(codec.workers(self._sub.group), self._worker)

    async def _steadily(
        self, step: Callable[[], Awaitable[None]], every: float = 0.05, once: bool = False
    ) -> None:
        """Repeat a step; while Redis is away, try again."""
        while not self._stopping:
            pause = every
            try:
                await step()
                if once:
                    return
            except FAULTS as error:
                logger.warning("%s of %s: %s", step.__name__, self._sub.group, error)
                pause = max(every, 0.5)
            await asyncio.sleep(pause)

    # Whose turn a tenant is

    async def _beat(self) -> None:
        """Say that this worker lives, see who else does, and keep the leases held."""
        found = await self._online.eval(
            BEAT, 1, codec.workers(self._sub.group), self._worker, self._lease
        )
        members = sorted(m.decode() for m in found)
        for tenant in list(self._held):
            key = codec.lease(tenant, self._sub.group)
            if not await self._online.eval(RENEW, 1, key, self._worker, int(self._lease * 1000)):
                self._held.discard(tenant)
        if members != self._members:
            self._members = members
            self._seen.clear()  # what a lost worker had is someone's now: look at every tenant
            self._hurry.set()

    async def _look(self) -> None:
        """Find tenants that had an append since the last look, announced or not; then
        wait for the next look's time.
        """
        self._hurry.clear()
        if self._tenants is not None:
            self._known = frozenset(await self._tenants())
        since = max(self._seen.values()) - 60 if self._seen else "-inf"
        for raw, score in await self._events.zrangebyscore(
            codec.TENANTS, since, "+inf", withscores=True
        ):
            tenant = raw.decode()
            if self._seen.get(tenant) != score and self._follows(tenant):
                self._seen[tenant] = score
                self._wake(tenant)
        waiting, self._waiting = self._waiting, set()
        for tenant in filter(self._follows, waiting):
            self._wake(tenant)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._hurry.wait(), self._poll)

    async def _listen(self) -> None:
        async with self._events.pubsub(ignore_subscribe_messages=True) as pubsub:
            await pubsub.subscribe(codec.TENANTS)
            self._hurry.set()
            while not self._stopping:
                message = await pubsub.get_message(timeout=5)
                if message is not None:
                    self._wake(message["data"].decode())

    def _follows(self, tenant: str) -> bool:
        return self._tenants is None or tenant in self._known

    def _wake(self, tenant: str) -> None:
        if not self._follows(tenant):
            if tenant not in self._waiting:  # perhaps it is new; one that was removed stays unknown
                self._waiting.add(tenant)
                self._hurry.set()
        elif max(self._members, key=lambda worker: murmur3(f"{worker}/{tenant}")) != self._worker:
            pass
        elif tenant in self._busy:
            self._woken.add(tenant)
        elif tenant not in self._queued:
            self._queued.add(tenant)
            self._queue.put_nowait(tenant)

    # One tenant's turn

    async def _work(self) -> None:
        while not self._stopping:
            tenant = await self._queue.get()
            self._queued.discard(tenant)
            self._busy.add(tenant)
            delay: float | None = None
            try:
                if await self._turn(tenant):
                    self._faults.pop(tenant, None)
                else:
                    delay = self._pause(tenant)
            except LeaseLost:
                self._waiting.add(tenant)
            except FAULTS as error:
                logger.warning("%s of %s waits: %s", self._sub.group, tenant, error)
                delay = self._pause(tenant)
            finally:
                self._busy.discard(tenant)
            woken = tenant in self._woken
            self._woken.discard(tenant)
            if delay is not None:
                asyncio.get_running_loop().call_later(delay, self._wake, tenant)
            elif woken:
                self._wake(tenant)

    def _pause(self, tenant: str) -> float:
        """Seconds to wait, doubled with each fault in a row."""
        count = self._faults[tenant] = self._faults.get(tenant, 0) + 1
        return min(self._backoff * 2.0**count, 10.0)

    async def _turn(self, tenant: str) -> bool:
        """Take the lease, handle what there is, give it back. False when what there is
        must wait.
        """
        key = codec.lease(tenant, self._sub.group)
        if not await self._online.set(key, self._worker, nx=True, px=int(self._lease * 1000)):
            raise LeaseLost
        self._held.add(tenant)
        try:
            return await self._drain(tenant)
        finally:
            self._held.discard(tenant)
            with contextlib.suppress(*FAULTS):
                await self._online.eval(RELEASE, 1, key, self._worker)

    async def _drain(self, tenant: str) -> bool:
        source = PartitionReader(
            self._events,
            self._online,
            self._sub,
            tenant,
            lambda: tenant in self._held,
            self._backoff,
        )
        for _ in range(SLICE):
            handled = None if self._stopping else await source.step()
            if handled is None:
                return True
            if not handled:
                return False
        self._woken.add(tenant)
        return True
