"""A worker that follows the tenants' logs for one group.

One worker at a time handles a tenant's log: the one that holds its lease. A group's
position in the log advances once a batch is handled, so the next owner of the lease
first takes what a dead worker had taken. Which worker handles which tenant follows from
hashing the tenant with the names of the living workers, so nothing has to assign them.
An append is published on a channel; a periodic scan finds what a message missed.

The tenants share a worker's time: a turn is of one tenant and ends after a second or 32
batches, and then the next in the queue has its turn. A handler that takes longer gives
its place to the others and goes on beside them. After an event failed, its tenant waits
for the next delivery outside the queue.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable

from mmh3 import hash as murmur3

from shoal.contract.errors import Unavailable
from shoal.stores.configuration import StoreConfig
from shoal.stores.leases import acquire_lease, release_lease, renew_lease
from shoal.stores.redis_client import REDIS_ERRORS, async_redis, run_script

from . import keys
from .partition_reader import LeaseLost, PartitionReader
from .subscription import Subscription, Tenants

logger = logging.getLogger("shoal.events")

_HEARTBEAT = """
-- KEYS: the group's workers. ARGV: this worker, seconds after which a worker counts as dead.
local now = redis.call('TIME')
now = now[1] + now[2] / 1e6
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
return redis.call('ZRANGE', KEYS[1], 0, -1)
"""

ERRORS = (*REDIS_ERRORS, Unavailable)
BATCHES_PER_TURN = 32
"""Batches of one tenant, after which another tenant has its turn."""
TURN_SECONDS = 1.0
"""After that no other batch of the tenant begins, and its place is another tenant's."""
OVERDUE_TURNS = 32
"""Turns that may go on without a place, once their time has passed."""
MAX_BACKOFF_SECONDS = 10.0
SCAN_OVERLAP_SECONDS = 60
"""How far a scan looks back, since appenders' clocks differ."""


class Consumer:
    """One worker of a group. `run()` works until it is cancelled.

    Args:
        config: Where the logs and the leases are.
        subscription: What the group follows.
        worker: A name that no other living worker of the group has.
        tenants: Whose logs to follow; None for all that exist.
        lease: Seconds after which a silent worker counts as dead.
        poll: Seconds between scans for appends.
        backoff: Seconds to wait after an error, doubled with each in a row.
        concurrency: Tenants that are handled at the same time.
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
        self._config, self._subscription, self._worker = config, subscription, worker
        self._tenants, self._lease, self._poll = tenants, lease, poll
        self._backoff, self._concurrency = backoff, concurrency
        self._scan_now = asyncio.Event()
        self._queue: asyncio.Queue[str] = asyncio.Queue()
        self._members: list[str] = [worker]
        self._stopping = False
        # Tenants, by where they are:
        self._followed = frozenset[str]()
        self._queued: set[str] = set()
        self._busy: set[str] = set()
        self._leased: set[str] = set()
        self._waiting: set[str] = set()
        self._appended_while_busy: set[str] = set()
        self._retry_at_scan: set[str] = set()
        self._last_append: dict[str, float] = {}
        self._errors_in_a_row: dict[str, int] = {}
        self._overdue: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        self._events = async_redis(self._config.events)
        self._online = async_redis(self._config.online)
        await self._repeat(self._heartbeat, once=True)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._repeat(self._heartbeat, every=self._lease / 3))
                group.create_task(self._repeat(self._scan))
                group.create_task(self._repeat(self._listen))
                for _ in range(self._concurrency):
                    group.create_task(self._work(group))
                try:
                    await asyncio.Event().wait()
                finally:
                    # redis-py may swallow a task's cancellation: tell the tasks too.
                    self._stopping = True
        finally:
            with contextlib.suppress(*ERRORS):
                await self._online.zrem(keys.workers(self._subscription.group), self._worker)

    async def _repeat(
        self, step: Callable[[], Awaitable[None]], every: float = 0.05, once: bool = False
    ) -> None:
        """Repeat a step, also after an error."""
        while not self._stopping:
            pause = every
            try:
                await step()
                if once:
                    return
            except ERRORS as error:
                logger.warning("%s of %s: %s", step.__name__, self._subscription.group, error)
                pause = max(every, 0.5)
            await asyncio.sleep(pause)

    # Which tenants have something new, and which of them are this worker's

    async def _heartbeat(self) -> None:
        """Send a heartbeat, list the living workers and renew the leases."""
        group = self._subscription.group
        found = await run_script(
            self._online, _HEARTBEAT, [keys.workers(group)], [self._worker, self._lease]
        )
        members = sorted(member.decode() for member in found)
        for tenant in list(self._leased):
            lease = keys.lease(tenant, group)
            if not await renew_lease(self._online, lease, self._worker, self._lease):
                self._leased.discard(tenant)
        if members != self._members:
            self._members = members
            self._last_append.clear()  # other tenants are this worker's now: scan them all
            self._scan_now.set()

    async def _scan(self) -> None:
        """Find the tenants with new events, then wait for the next scan."""
        self._scan_now.clear()
        if self._tenants is not None:
            self._followed = frozenset(await self._tenants())
        latest = max(self._last_append.values(), default=None)
        since = "-inf" if latest is None else latest - SCAN_OVERLAP_SECONDS
        for raw, appended in await self._events.zrangebyscore(
            keys.TENANTS, since, "+inf", withscores=True
        ):
            tenant = raw.decode()
            if self._last_append.get(tenant) != appended and self._follows(tenant):
                self._last_append[tenant] = appended
                self._enqueue(tenant)
        retried, self._retry_at_scan = self._retry_at_scan, set()
        for tenant in filter(self._follows, retried):
            self._enqueue(tenant)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._scan_now.wait(), self._poll)

    async def _listen(self) -> None:
        """Queue the tenants whose appends are published."""
        async with self._events.pubsub(ignore_subscribe_messages=True) as pubsub:
            await pubsub.subscribe(keys.TENANTS)
            self._scan_now.set()
            while not self._stopping:
                message = await pubsub.get_message(timeout=5)
                if message is not None:
                    self._enqueue(message["data"].decode())

    def _follows(self, tenant: str) -> bool:
        return self._tenants is None or tenant in self._followed

    def _is_mine(self, tenant: str) -> bool:
        """Whether this worker is to handle the tenant (rendezvous hashing)."""
        return max(self._members, key=lambda w: murmur3(f"{w}/{tenant}")) == self._worker

    def _enqueue(self, tenant: str) -> None:
        if not self._follows(tenant):
            # It may be new: ask once which tenants there are.
            if tenant not in self._retry_at_scan:
                self._retry_at_scan.add(tenant)
                self._scan_now.set()
        elif tenant in self._waiting or not self._is_mine(tenant):
            return
        elif tenant in self._busy:
            self._appended_while_busy.add(tenant)
        elif tenant not in self._queued:
            self._queued.add(tenant)
            self._queue.put_nowait(tenant)

    # Handling one tenant's events

    async def _work(self, group: asyncio.TaskGroup) -> None:
        """Give one tenant after another a turn."""
        while not self._stopping:
            tenant = await self._queue.get()
            self._queued.discard(tenant)
            self._busy.add(tenant)
            turn = group.create_task(self._take_turn(tenant))
            await asyncio.wait([turn], timeout=TURN_SECONDS)
            if turn.done():
                continue
            if len(self._overdue) < OVERDUE_TURNS:
                self._overdue.add(turn)
                turn.add_done_callback(self._overdue.discard)
            else:
                await asyncio.wait([turn])

    async def _take_turn(self, tenant: str) -> None:
        """Handle a tenant's events for a while; queue it again where it has more."""
        delay: float | None = None
        try:
            delay = await self._handle_under_lease(tenant)
            self._errors_in_a_row.pop(tenant, None)
        except LeaseLost:
            self._retry_at_scan.add(tenant)
        except ERRORS as error:
            logger.warning("%s of %s waits: %s", self._subscription.group, tenant, error)
            delay = self._next_backoff(tenant)
        finally:
            self._busy.discard(tenant)
        appended = tenant in self._appended_while_busy
        self._appended_while_busy.discard(tenant)
        if delay:
            self._waiting.add(tenant)
            asyncio.get_running_loop().call_later(delay, self._end_wait, tenant)
        elif appended or delay is not None:
            self._enqueue(tenant)

    def _end_wait(self, tenant: str) -> None:
        self._waiting.discard(tenant)
        self._enqueue(tenant)

    def _next_backoff(self, tenant: str) -> float:
        count = self._errors_in_a_row[tenant] = self._errors_in_a_row.get(tenant, 0) + 1
        return min(self._backoff * 2.0**count, MAX_BACKOFF_SECONDS)

    async def _handle_under_lease(self, tenant: str) -> float | None:
        """Handle a tenant's events under its lease.

        Returns:
            Seconds until its next turn; None where no events are left.
        """
        lease = keys.lease(tenant, self._subscription.group)
        if not await acquire_lease(self._online, lease, self._worker, self._lease):
            raise LeaseLost
        self._leased.add(tenant)
        try:
            return await self._handle_batches(tenant)
        finally:
            self._leased.discard(tenant)
            with contextlib.suppress(*ERRORS):
                await release_lease(self._online, lease, self._worker)

    async def _handle_batches(self, tenant: str) -> float | None:
        reader = PartitionReader(
            self._events,
            self._online,
            self._subscription,
            tenant,
            has_lease=lambda: tenant in self._leased,
            backoff=self._backoff,
        )
        end = time.monotonic() + TURN_SECONDS
        for _ in range(BATCHES_PER_TURN):
            delay = None if self._stopping else await reader.handle_batch()
            if delay is None or delay > 0:
                return delay
            if time.monotonic() > end:
                break
        return 0
