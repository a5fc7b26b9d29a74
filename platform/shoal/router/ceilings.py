"""A tenant's limits on all capabilities together, over all replicas of all of them.

There is one bucket of tokens for a tenant, in Redis. A replica takes some tokens of it
in advance, a twentieth of a second's, so that a request usually finds one in memory.
Its share of the concurrent requests it takes in the same way. So together the replicas
never admit more than the limit, however the requests are spread.
"""

import asyncio
import logging
import math
from time import monotonic
from uuid import uuid4

from shoal.contract.errors import LimitExceeded, Unavailable
from shoal.stores.redis_client import run_script, translate_errors
from shoal.tenants.directory import Directory
from shoal.tenants.keyspace import ceiling_key
from shoal.tenants.records import Limits
from shoal.tenants.tasks import cancel_and_wait

log = logging.getLogger(__name__)

RENEW_SECONDS, EXPIRY_SECONDS = 2.0, 8.0
"""How often a replica renews its share of concurrent requests; when it loses it."""
BLOCKS_PER_SECOND = 20
UNLIMITED = 1e15

_LEASE = """
-- KEYS[1]: the tenant's bucket: `tokens`, `at`, and for each replica its share of the
-- concurrent requests and when it took it.
-- ARGV: replica, tokens a second, burst, tokens wanted, concurrent requests in all, share
-- of them wanted, seconds until a share expires.
-- Returns tokens, share, and the milliseconds until there is a token.
local key, replica = KEYS[1], ARGV[1]
local rate, burst, wanted = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local free, share = tonumber(ARGV[5]), tonumber(ARGV[6])
local time = redis.call('TIME')
local now = time[1] + time[2] / 1e6
local tokens, at = burst, now
local fields = redis.call('HGETALL', key)
for i = 1, #fields, 2 do
  local name, value = fields[i], fields[i + 1]
  if name == 'tokens' then tokens = tonumber(value)
  elseif name == 'at' then at = tonumber(value)
  elseif name ~= replica then
    local held, since = string.match(value, '(%d+) (.+)')
    if now - since > tonumber(ARGV[7]) then redis.call('HDEL', key, name)
    else free = free - held end
  end
end
tokens = math.min(burst, tokens + math.max(0, now - at) * rate)
local granted = math.floor(math.min(wanted, tokens))
share = math.max(0, math.min(share, free))
redis.call('HSET', key, 'tokens', string.format('%.6f', tokens - granted),
  'at', string.format('%.6f', now), replica, string.format('%.0f %.6f', share, now))
redis.call('EXPIRE', key, math.min(86400 * 30, math.ceil(burst / rate) + 60))
return {granted, share, math.ceil(math.max(0, 1 - tokens + granted) / rate * 1000)}
"""
"""Its loop is as long as there are replicas."""


class Ceiling:
    """One tenant's, in this replica.

    Args:
        directory: Whose Redis the bucket is in.
        tenant: The tenant's id.
        replica: Names this replica.
    """

    def __init__(self, directory: Directory, tenant: str, replica: str) -> None:
        self._directory, self._key, self._replica = directory, ceiling_key(tenant), replica
        self._in_flight = self._peak = self._waiting = 0
        self._retry_after = 1.0
        self._leased_at = float("-inf")
        self._lease: asyncio.Task[None] | None = None
        self._limits: Limits | None = None
        self.configure(Limits())

    def configure(self, limits: Limits) -> None:
        """Change the limits; None is no limit."""
        if limits == self._limits:
            return
        self._limits = limits
        complete = limits.over(Limits())  # with the burst that follows from rps
        self._rate, self._burst = complete.rps or UNLIMITED, complete.burst or UNLIMITED
        self._concurrency = complete.concurrency
        self._block = math.ceil(min(self._rate / BLOCKS_PER_SECOND, self._burst / 10, 1000))
        self._tokens = self._share = 0

    async def acquire(self) -> None:
        """Admit one request; call `release` when it ends.

        While Redis is unavailable every request is admitted.

        Raises:
            LimitExceeded: The tenant is over its limit of requests per second or of
                concurrent requests.
        """
        if not self._has_room():
            await self._make_room()
        self._tokens -= 1
        self._in_flight += 1
        if self._in_flight > self._peak:
            self._peak = self._in_flight
        if self._block > 1 and self._tokens < self._block / 2 and self._lease is None:
            self._begin_lease()

    def release(self) -> None:
        self._in_flight -= 1

    @property
    def has_share(self) -> bool:
        """Whether this replica has a share of the concurrent requests to renew."""
        return bool(self._in_flight or self._peak or self._share)

    async def renew(self) -> None:
        """Keep the share that was used since the last time, and give back the rest."""
        await asyncio.shield(self._lease or self._begin_lease())
        self._peak = self._in_flight

    def _has_room(self) -> bool:
        return (
            self._tokens >= 1
            and (self._concurrency is None or self._in_flight < self._share)
            and monotonic() - self._leased_at < EXPIRY_SECONDS - RENEW_SECONDS
        )

    async def _make_room(self) -> None:
        """Take tokens and a share, for all requests that wait for them."""
        self._waiting += 1
        try:
            if self._lease is not None:  # it may have begun without this request
                await asyncio.shield(self._lease)
            if not self._has_room():
                await asyncio.shield(self._lease or self._begin_lease())
        finally:
            self._waiting -= 1
        if self._tokens < 1:
            raise LimitExceeded(
                "too many requests per second, on all capabilities together",
                retry_after=self._retry_after,
            )
        if not self._has_room():
            raise LimitExceeded(
                "too many requests at once, on all capabilities together", retry_after=1
            )

    def _begin_lease(self) -> "asyncio.Task[None]":
        self._lease = asyncio.create_task(self._run_lease(), name="shoal-ceiling")
        self._lease.add_done_callback(self._end_lease)
        return self._lease

    def _end_lease(self, task: "asyncio.Task[None]") -> None:
        self._lease = None

    async def _run_lease(self) -> None:
        wanted = max(self._block if self._peak else 0, self._waiting)
        share = max(self._peak, self._in_flight + self._waiting)
        args = [
            self._replica,
            repr(self._rate),
            repr(self._burst),
            max(0, wanted - self._tokens),
            self._concurrency or 0,
            min(share, self._concurrency or 0),
            EXPIRY_SECONDS,
        ]
        try:
            with translate_errors():
                found = await run_script(self._directory.redis, _LEASE, [self._key], args)
        except Unavailable as error:
            log.warning("limits on all capabilities together are not enforced: %s", error)
            self._tokens, self._share = max(self._tokens, wanted), share
        else:
            granted, self._share, milliseconds = found
            self._tokens += granted
            self._retry_after = max(milliseconds / 1000, 0.001)
        self._leased_at = monotonic()


class Ceilings:
    """The ceilings of the tenants that have one, and the renewal of their shares."""

    def __init__(self, directory: Directory) -> None:
        self._directory, self._replica = directory, uuid4().hex
        self._ceilings: dict[str, Ceiling] = {}
        self._task: asyncio.Task[None] | None = None

    def get(self, tenant: str, limits: Limits) -> Ceiling | None:
        """A tenant's ceiling, with these limits; None where they are none."""
        if limits.rps is None and limits.burst is None and limits.concurrency is None:
            self._ceilings.pop(tenant, None)
            return None
        ceiling = self._ceilings.get(tenant)
        if ceiling is None:
            ceiling = self._ceilings[tenant] = Ceiling(self._directory, tenant, self._replica)
        ceiling.configure(limits)
        return ceiling

    def start(self) -> None:
        self._task = asyncio.create_task(self._renew_periodically(), name="shoal-ceilings")

    async def stop(self) -> None:
        await cancel_and_wait(self._task)
        self._task = None

    async def _renew_periodically(self) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            for ceiling in list(self._ceilings.values()):
                if ceiling.has_share:
                    await ceiling.renew()
