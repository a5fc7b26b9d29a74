"""What a worker does while it has the lease of one tenant's log: take, handle, move on;
and what it does when that fails.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from shoal.contract.errors import Unavailable

from . import codec

if TYPE_CHECKING:
    from .consumer import Subscription

logger = logging.getLogger("shoal.events")

ADVANCE = """
local at = redis.call('hget', KEYS[1], ARGV[1]) or ''
if redis.call('exists', KEYS[2]) == 0 or at ~= ARGV[2] then return 0 end
redis.call('hset', KEYS[1], ARGV[1], ARGV[3])
return 1"""
"""Move a group's position, if it is where the worker believes it to be: not if another
worker moved it, or a replay, or if the log was erased.
"""

Entry = tuple[bytes, dict[bytes, bytes]]


class LeaseLost(Exception):
    """Another worker has the tenant, or the group's position was moved: begin again."""


class PartitionReader:
    """One tenant's log for one group. What is to be given again (`codec.again`) comes
    before the log itself.
    """

    def __init__(
        self,
        events: Any,
        online: Any,
        sub: "Subscription",
        tenant: str,
        held: Callable[[], bool],
        backoff: float,
    ) -> None:
        self._events, self._online, self._sub, self._tenant = events, online, sub, tenant
        self._held, self._backoff = held, backoff
        self._wanted = codec.wanted(sub.types)
        self._log, self._again = codec.log(tenant), codec.again(tenant, sub.group)
        self._dead, self._groups = codec.dead(tenant), codec.groups(tenant)
        self._alone_until: dict[str, tuple[int, int]] = {}
        """Per stream: up to where events are handled one by one, for a batch up to
        there was taken before and not finished.
        """

    async def step(self) -> bool | None:
        """Handle a batch. None when there is none left, False when it must wait."""
        stream, position, taken = await self._take()
        if not taken:
            return None
        if stream not in self._alone_until:
            raw = await self._online.hget(codec.work(stream, self._sub.group), "taken")
            self._alone_until[stream] = codec.order(raw.decode()) if raw else (0, 0)
        first = codec.order(taken[0][0].decode())
        if first <= self._alone_until[stream]:
            return await self._alone(stream, position, taken[0])
        if not any(self._wanted(fields[b"t"]) for _, fields in taken):
            await self._finish(stream, position, taken)
            return True
        last = taken[-1][0]
        await self._online.hset(
            codec.work(stream, self._sub.group), mapping={"taken": last, "tries": 0}
        )
        try:
            await self._handle(taken)
        except Exception as error:
            logger.warning(
                "%s of %s: a batch of %d failed: %r",
                self._sub.group,
                self._tenant,
                len(taken),
                error,
            )
            self._alone_until[stream] = codec.order(last.decode())
            return not isinstance(error, Unavailable)
        await self._finish(stream, position, taken)
        return True

    async def _take(self) -> tuple[str, bytes, list[Entry]]:
        """The stream, the group's position in it, and what comes next."""
        pipe = self._events.pipeline(transaction=False)
        pipe.xrange(self._again, "-", "+", count=self._sub.batch_size)
        pipe.hget(self._groups, self._sub.group)
        first, position = await pipe.execute()
        if first:
            return self._again, b"", first
        after = f"({position.decode()}" if position else "-"
        return (
            self._log,
            position or b"",
            await self._events.xrange(self._log, after, "+", count=self._sub.batch_size),
        )

    async def _handle(self, taken: Sequence[Entry]) -> None:
        events = [codec.read(fields) for _, fields in taken if self._wanted(fields[b"t"])]
        if events:
            await self._sub.handle(self._tenant, events)

    async def _finish(self, stream: str, position: bytes, taken: Sequence[Entry]) -> None:
        if not self._held():
            raise LeaseLost
        if stream == self._again:
            await self._events.xdel(stream, *(at for at, _ in taken))
        elif not await self._events.eval(
            ADVANCE, 2, self._groups, self._log, self._sub.group, position, taken[-1][0]
        ):
            raise LeaseLost

    async def _alone(self, stream: str, position: bytes, entry: Entry) -> bool:
        """One event by itself, counted before it is handed over, so that one which
        kills its worker is counted too.
        """
        sub, at = self._sub, entry[0]
        key = codec.work(stream, sub.group)
        head, raw = await self._online.hmget(key, "head", "tries")
        deliveries = (int(raw or 0) if head == at else 0) + 1
        if deliveries > sub.deliveries:
            await self._dead_letter(
                stream, position, entry, "its worker died with it each time", deliveries - 1
            )
            return True
        await self._online.hset(key, mapping={"head": at, "tries": deliveries})
        try:
            await self._handle([entry])
        except Unavailable as error:
            logger.warning("%s of %s waits for a store: %s", sub.group, self._tenant, error)
            await self._online.hset(key, "tries", deliveries - 1)
            return False
        except Exception as error:
            logger.warning(
                "%s of %s: %s failed (delivery %d): %r",
                sub.group,
                self._tenant,
                at.decode(),
                deliveries,
                error,
            )
            if deliveries < sub.deliveries:
                await asyncio.sleep(self._backoff * 2.0 ** (deliveries - 1))
            else:
                await self._dead_letter(
                    stream, position, entry, f"{type(error).__name__}: {error}", deliveries
                )
            return True
        await self._finish(stream, position, [entry])
        return True

    async def _dead_letter(
        self, stream: str, position: bytes, entry: Entry, error: str, deliveries: int
    ) -> None:
        """Put an event with the dead letters, and move on. Between the two a crash may
        happen: then it is there twice.
        """
        at, fields = entry
        letter: dict[str, Any] = {
            "group": self._sub.group,
            "position": at,
            "error": error[:2000].encode(errors="replace"),
            "deliveries": deliveries,
        }
        await self._events.xadd(self._dead, letter | {"t": fields[b"t"], "e": fields[b"e"]})
        await self._finish(stream, position, [entry])
        logger.error(
            "%s of %s: %s is a dead letter: %s", self._sub.group, self._tenant, at.decode(), error
        )
