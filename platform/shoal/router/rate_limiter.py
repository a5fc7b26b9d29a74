"""Limits of one tenant on one capability, kept by each replica for its share."""

import asyncio
import logging
import math
from contextlib import suppress
from uuid import uuid4

from shoal.contract.errors import LimitExceeded, TooLarge, Unavailable
from shoal.stores.redis_client import REDIS_ERRORS, translate_errors
from shoal.tenants.directory import Directory
from shoal.tenants.keyspace import PREFIX
from shoal.tenants.records import DEFAULT_LIMITS, Limits
from shoal.tenants.tasks import end

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS, GONE_SECONDS = 2.0, 8.0

_BEAT = """
local now = tonumber(redis.call('TIME')[1])
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[2]))
return redis.call('ZCARD', KEYS[1])
"""


class RateLimiter:
    """A token bucket and a count of requests in flight, for one tenant on this replica.
    Times are of `monotonic`.
    """

    __slots__ = (
        "_burst",
        "_limits",
        "_rate",
        "_replicas",
        "_tokens",
        "_when",
        "body_bytes",
        "concurrency",
        "in_flight",
        "seconds",
    )

    def __init__(self, limits: Limits, replicas: int = 1) -> None:
        self.in_flight = 0
        self._tokens = math.inf
        self._when = 0.0
        self.set(limits, replicas)

    def set(self, limits: Limits, replicas: int) -> None:
        """Take over changed limits; what is in flight or used up stays so."""
        whole = limits.over(DEFAULT_LIMITS)
        assert (
            whole.rps
            and whole.burst
            and whole.concurrency
            and whole.seconds
            and whole.body_bytes is not None
        )
        self._limits, self._replicas = limits, replicas
        self._rate, self._burst = whole.rps / replicas, max(1.0, whole.burst / replicas)
        self.concurrency = math.ceil(whole.concurrency / replicas)
        self.body_bytes, self.seconds = whole.body_bytes, whole.seconds

    def enter(self, limits: Limits, replicas: int, now: float) -> None:
        """Let one request in, or raise LimitExceeded. Whoever was let in must `leave`."""
        if limits is not self._limits or replicas != self._replicas:
            self.set(limits, replicas)
        tokens = self._tokens + (now - self._when) * self._rate
        if tokens > self._burst:
            tokens = self._burst
        self._when = now
        if tokens < 1:
            self._tokens = tokens
            raise LimitExceeded(
                "more requests per second than the limit allows",
                retry_after=round((1 - tokens) / self._rate, 3),
            )
        if self.in_flight >= self.concurrency:
            self._tokens = tokens
            raise LimitExceeded("more requests at once than the limit allows", retry_after=1)
        self._tokens = tokens - 1
        self.in_flight += 1

    def leave(self) -> None:
        self.in_flight -= 1


def too_large(limit: int) -> TooLarge:
    return TooLarge(f"the body is over the limit of {limit} bytes")


class ReplicaHeartbeat:
    """How many replicas of a capability live: each says so every two seconds."""

    def __init__(self, directory: Directory, capability: str) -> None:
        self.replicas = 1
        self._directory, self._key, self._me = (
            directory,
            f"{PREFIX}replicas:{capability}",
            uuid4().hex,
        )
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        with suppress(Unavailable):
            await self.beat()
        self._task = asyncio.create_task(self._beating(), name="shoal-presence")

    async def stop(self) -> None:
        if self._task is not None:
            await end(self._task)
            with suppress(*REDIS_ERRORS):
                await self._directory.redis.zrem(self._key, self._me)

    async def beat(self) -> None:
        with translate_errors():
            count = self._directory.redis.eval(_BEAT, 1, self._key, self._me, str(GONE_SECONDS))
            self.replicas = max(1, int(await count))

    async def _beating(self) -> None:
        """While the directory is away, the last count stands."""
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            with suppress(Unavailable):
                await self.beat()
