"""A copy of the directory in memory, so that no request waits for a look-up.

A subscription announces every change. The version is also polled every half second, in
case a message was lost. Only the tenants that changed are read again.
"""

import asyncio
import logging
from contextlib import suppress
from time import monotonic
from typing import Any

import orjson
from pydantic import ValidationError

from shoal.contract.errors import Unavailable
from shoal.contract.experiments import ExperimentRecord
from shoal.contract.rights import Right
from shoal.stores.redis_client import REDIS_ERRORS, translate_errors

from .directory import Directory
from .keyspace import CHANGES, CHANNEL, VERSION, tenant_key
from .records import PLATFORM, Caller, KeyRecord, Limits, RoleRecord, TenantRecord
from .tasks import cancel_and_wait

log = logging.getLogger(__name__)

CHUNK = 100
CATCH_UP_SECONDS = 0.05
FAULTS = (*REDIS_ERRORS, Unavailable)


class TenantState:
    """One tenant as of one version; a change makes a new state."""

    __slots__ = ("active", "experiments", "id", "keys", "limits", "parameters", "roles")

    def __init__(self, tenant: str, fields: dict[bytes, bytes]) -> None:
        self.id = tenant
        self.active = tenant == PLATFORM  # any other is active once it has a record
        self.keys: dict[bytes, tuple[bytes, Caller]] = {}
        """Key id → (SHA-256 of the whole key, its caller)."""
        self.roles: dict[str, frozenset[Right]] = {}
        self.limits: dict[str, Limits] = {}
        self.parameters: dict[str, dict[str, Any]] = {}
        self.experiments: list[ExperimentRecord] = []
        for field, raw in fields.items():
            kind, _, name = field.decode().partition("/")
            try:
                self._read(kind, name, raw)
            except (ValidationError, ValueError) as error:
                log.error(
                    "the directory's entry %s of tenant %s is invalid and ignored: %s",
                    field,
                    tenant,
                    error,
                )

    def _read(self, kind: str, name: str, raw: bytes) -> None:
        if kind == "tenant":
            self.active = not TenantRecord.model_validate_json(raw).removing
        elif kind == "key":
            key = KeyRecord.model_validate_json(raw)
            caller = Caller(self.id, key.role, key.user, "key", f"key:{key.id}")
            self.keys[name.encode()] = bytes.fromhex(key.digest), caller
        elif kind == "role":
            self.roles[name] = RoleRecord.model_validate_json(raw).rights
        elif kind == "limits":
            self.limits[name] = Limits.model_validate_json(raw)
        elif kind == "parameters":
            self.parameters[name] = orjson.loads(raw)
        elif kind == "experiment":
            self.experiments.append(ExperimentRecord.model_validate_json(raw))


class Snapshot:
    """The tenants and keys, kept current between `start` and `stop`."""

    def __init__(
        self, directory: Directory, *, poll_seconds: float = 0.5, stale_seconds: float = 10
    ) -> None:
        self.directory = directory
        self.tenants: dict[str, TenantState] = {}
        self.keys: dict[bytes, tuple[bytes, Caller]] = {}
        self.platform = TenantState(PLATFORM, {})
        self._version = -1
        self._whole = True
        self._heard = self._failed = float("-inf")
        self._poll_seconds, self._stale_seconds = poll_seconds, stale_seconds
        self._lock = asyncio.Lock()
        self._follower: asyncio.Task[None] | None = None
        self._catching_up: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read the directory and follow it, with retries while it is unavailable."""
        if self._follower is None:
            with suppress(*FAULTS):
                await self._poll()
            self._follower = asyncio.create_task(self._follow(), name="shoal-directory")

    async def stop(self) -> None:
        await cancel_and_wait(self._follower)
        await cancel_and_wait(self._catching_up)
        self._follower = self._catching_up = None

    def fresh(self) -> bool:
        return monotonic() - self._heard < self._stale_seconds

    async def require_fresh(self) -> None:
        """Raise Unavailable where the directory has been unreachable for too long."""
        if not self.fresh():
            if monotonic() - self._failed > 1:
                await self.catch_up()
            if not self.fresh():
                raise Unavailable(
                    "the directory of tenants and keys cannot be reached", retry_after=2
                )

    async def catch_up(self) -> None:
        """See all changes made before this call, such as a key created just now.

        Calls within 50 ms share one look-up, so that wrong keys cannot flood the
        directory.
        """
        if self._catching_up is None or self._catching_up.done():
            self._catching_up = asyncio.create_task(self._catch_up())
        await asyncio.shield(self._catching_up)

    async def _catch_up(self) -> None:
        await asyncio.sleep(CATCH_UP_SECONDS)
        self._catching_up = None  # from here on, who asks needs another look
        try:
            async with asyncio.timeout(1):
                await self._poll()
        except FAULTS:
            self._failed = monotonic()

    async def _follow(self) -> None:
        while True:
            try:
                await self._subscribed()
            except FAULTS as error:
                log.warning("the directory cannot be reached: %s", error)
                self._whole = True
            except Exception:
                log.exception("following the directory failed")
                self._whole = True
            await asyncio.sleep(min(self._poll_seconds, 0.5))

    async def _subscribed(self) -> None:
        async with self.directory.redis.pubsub(ignore_subscribe_messages=True) as pubsub:
            await pubsub.subscribe(CHANNEL)
            while True:
                await self._poll()
                if await pubsub.get_message(timeout=self._poll_seconds) is not None:
                    await asyncio.sleep(0.01)  # changes come in bursts: one look for all of them
                    while await pubsub.get_message(timeout=0) is not None:
                        pass

    async def _poll(self) -> None:
        with translate_errors():
            async with self._lock:
                await self._catch_up_with(self.directory.redis)

    async def _catch_up_with(self, redis: Any) -> None:
        version = int(await redis.get(VERSION) or 0)
        whole = self._whole or version < self._version
        if whole or version > self._version:
            after = "-inf" if whole else f"({self._version}"
            changed = await redis.zrange(CHANGES, after, "+inf", byscore=True)
            names = [name.decode() for name in changed]
            if whole:
                names = sorted({*names, *self.tenants, PLATFORM})
            await self._read(names)
            self._version, self._whole = version, False
        self._heard = monotonic()

    async def _read(self, names: list[str]) -> None:
        for start in range(0, len(names), CHUNK):
            chunk = names[start : start + CHUNK]
            pipe = self.directory.redis.pipeline(transaction=False)
            for name in chunk:
                pipe.hgetall(tenant_key(name))
            for name, fields in zip(chunk, await pipe.execute(), strict=True):
                self._put(name, fields)
            await asyncio.sleep(0)

    def _put(self, tenant: str, fields: dict[bytes, bytes]) -> None:
        before = self.tenants.pop(tenant, None)
        for key in before.keys if before else ():
            self.keys.pop(key, None)
        state = TenantState(tenant, fields)
        if tenant == PLATFORM:
            self.platform = state
        if state.active:
            self.tenants[tenant] = state
            self.keys.update(state.keys)
