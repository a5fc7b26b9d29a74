"""The directory: tenants, keys, limits, boards, promoted parameters, experiments and
the audit log, in Redis (see `keyspace`).
"""

import asyncio
import hashlib
import re
import secrets
import time
from base64 import b32encode
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from pydantic import ValidationError

from shoal.contract.context import Role
from shoal.contract.errors import Conflict, Invalid, NotFound
from shoal.contract.experiments import ExperimentRecord
from shoal.contract.names import CAPABILITY, check_tenant, check_text
from shoal.stores.redis_client import async_redis, run_script, translate_errors

from .keyspace import (
    AUDIT_LENGTH,
    CAPABILITIES,
    CHANGES,
    CHANNEL,
    EDIT,
    ERASED,
    ERASED_SECONDS,
    KEYS,
    MEMBERS,
    NOTICE_SECONDS,
    PREFIX,
    VERSION,
    active_key,
    exposed_key,
    minute_keys,
    tenant_key,
    user_key,
)
from .records import PLATFORM, AuditEntry, KeyRecord, Limits, TenantRecord


class Directory:
    """Operations on the directory, in one Redis.

    Raises:
        NotFound: There is no such tenant.
        Unavailable: Redis cannot be reached.
    """

    def __init__(self, redis_url: str) -> None:
        self.url = redis_url

    @property
    def redis(self) -> Any:
        """The running event loop's client, whose replies are bytes."""
        return async_redis(self.url)

    # Tenants

    async def create_tenant(self, tenant: str, name: str | None = None) -> TenantRecord:
        """Conflict when there is one (or an erasure of one is going on), Invalid when
        the id cannot be one.
        """
        try:
            record = TenantRecord(id=tenant, name=name or tenant)
        except ValidationError as error:
            raise Invalid("that cannot be a tenant", errors=located(error)) from None
        if tenant == PLATFORM:
            raise Conflict(f"{PLATFORM!r} is the platform's own")
        await self._edit(tenant, {"tenant": record.model_dump_json()}, guard="new")
        return record

    async def get_tenant(self, tenant: str) -> TenantRecord:
        with translate_errors():
            raw = await self.redis.hget(tenant_key(_checked(tenant)), "tenant")
        if raw is None:
            raise NotFound(f"no tenant {tenant!r}")
        return TenantRecord.model_validate_json(raw)

    async def list_tenants(
        self, limit: int = 1000, cursor: str | None = None
    ) -> tuple[list[TenantRecord], str | None]:
        """In the order of their ids; `cursor` is the last id seen."""
        with translate_errors():
            names = sorted(name.decode() for name in await self.redis.zrange(CHANGES, 0, -1))
            records: list[TenantRecord] = []
            remaining = [name for name in names if cursor is None or name > cursor]
            while remaining and len(records) <= limit:
                chunk, remaining = remaining[: limit + 1], remaining[limit + 1 :]
                pipe = self.redis.pipeline(transaction=False)
                for name in chunk:
                    pipe.hget(tenant_key(name), "tenant")
                records += [
                    TenantRecord.model_validate_json(raw)
                    for raw in await pipe.execute()
                    if raw is not None
                ]
        return records[:limit], records[limit - 1].id if len(records) > limit else None

    async def tenant_ids(self) -> list[str]:
        """All of them, but those being removed."""
        ids: list[str] = []
        cursor: str | None = None
        while True:
            page, cursor = await self.list_tenants(cursor=cursor)
            ids += [tenant.id for tenant in page if not tenant.removing]
            if cursor is None:
                return ids

    async def begin_removal(self, tenant: str, notice: float = NOTICE_SECONDS) -> None:
        """From now on no credential of this tenant holds. Returns after `notice`
        seconds, when every replica knows, so that no late write brings back what is
        erased next. The erasure ends with `delete_tenant`.
        """
        record = await self.get_tenant(tenant)
        await self._edit(
            tenant, {"tenant": record.model_copy(update={"removing": True}).model_dump_json()}
        )
        await asyncio.sleep(notice)

    async def is_erased(self, tenant: str) -> bool:
        """Whether the tenant was erased lately, or its erasure goes on. Not by its
        absence: a directory that lost its data must not make anyone erase.
        """
        with translate_errors():
            raw, erased = await asyncio.gather(
                self.redis.hget(tenant_key(_checked(tenant)), "tenant"),
                self.redis.zscore(ERASED, tenant),
            )
        return erased is not None if raw is None else TenantRecord.model_validate_json(raw).removing

    async def delete_tenant(self, tenant: str) -> dict[str, int]:
        """Forget all that the directory knows of a tenant, and say how much that was.
        May be run again after a fault.
        """
        if _checked(tenant) == PLATFORM:
            raise Conflict(f"{PLATFORM!r} is the platform's own")
        counts = {
            "keys": 0,
            "limits": 0,
            "parameters": 0,
            "experiments": 0,
            "boards": 0,
            "memberships": 0,
            "audit": 0,
            "exposures": 0,
        }
        with translate_errors():
            redis = self.redis
            fields = [field.decode() for field in await redis.hkeys(tenant_key(tenant))]
            plural = {
                "key": "keys",
                "limits": "limits",
                "parameters": "parameters",
                "experiment": "experiments",
            }
            for field in fields:
                kind, _, name = field.partition("/")
                if kind in plural:
                    counts[plural[kind]] += 1
                if kind == "key":
                    await redis.hdel(KEYS, name)
            boards = await redis.smembers(f"{PREFIX}boards:{tenant}")
            for board in boards:
                counts["boards"] += 1
                counts["memberships"] += await redis.scard(
                    f"{PREFIX}board:{tenant}:{board.decode()}"
                )
                await self._members(tenant, board.decode(), "SREM", ())
            counts["audit"] = await redis.xlen(f"{PREFIX}audit:{tenant}")
            for experiment in await redis.smembers(exposed_key(tenant)):
                key = exposed_key(tenant, experiment.decode())
                counts["exposures"] += await redis.scard(key)
                await redis.delete(key)
            await redis.delete(f"{PREFIX}audit:{tenant}", exposed_key(tenant))
            this_minute = int(time.time() // 60)
            for capability in await redis.smembers(CAPABILITIES):
                await redis.zrem(active_key(capability.decode()), tenant)
                for minute in range(this_minute - 16, this_minute + 2):
                    await redis.delete(*minute_keys(capability.decode(), minute, tenant))
        if fields:
            with translate_errors():
                now = time.time()
                await redis.zadd(ERASED, {tenant: now})
                await redis.zremrangebyscore(ERASED, "-inf", now - ERASED_SECONDS)
            await self._edit(tenant, dict.fromkeys(fields, ""))
        elif not any(counts.values()):
            raise NotFound(f"no tenant {tenant!r}")
        return counts

    # Keys

    async def create_key(
        self, tenant: str, role: Role | str, user: str | None = None, name: str | None = None
    ) -> tuple[KeyRecord, str]:
        """The key's record, and the key itself: `shoal_<id>_<secret>`, which is shown
        here and never again.
        """
        key_id, secret = (b32encode(secrets.token_bytes(n)).decode().lower() for n in (10, 20))
        key = f"shoal_{key_id}_{secret}"
        digest = hashlib.sha256(key.encode()).hexdigest()
        try:
            record = KeyRecord.model_validate(
                {
                    "id": key_id,
                    "tenant": tenant,
                    "role": role,
                    "user": user,
                    "name": name,
                    "digest": digest,
                }
            )
        except ValidationError as error:
            raise Invalid("that cannot be a key", errors=located(error)) from None
        await self.get_tenant(tenant) if tenant != PLATFORM else None
        with translate_errors():
            await self.redis.hset(KEYS, key_id, tenant)
        await self._edit(tenant, {f"key/{key_id}": record.model_dump_json()}, guard="old")
        return record, key

    async def list_keys(self, tenant: str) -> list[KeyRecord]:
        """Oldest first."""
        keys = [
            KeyRecord.model_validate_json(raw)
            for raw in (await self._fields(tenant, "key")).values()
        ]
        return sorted(keys, key=lambda key: (key.created, key.id))

    async def key_tenant(self, key_id: str) -> str:
        """The tenant that a key belongs to."""
        with translate_errors():
            tenant = await self.redis.hget(KEYS, key_id)
        if tenant is None:
            raise NotFound(f"no key {key_id!r}")
        return tenant.decode()

    async def revoke_key(self, key_id: str, tenant: str | None = None) -> None:
        """NotFound when there is none, or when it is not of `tenant` (None: of any)."""
        owner = await self.key_tenant(key_id)
        if tenant not in (None, owner) or not await self._edit(owner, {f"key/{key_id}": ""}):
            raise NotFound(f"no key {key_id!r}")
        with translate_errors():
            await self.redis.hdel(KEYS, key_id)

    # Limits, parameters

    async def set_limits(self, tenant: str, capability: str, limits: Limits | None) -> None:
        """Limits on one capability, or on all (`*`). None goes back to the wider ones."""
        raw = "" if limits is None else limits.model_dump_json(exclude_none=True)
        await self._edit(tenant, {f"limits/{_capability(capability)}": raw}, guard="old")

    async def get_limits(self, tenant: str) -> dict[str, Limits]:
        fields = await self._fields(tenant, "limits")
        return {name: Limits.model_validate_json(raw) for name, raw in fields.items()}

    async def put_parameters(self, tenant: str, capability: str, values: Mapping[str, Any]) -> None:
        """A tenant's own values over the defaults, all of them: what is not given goes
        back to its default.
        """
        raw = orjson.dumps(dict(values)).decode() if values else ""
        await self._edit(tenant, {f"parameters/{_capability(capability)}": raw}, guard="old")

    async def get_parameters(self, tenant: str, capability: str) -> dict[str, Any]:
        with translate_errors():
            raw = await self.redis.hget(tenant_key(_checked(tenant)), f"parameters/{capability}")
        return {} if raw is None else orjson.loads(raw)

    # Experiments

    async def put_experiment(self, record: ExperimentRecord) -> None:
        """Keep a record; one with `tenant` None is for every tenant, and the platform's
        own.
        """
        await self._edit(
            record.tenant or PLATFORM,
            {f"experiment/{record.id}": record.model_dump_json()},
            guard="old",
        )

    async def get_experiment(self, tenant: str | None, experiment: str) -> ExperimentRecord:
        with translate_errors():
            raw = await self.redis.hget(
                tenant_key(_checked(tenant or PLATFORM)), f"experiment/{experiment}"
            )
        if raw is None:
            raise NotFound(f"no experiment {experiment!r}")
        return ExperimentRecord.model_validate_json(raw)

    async def list_experiments(self, tenant: str | None) -> list[ExperimentRecord]:
        fields = await self._fields(tenant or PLATFORM, "experiment")
        return [ExperimentRecord.model_validate_json(fields[name]) for name in sorted(fields)]

    async def delete_experiment(self, tenant: str | None, experiment: str) -> None:
        """Forget it, and which of its exposures were logged."""
        owner = tenant or PLATFORM
        if not await self._edit(owner, {f"experiment/{experiment}": ""}):
            raise NotFound(f"no experiment {experiment!r}")
        with translate_errors():
            await self.redis.delete(exposed_key(owner, experiment))
            await self.redis.srem(exposed_key(owner), experiment)

    # Boards

    async def set_board_members(self, tenant: str, board: str, users: Sequence[str]) -> None:
        """Make `users` all who may see the board. An empty list leaves a board that
        only the service itself sees.
        """
        errors = [
            {"location": f"users.{i}", "message": message}
            for i, user in enumerate(users)
            if (message := _text_fault(user))
        ]
        if message := _text_fault(board):
            errors.append({"location": "board", "message": message})
        if errors:
            raise Invalid("the board's members cannot be set", errors=errors)
        await self.get_tenant(tenant)
        await self._members(tenant, board, "SADD", users)

    async def delete_board(self, tenant: str, board: str) -> None:
        if not await self._members(tenant, board, "SREM", ()):
            raise NotFound(f"no board {board!r}")

    async def board_members(self, tenant: str, board: str) -> list[str]:
        with translate_errors():
            if not await self.redis.sismember(f"{PREFIX}boards:{_checked(tenant)}", board):
                raise NotFound(f"no board {board!r}")
            return sorted(
                user.decode()
                for user in await self.redis.smembers(f"{PREFIX}board:{tenant}:{board}")
            )

    async def list_boards(self, tenant: str) -> list[str]:
        with translate_errors():
            return sorted(
                board.decode()
                for board in await self.redis.smembers(f"{PREFIX}boards:{_checked(tenant)}")
            )

    async def boards_of(self, tenant: str, user: str) -> frozenset[str]:
        """The boards that a user is a member of."""
        with translate_errors():
            return frozenset(
                board.decode()
                for board in await self.redis.smembers(user_key(_checked(tenant), user))
            )

    # Audit

    async def audit(self, tenant: str, entries: Sequence[AuditEntry]) -> None:
        """Append to a tenant's audit log, which keeps about the last hundred thousand
        entries.
        """
        with translate_errors():
            pipe = self.redis.pipeline(transaction=False)
            for entry in entries:
                fields: dict[Any, Any] = {"entry": entry.model_dump_json()}
                pipe.xadd(
                    f"{PREFIX}audit:{_checked(tenant)}",
                    fields,
                    maxlen=AUDIT_LENGTH,
                    approximate=True,
                )
            await pipe.execute()

    async def list_audit(
        self, tenant: str, limit: int = 100, cursor: str | None = None
    ) -> tuple[list[AuditEntry], str | None]:
        """Newest first, and the cursor of the next page (None at the end)."""
        if cursor is not None and not re.fullmatch(r"\d{1,20}-\d{1,20}", cursor):
            raise Invalid(
                "that is no cursor of this list",
                errors=[{"location": "cursor", "message": "not a cursor"}],
            )
        with translate_errors():
            rows: Any = await self.redis.xrevrange(
                f"{PREFIX}audit:{_checked(tenant)}",
                max="+" if cursor is None else f"({cursor}",
                count=limit + 1,
            )
        entries = [AuditEntry.model_validate_json(fields[b"entry"]) for _, fields in rows[:limit]]
        return entries, rows[limit - 1][0].decode() if len(rows) > limit else None

    # The rest

    async def _edit(self, tenant: str, fields: Mapping[str, str], guard: str = "") -> int:
        """Apply `EDIT`; how many fields were set or deleted. The platform's own hash
        needs no tenant record.
        """
        _checked(tenant)
        flat = [part for pair in fields.items() for part in pair]
        guard = "" if tenant == PLATFORM else guard
        with translate_errors():
            done = await run_script(
                self.redis,
                EDIT,
                (tenant_key(tenant), VERSION, CHANGES, CHANNEL),
                (tenant, guard, *flat),
            )
        if done == -1:
            raise Conflict(f"there is a tenant {tenant!r}")
        if done == -2:
            raise NotFound(f"no tenant {tenant!r}")
        return int(done)

    async def _members(self, tenant: str, board: str, boards: str, users: Sequence[str]) -> int:
        keys = [
            VERSION,
            CHANGES,
            CHANNEL,
            f"{PREFIX}boards:{_checked(tenant)}",
            f"{PREFIX}board:{tenant}:{board}",
        ]
        with translate_errors():
            args = (user_key(tenant, ""), tenant, board, boards, *users)
            return int(await run_script(self.redis, MEMBERS, keys, args))

    async def _fields(self, tenant: str, kind: str) -> dict[str, bytes]:
        """The fields of one kind, by name. NotFound for no such tenant."""
        with translate_errors():
            fields = await self.redis.hgetall(tenant_key(_checked(tenant)))
        if tenant != PLATFORM and b"tenant" not in fields:
            raise NotFound(f"no tenant {tenant!r}")
        prefix = f"{kind}/"
        return {
            name.decode().removeprefix(prefix): raw
            for name, raw in fields.items()
            if name.startswith(prefix.encode())
        }


def _checked(tenant: str) -> str:
    """A tenant's id before it becomes part of a key."""
    try:
        return check_tenant(tenant)
    except ValueError:
        raise NotFound(f"no tenant {tenant[:100]!r}") from None


def _text_fault(value: str) -> str | None:
    try:
        check_text(value)
    except ValueError as error:
        return str(error)
    return None


def _capability(name: str) -> str:
    if name != "*" and not CAPABILITY.fullmatch(name):
        raise NotFound(f"no capability {name[:100]!r}")
    return name


def located(error: ValidationError) -> list[dict[str, str]]:
    """What is wrong and where, as `ShoalError.errors`."""
    return [
        {
            "location": ".".join(map(str, fault["loc"])),
            "message": fault["msg"].removeprefix("Value error, "),
        }
        for fault in error.errors()
    ]
