"""Handles one tenant's events under a lease: batches, retries, dead letters."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from shoal.contract.errors import Unavailable
from shoal.stores.redis_client import run_script

from . import keys, rejections
from .codec import Entry, placed_event, sort_key, type_filter
from .dead_letters import add_dead_letter
from .subscription import Handled, Subscription

logger = logging.getLogger("shoal.events")

_ADVANCE = """
-- Advance a group's position, unless another worker or a replay moved it, or the log was
-- erased.
-- KEYS: the usage of the day and of the month, the group's rejections, the counts of
-- rejections, the groups' positions, the log.
-- ARGV: the number of fields of usage, for each its name and what was used; seconds until
-- the usage of the day and of the month expires; the number of rejections, the group,
-- how many are kept and for how many seconds, each in JSON; the group, its position as the
-- worker knows it, the new one.
local at = 2 * ARGV[1] + 8 + ARGV[2 * ARGV[1] + 4]
local position = redis.call('HGET', KEYS[5], ARGV[at]) or ''
if redis.call('EXISTS', KEYS[6]) == 0 or position ~= ARGV[at + 1] then return 0 end
redis.call('HSET', KEYS[5], ARGV[at], ARGV[at + 2])
"""
_REMOVE = """
-- Remove events from a group's retry queue, unless another worker did.
-- KEYS: as above, but at the end the queue.
-- ARGV: as above, but at the end the events' positions.
local at = 2 * ARGV[1] + 8 + ARGV[2 * ARGV[1] + 4]
if redis.call('XDEL', KEYS[5], unpack(ARGV, at)) == 0 then return 0 end
"""
_COUNT = """
for i = 2, 2 * ARGV[1], 2 do
  for period = 1, 2 do
    redis.call('HINCRBY', KEYS[period], ARGV[i], ARGV[i + 1])
    redis.call('EXPIRE', KEYS[period], ARGV[2 * ARGV[1] + 1 + period])
  end
end
return 1
"""
"""The end of both scripts: counts what handling the events used."""
ADVANCE = _ADVANCE + rejections.ADD + _COUNT
REMOVE = _REMOVE + rejections.ADD + _COUNT

HANDLER_SECONDS = 300.0
"""A call of a handler that takes longer has failed."""


class LeaseLost(Exception):
    """Another worker has the tenant's lease, or moved the group's position."""


class PartitionReader:
    """Reads one tenant's log for one group: its retry queue first, then the log."""

    def __init__(
        self,
        events: Any,
        online: Any,
        subscription: Subscription,
        tenant: str,
        *,
        has_lease: Callable[[], bool],
        backoff: float,
    ) -> None:
        self._events, self._online = events, online
        self._subscription, self._tenant = subscription, tenant
        self._group, self._has_lease, self._backoff = subscription.group, has_lease, backoff
        self._is_wanted = type_filter(subscription.types)
        self._log, self._retry_queue = keys.log(tenant), keys.retry_queue(tenant, self._group)
        self._one_by_one_until: dict[str, tuple[int, int]] = {}
        """By stream: the end of a batch that was taken and not finished. Up to there
        events are handled one by one.
        """

    async def handle_batch(self) -> float | None:
        """Handle the next events.

        Returns:
            Seconds to wait before the next call: 0, or more after an event failed. None
            where no events are left.

        Raises:
            LeaseLost: The tenant is another worker's.
            Unavailable: A store is; the events wait.
        """
        stream, position, batch = await self._read_batch()
        if not batch:
            return None
        if stream not in self._one_by_one_until:
            taken = await self._online.hget(keys.work(stream, self._group), "taken")
            self._one_by_one_until[stream] = sort_key(taken.decode()) if taken else (0, 0)
        if sort_key(batch[0][0].decode()) <= self._one_by_one_until[stream]:
            return await self._handle_one(stream, position, batch[0])
        if not any(self._is_wanted(fields[b"t"]) for _, fields in batch):
            await self._finish(stream, position, batch, Handled())
            return 0
        last = batch[-1][0]
        work = keys.work(stream, self._group)
        await self._online.hset(work, mapping={"taken": last, "tries": 0})
        try:
            handled = await self._handle(batch)
        except Exception as error:
            self._warn(f"a batch of {len(batch)} failed: {error!r}")
            self._one_by_one_until[stream] = sort_key(last.decode())
            if isinstance(error, Unavailable):
                raise
            return 0
        await self._finish(stream, position, batch, handled)
        return 0

    async def _read_batch(self) -> tuple[str, bytes, list[Entry]]:
        """The stream, the group's position in it, and the next entries."""
        count = self._subscription.batch_size
        pipe = self._events.pipeline(transaction=False)
        pipe.xrange(self._retry_queue, "-", "+", count=count)
        pipe.hget(keys.groups(self._tenant), self._group)
        retried, position = await pipe.execute()
        if retried:
            return self._retry_queue, b"", retried
        after = f"({position.decode()}" if position else "-"
        batch = await self._events.xrange(self._log, after, "+", count=count)
        return self._log, position or b"", batch

    async def _handle(self, batch: Sequence[Entry]) -> Handled:
        """Handle a batch; what came of it."""
        events = [placed_event(entry) for entry in batch if self._is_wanted(entry[1][b"t"])]
        if not events:
            return Handled()
        async with asyncio.timeout(HANDLER_SECONDS):
            return await self._subscription.handle(self._tenant, events) or Handled()

    async def _finish(
        self, stream: str, position: bytes, batch: Sequence[Entry], handled: Handled
    ) -> None:
        """Move past a batch that is handled, and record what came of it."""
        if not self._has_lease():
            raise LeaseLost
        day = datetime.now(UTC).date().isoformat()
        recorded = [keys.usage(self._tenant, period) for period in (day, day[:7])]
        recorded += [
            keys.rejections(self._tenant, self._group),
            keys.rejection_counts(self._tenant),
        ]
        fields = [part for pair in handled.used.items() for part in pair]
        records = [len(handled.used), *fields, *keys.EXPIRY_SECONDS.values()]
        records += rejections.arguments(self._group, handled.rejections)
        if stream == self._retry_queue:
            done = await run_script(
                self._events,
                REMOVE,
                [*recorded, stream],
                [*records, *(at for at, _ in batch)],
            )
        else:
            done = await run_script(
                self._events,
                ADVANCE,
                [*recorded, keys.groups(self._tenant), self._log],
                [*records, self._group, position, batch[-1][0]],
            )
        if not done:
            raise LeaseLost

    async def _handle_one(self, stream: str, position: bytes, entry: Entry) -> float:
        """Handle one event; how many seconds to wait before the next.

        Its deliveries are counted before it is handled, so that an event that kills its
        worker is counted too.
        """
        at, limit = entry[0], self._subscription.deliveries
        work = keys.work(stream, self._group)
        head, tries = await self._online.hmget(work, "head", "tries")
        deliveries = (int(tries or 0) if head == at else 0) + 1
        if deliveries > limit:
            error_text = "the worker died each time it handled the event"
            await self._give_up(stream, position, entry, error_text, deliveries - 1)
            return 0
        await self._online.hset(work, mapping={"head": at, "tries": deliveries})
        try:
            handled = await self._handle([entry])
        except Unavailable:
            await self._online.hset(work, "tries", deliveries - 1)
            raise
        except Exception as error:
            self._warn(f"{at.decode()} failed (delivery {deliveries}): {error!r}")
            if deliveries < limit:
                return self._backoff * 2.0 ** (deliveries - 1)
            error_text = f"{type(error).__name__}: {error}"
            await self._give_up(stream, position, entry, error_text, deliveries)
            return 0
        await self._finish(stream, position, [entry], handled)
        return 0

    async def _give_up(
        self, stream: str, position: bytes, entry: Entry, error: str, deliveries: int
    ) -> None:
        """Make an event a dead letter and move past it.

        A crash between the two makes it a dead letter twice.
        """
        await add_dead_letter(self._events, self._tenant, self._group, entry, error, deliveries)
        await self._finish(stream, position, [entry], Handled())
        logger.error(
            "%s of %s: %s is a dead letter: %s", self._group, self._tenant, entry[0].decode(), error
        )

    def _warn(self, text: str) -> None:
        logger.warning("%s of %s: %s", self._group, self._tenant, text)
