"""A tenant's end of the event log."""

import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from redis.asyncio import Redis

from shoal.contract.events import Event
from shoal.stores.redis_client import redis, translated
from shoal.stores.tenant_store import TenantStore

from . import codec

CHUNK = 1_000


class EventStore(TenantStore):
    """See `shoal.contract.stores.Events`."""

    __slots__ = ()

    async def append(self, events: Sequence[Event]) -> list[str]:
        """Accept events, all or none of each thousand; their positions. Once this
        returns they are on the disk, where the server runs with `appendfsync always`.
        After `Unavailable` they may be there or not: append them again, with the same
        ids.
        """
        fields = [codec.write(event) for event in events]
        client, key = redis(self._config.events), codec.log(self._tenant)
        positions: list[str] = []
        with translated():
            for start in range(0, len(fields), CHUNK):
                pipe = client.pipeline(transaction=True)
                for entry in fields[start : start + CHUNK]:
                    pipe.xadd(key, entry)
                if isinstance(client, Redis):  # all in one transaction: one wait for the disk
                    pipe.zadd(codec.TENANTS, {self._tenant: time.time()})
                    pipe.publish(codec.TENANTS, self._tenant)
                    positions += [p.decode() for p in (await pipe.execute())[:-2]]
                else:  # a cluster's transaction is of one slot
                    positions += [p.decode() for p in await pipe.execute()]
                    await announce(client, self._tenant)
        return positions

    async def read(
        self, after: str = "0", *, types: Sequence[str] = ()
    ) -> AsyncIterator[tuple[str, Event]]:
        position, wanted = codec.check_position(after), codec.wanted(types)
        while True:
            with translated():
                found = await redis(self._config.events).xrange(
                    codec.log(self._tenant), f"({position}", "+", count=CHUNK
                )
            for raw, fields in found:
                position = raw.decode()
                if wanted(fields[b"t"]):
                    yield position, codec.read(fields)
            if len(found) < CHUNK:
                return

    async def length(self) -> int:
        with translated():
            return int(await redis(self._config.events).xlen(codec.log(self._tenant)))


async def announce(client: Any, tenant: str) -> None:
    """Tell who follows the tenant's log that there is something for them."""
    await client.zadd(codec.TENANTS, {tenant: time.time()})
    await client.execute_command("PUBLISH", codec.TENANTS, tenant)
