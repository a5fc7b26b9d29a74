"""A tenant's end of the event log."""

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from shoal.contract.events import Event
from shoal.stores.redis_client import (
    async_redis,
    is_cluster,
    run_atomically,
    translate_errors,
)
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
        entries = [codec.write(event) for event in events]
        client, log = async_redis(self._config.events), codec.log(self._tenant)
        positions: list[str] = []
        with translate_errors():
            for start in range(0, len(entries), CHUNK):
                chunk = entries[start : start + CHUNK]
                commands = [append_command(log, entry) for entry in chunk]
                if is_cluster(client):  # there a script's keys are of one slot
                    replies = await run_atomically(client, commands)
                    await announce(client, self._tenant)
                else:  # all in one script: one wait for the disk
                    commands += announcement(self._tenant)
                    replies = await run_atomically(client, commands)
                positions += [position.decode() for position in replies[: len(chunk)]]
        return positions

    async def read(
        self, after: str = "0", *, types: Sequence[str] = ()
    ) -> AsyncIterator[tuple[str, Event]]:
        position, wanted = codec.check_position(after), codec.wanted(types)
        while True:
            with translate_errors():
                found = await async_redis(self._config.events).xrange(
                    codec.log(self._tenant), f"({position}", "+", count=CHUNK
                )
            for raw, fields in found:
                position = raw.decode()
                if wanted(fields[b"t"]):
                    yield position, codec.read(fields)
            if len(found) < CHUNK:
                return

    async def length(self) -> int:
        with translate_errors():
            return int(await async_redis(self._config.events).xlen(codec.log(self._tenant)))


def append_command(stream: str, entry: Mapping[str, bytes]) -> tuple[Any, ...]:
    """The XADD that appends an entry to a stream."""
    return ("XADD", stream, "*", *(part for pair in entry.items() for part in pair))


def announcement(tenant: str) -> list[tuple[Any, ...]]:
    """The commands that tell a log's followers of something new."""
    return [
        ("ZADD", codec.TENANTS, time.time(), tenant),
        ("PUBLISH", codec.TENANTS, tenant),
    ]


async def announce(client: Any, tenant: str) -> None:
    """Tell a log's followers that there is something new."""
    for command in announcement(tenant):
        await client.execute_command(*command)
