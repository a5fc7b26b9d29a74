"""A tenant's own access to its event log."""

from collections.abc import AsyncIterator, Sequence

from shoal.contract.batch import off_loop
from shoal.contract.events import Event
from shoal.stores.redis_client import (
    async_redis,
    is_cluster,
    run_atomically,
    translate_errors,
)
from shoal.stores.tenant_store import TenantStore

from . import keys
from .codec import check_position, decode_event, encode_events, type_filter
from .streams import PAGE, announce, announce_commands, append_command


class EventStore(TenantStore):
    """See `shoal.contract.stores.Events`."""

    __slots__ = ()

    async def append(self, events: Sequence[Event]) -> list[str]:
        """Append events, all or none of each thousand.

        Once this returns they are on the disk, where the server runs with `appendfsync
        always`. After `Unavailable` it is unknown whether they were appended: append
        them again with the same ids.

        Returns:
            Their positions.

        Raises:
            Invalid: An event's data is no JSON; nothing was appended.
            Unavailable: Redis cannot be reached.
        """
        entries = await off_loop(encode_events, events)
        client, log = async_redis(self._config.events), keys.log(self._tenant)
        positions: list[str] = []
        with translate_errors():
            for start in range(0, len(entries), PAGE):
                page = entries[start : start + PAGE]
                commands = [append_command(log, entry) for entry in page]
                if is_cluster(client):  # there a script's keys are of one slot
                    replies = await run_atomically(client, commands, self._config.replicas)
                    await announce(client, self._tenant)
                else:  # all in one script: one wait for the disk
                    commands += announce_commands(self._tenant)
                    replies = await run_atomically(client, commands, self._config.replicas)
                positions += [position.decode() for position in replies[: len(page)]]
        return positions

    async def read(
        self, after: str = "0", *, types: Sequence[str] = ()
    ) -> AsyncIterator[tuple[str, Event]]:
        position, is_wanted = check_position(after), type_filter(types)
        client, log = async_redis(self._config.events), keys.log(self._tenant)
        while True:
            with translate_errors():
                page = await client.xrange(log, f"({position}", "+", count=PAGE)
            for raw, fields in page:
                position = raw.decode()
                if is_wanted(fields[b"t"]):
                    yield position, decode_event(fields)
            if len(page) < PAGE:
                return

    async def length(self) -> int:
        with translate_errors():
            return int(await async_redis(self._config.events).xlen(keys.log(self._tenant)))
