"""Where each tenant's collections are in Milvus, and whose turn it is to write.

Kept in the Redis of the event log, in a hash of each tenant, with three fields of each
collection: its place as JSON, the time of the last write as Milvus counts it, and
whether a write was begun and not ended.
"""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from shoal.contract.errors import NotFound, Unavailable
from shoal.contract.vectors import VectorSchema

from .configuration import StoreConfig
from .leases import acquire_lease, release_lease, renew_lease
from .redis_client import async_redis, translate_errors
from .redis_keys import delete_keys

Where = Literal["shared", "own"]

LEASE_SECONDS = 30.0
WAIT_SECONDS = 15.0
"""How long a writer waits for its turn."""
SETTLE_SECONDS = 2.0
"""After a failed write: when what Milvus had begun of it is done, or never will be."""
PAUSE = 0.01
REMOVED = "@vectors:removed"
"""The time of the last deletion of a whole collection."""
EVENTUALLY = 1
"""A time before all writes. 0 is now, for which Milvus waits a fifth of a second."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a collection is.

    Args:
        dimension: As in `VectorSchema`.
        fields: As in `VectorSchema`.
        at: The collection that is read: the shared one, or one of the tenant's own.
        to: The one to which it is being moved, which is written too.
        left: The one from which it was moved, while that is not yet removed.
    """

    dimension: int
    fields: dict[str, Any] = field(default_factory=dict)
    at: Where = "shared"
    to: Where | None = None
    left: Where | None = None

    @property
    def schema(self) -> VectorSchema:
        return VectorSchema(self.dimension, self.fields)


@dataclass(frozen=True, slots=True)
class Reading:
    """A collection's place, and the time of the last write that a read must see."""

    place: Place
    written: int


class Turn:
    """The right to write to a collection, held until the end or until it is lost.

    Args:
        places: Of the tenant.
        name: The collection.
        owner: Who holds it.
        reading: The collection's place, and the last write that was ended. Where one
            was begun and not ended, the time is 0: what it did must be read.
        interruptions: How many writes were begun and not ended.
    """

    def __init__(
        self, places: "Places", name: str, owner: str, reading: Reading, interruptions: int
    ) -> None:
        self._places, self._name, self._owner = places, name, owner
        self.place, self.since, self.interruptions = reading.place, reading.written, interruptions
        self.written = 0

    async def confirm(self) -> None:
        """Check that it is held, and hold it for longer; call this before each write.

        Raises:
            Unavailable: It is lost.
        """
        if not await self._places.renew(self._name, self._owner):
            raise Unavailable(
                "another process writes to this collection now: try again", retry_after=1
            )

    async def put(self, place: Place) -> None:
        """Change where the collection is."""
        await self.confirm()
        await self._places.put(self._name, place)
        self.place = place


class Places:
    """The places of a tenant's collections."""

    def __init__(self, config: StoreConfig, tenant: str) -> None:
        self._config, self._tenant = config, tenant

    async def names(self) -> list[str]:
        with translate_errors():
            keys = await self._redis.hkeys(self._key)
        return sorted(key.decode() for key in keys if b":" not in key)

    async def read(self, name: str) -> Reading:
        """Where a collection is.

        Raises:
            NotFound: There is no such collection.
        """
        with translate_errors():
            text, written = await self._redis.hmget(self._key, [name, f"{name}:written"])
        if text is None:
            raise NotFound(f"no collection {name}")
        return Reading(Place(**json.loads(text)), int(written or EVENTUALLY))

    async def put(self, name: str, place: Place) -> None:
        with translate_errors():
            await self._redis.hset(self._key, name, json.dumps(asdict(place)))

    async def add(self, name: str, place: Place) -> None:
        """As `put`, unless there is one."""
        with translate_errors():
            if await self._redis.hsetnx(self._key, name, json.dumps(asdict(place))):
                removed = await self._redis.get(REMOVED)
                await self._redis.hset(self._key, f"{name}:written", removed or EVENTUALLY)

    async def remove(self, name: str, written: int) -> None:
        """Forget a collection, whose entities were deleted at this time.

        Whoever makes it again must not find them.
        """
        fields = [name, *(f"{name}:{what}" for what in ("written", "interruptions"))]
        with translate_errors():
            await self.note_removal(written)
            await self._redis.hdel(self._key, *fields)

    async def note_removal(self, written: int) -> None:
        """Note when entities were deleted with what was known of their collection."""
        with translate_errors():
            if written > int(await self._redis.get(REMOVED) or 0):
                await self._redis.set(REMOVED, written)

    async def erase(self) -> None:
        with translate_errors():
            await delete_keys(self._redis, f"{self._key}*")

    @asynccontextmanager
    async def turn(self, name: str) -> AsyncIterator[Turn]:
        """Wait until nothing else writes to a collection, and write.

        Raises:
            NotFound: There is no such collection.
            Unavailable: Others write for too long; or the write failed: it may have
                been done.
        """
        owner = secrets.token_hex(8)
        async with self.alone(f"{self._key}:{name}", owner):
            reading = await self.read(name)
            with translate_errors():
                interrupted = not await self._redis.hsetnx(self._key, f"{name}:open", owner)
                interruptions = await self._redis.hincrby(
                    self._key, f"{name}:interruptions", int(interrupted)
                )
            if interrupted:
                reading = Reading(reading.place, 0)
            turn = Turn(self, name, owner, reading, interruptions)
            yield turn
            with translate_errors():
                if turn.written:
                    await self._redis.hset(self._key, f"{name}:written", turn.written)
                await self._redis.hdel(self._key, f"{name}:open")

    @asynccontextmanager
    async def alone(self, lease: str, owner: str) -> AsyncIterator[None]:
        """Hold a lease, waiting for it first."""
        deadline = time.monotonic() + WAIT_SECONDS
        with translate_errors():
            while not await acquire_lease(self._redis, lease, owner, LEASE_SECONDS):
                if time.monotonic() > deadline:
                    raise Unavailable(
                        "other processes write to this collection: try again", retry_after=5
                    )
                await asyncio.sleep(PAUSE)
        settled = False
        try:
            yield
            settled = True
        except Unavailable:
            raise
        except Exception:
            settled = True
            raise
        finally:
            with translate_errors():
                if settled:
                    await release_lease(self._redis, lease, owner)
                else:
                    await renew_lease(self._redis, lease, owner, SETTLE_SECONDS)

    async def renew(self, name: str, owner: str) -> bool:
        with translate_errors():
            return await renew_lease(self._redis, f"{self._key}:{name}", owner, LEASE_SECONDS)

    @property
    def _redis(self) -> Any:
        return async_redis(self._config.events)

    @property
    def _key(self) -> str:
        return f"@vectors:{{{self._tenant}}}"
