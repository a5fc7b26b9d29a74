"""A tenant's limits on a capability; each replica enforces its share of them."""

import asyncio
import logging
import math
from contextlib import suppress
from uuid import uuid4

from shoal.contract.errors import LimitExceeded, TooLarge, Unavailable
from shoal.stores.redis_client import REDIS_ERRORS, translate_errors
from shoal.tenants.directory import Directory
from shoal.tenants.keyspace import replicas_key
from shoal.tenants.records import DEFAULT_LIMITS, Limits
from shoal.tenants.tasks import cancel_and_wait

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS, EXPIRY_SECONDS = 2.0, 8.0

_BEAT = """
-- KEYS[1]: sorted set of replicas by the time of their last heartbeat
-- ARGV: this replica's id, seconds until a silent replica is dropped
-- Returns the number of replicas.
local now = tonumber(redis.call('TIME')[1])
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[2]))
return redis.call('ZCARD', KEYS[1])
"""


class RateLimiter:
    """A token bucket and a limit of concurrent requests, for a tenant on this replica.

    Times are those of `time.monotonic`, in seconds.
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
        self.configure(limits, replicas)

    def configure(self, limits: Limits, replicas: int) -> None:
        """Change the limits, keeping the tokens and the count of requests in flight."""
        complete = limits.over(DEFAULT_LIMITS)
        assert complete.rps and complete.burst and complete.concurrency and complete.seconds
        assert complete.body_bytes is not None
        self._limits, self._replicas = limits, replicas
        self._rate, self._burst = complete.rps / replicas, max(1.0, complete.burst / replicas)
        self.concurrency = math.ceil(complete.concurrency / replicas)
        self.body_bytes, self.seconds = complete.body_bytes, complete.seconds

    def acquire(self, limits: Limits, replicas: int, now: float) -> None:
        """Admit one request; call `release` when it ends.

        Raises:
            LimitExceeded: The tenant is over its limit of requests per second or of
                concurrent requests.
        """
        if limits is not self._limits or replicas != self._replicas:
            self.configure(limits, replicas)
        tokens = self._tokens + (now - self._when) * self._rate
        if tokens > self._burst:
            tokens = self._burst
        self._when = now
        if tokens < 1:
            self._tokens = tokens
            raise LimitExceeded(
                "too many requests per second",
                retry_after=round((1 - tokens) / self._rate, 3),
            )
        if self.in_flight >= self.concurrency:
            self._tokens = tokens
            raise LimitExceeded("too many requests at once", retry_after=1)
        self._tokens = tokens - 1
        self.in_flight += 1

    def release(self) -> None:
        self.in_flight -= 1


def body_too_large(limit: int) -> TooLarge:
    return TooLarge(f"the body is over the limit of {limit} bytes")


class ReplicaHeartbeat:
    """Counts the live replicas of a capability by their heartbeats in Redis."""

    def __init__(self, directory: Directory, capability: str) -> None:
        self.replicas = 1
        self._directory, self._key = directory, replicas_key(capability)
        self.id = uuid4().hex
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        with suppress(Unavailable):
            await self.beat()
        self._task = asyncio.create_task(self._beat_periodically(), name="shoal-heartbeat")

    async def stop(self) -> None:
        if self._task is not None:
            await cancel_and_wait(self._task)
            with suppress(*REDIS_ERRORS):
                await self._directory.redis.zrem(self._key, self.id)

    async def beat(self) -> None:
        with translate_errors():
            count = self._directory.redis.eval(_BEAT, 1, self._key, self.id, str(EXPIRY_SECONDS))
            self.replicas = max(1, int(await count))

    async def _beat_periodically(self) -> None:
        """While Redis is unavailable, the last count remains in use."""
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            with suppress(Unavailable):
                await self.beat()
