"""The directory of tenants, keys, limits, parameters, experiments and audit entries."""

import asyncio
import hashlib
import re
import secrets
import time
from base64 import b32encode
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
from pydantic import ValidationError

from shoal.contract.batch import validation_errors
from shoal.contract.errors import Conflict, Invalid, NotFound
from shoal.contract.experiments import ExperimentRecord
from shoal.contract.names import CAPABILITY
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
    NOTICE_SECONDS,
    VERSION,
    active_key,
    audit_key,
    ceiling_key,
    exposed_key,
    minute_keys,
    tenant_key,
)
from .members import BOARDS, ROLES, Members, checked_tenant
from .records import PLATFORM, AuditEntry, KeyRecord, Limits, TenantRecord
from .roles import Roles
from .users import Users

CHUNK = 500
"""Tenants that are asked for at once."""
DELETED_FIELDS = {
    "key": "keys",
    "role": "roles",
    "limits": "limits",
    "parameters": "parameters",
    "experiment": "experiments",
}
"""Kind of a field in a tenant's hash → its name among the counts of an erasure."""


class Directory:
    """Operations on the directory, in one Redis (its keys are in `keyspace`).

    Every operation raises:
        NotFound: There is no such tenant.
        Unavailable: Redis cannot be reached.
    """

    def __init__(self, redis_url: str) -> None:
        self.url = redis_url
        self.boards = Members(self, BOARDS)
        self.role_members = Members(self, ROLES)
        self.users = Users(self)
        self.roles = Roles(self)

    @property
    def redis(self) -> Any:
        """The running event loop's client, whose replies are bytes."""
        return async_redis(self.url)

    # Tenants

    async def create_tenant(self, tenant: str, name: str | None = None) -> TenantRecord:
        """Create a tenant.

        Raises:
            Conflict: It exists, or is being erased.
            Invalid: The id or the name is not valid.
        """
        try:
            record = TenantRecord(id=tenant, name=name or tenant)
        except ValidationError as error:
            raise Invalid("Invalid tenant id or name", errors=validation_errors(error)) from None
        if tenant == PLATFORM:
            raise Conflict(f"{PLATFORM!r} is reserved for the platform")
        await self.edit(tenant, {"tenant": record.model_dump_json()}, guard="new")
        return record

    async def get_tenant(self, tenant: str) -> TenantRecord:
        with translate_errors():
            raw = await self.redis.hget(tenant_key(checked_tenant(tenant)), "tenant")
        if raw is None:
            raise NotFound(f"no tenant {tenant!r}")
        return TenantRecord.model_validate_json(raw)

    async def list_tenants(
        self, limit: int = 1000, cursor: str | None = None
    ) -> tuple[list[TenantRecord], str | None]:
        """A page of tenants by id, and the cursor of the next (None at the end)."""
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
        """The ids of all tenants that are not being erased."""
        ids: list[str] = []
        cursor: str | None = None
        while True:
            page, cursor = await self.list_tenants(cursor=cursor)
            ids += [tenant.id for tenant in page if not tenant.removing]
            if cursor is None:
                return ids

    async def begin_removal(self, tenant: str, notice: float = NOTICE_SECONDS) -> None:
        """Invalidate the tenant's credentials, as the first step of its erasure.

        Returns after `notice` seconds, when every replica knows, so that no late write
        recreates what is erased next. The last step is `delete_tenant`.
        """
        record = await self.get_tenant(tenant)
        await self.edit(
            tenant, {"tenant": record.model_copy(update={"removing": True}).model_dump_json()}
        )
        await asyncio.sleep(notice)

    async def is_erased(self, tenant: str) -> bool:
        """Whether the tenant was erased recently or is being erased.

        An absent tenant is not: a directory that lost its data must not erase others'.
        """
        return tenant in await self.erased_among([tenant])

    async def erased_among(self, tenants: Collection[str]) -> set[str]:
        """Those of some tenants that were erased recently or are being erased."""
        erased, names = set[str](), sorted(tenants)
        for start in range(0, len(names), CHUNK):
            chunk = names[start : start + CHUNK]
            with translate_errors():
                pipe = self.redis.pipeline(transaction=False)
                for name in chunk:
                    pipe.hget(tenant_key(checked_tenant(name)), "tenant")
                    pipe.zscore(ERASED, name)
                found = await pipe.execute()
            for name, raw, at in zip(chunk, found[::2], found[1::2], strict=True):
                record = None if raw is None else TenantRecord.model_validate_json(raw)
                if at is not None if record is None else record.removing:
                    erased.add(name)
        return erased

    async def delete_tenant(self, tenant: str) -> dict[str, int]:
        """Delete all that the directory has of a tenant; may be repeated after a fault.

        Returns:
            How many entries of each kind were deleted.
        """
        if checked_tenant(tenant) == PLATFORM:
            raise Conflict(f"{PLATFORM!r} is reserved for the platform")
        counts = dict.fromkeys(DELETED_FIELDS.values(), 0)
        with translate_errors():
            fields = [field.decode() for field in await self.redis.hkeys(tenant_key(tenant))]
            for field in fields:
                kind, _, name = field.partition("/")
                if kind in DELETED_FIELDS:
                    counts[DELETED_FIELDS[kind]] += 1
                if kind == "key":
                    await self.redis.hdel(KEYS, name)
            counts["boards"], counts["memberships"] = await self.boards.delete_all(tenant)
            counts["role_members"] = (await self.role_members.delete_all(tenant))[1]
            counts["users"] = await self.users.delete_all(tenant)
            counts["audit"] = await self.redis.xlen(audit_key(tenant))
            await self.redis.unlink(audit_key(tenant))
            counts["exposures"] = await self._delete_exposures(tenant)
            await self._delete_request_counts(tenant)
        if fields:
            with translate_errors():
                now = time.time()
                await self.redis.zadd(ERASED, {tenant: now})
                await self.redis.zremrangebyscore(ERASED, "-inf", now - ERASED_SECONDS)
            await self.edit(tenant, dict.fromkeys(fields, ""))
        elif not any(counts.values()):
            raise NotFound(f"no tenant {tenant!r}")
        return counts

    async def _delete_exposures(self, tenant: str) -> int:
        count = 0
        for experiment in await self.redis.smembers(exposed_key(tenant)):
            key = exposed_key(tenant, experiment.decode())
            count += await self.redis.scard(key)
            await self.redis.unlink(key)
        await self.redis.delete(exposed_key(tenant))
        return count

    async def _delete_request_counts(self, tenant: str) -> None:
        await self.redis.delete(ceiling_key(tenant))
        this_minute = int(time.time() // 60)
        for capability in await self.redis.smembers(CAPABILITIES):
            await self.redis.zrem(active_key(capability.decode()), tenant)
            for minute in range(this_minute - 16, this_minute + 2):
                await self.redis.delete(*minute_keys(capability.decode(), minute, tenant))

    # Keys

    async def create_key(
        self, tenant: str, role: str, user: str | None = None, name: str | None = None
    ) -> tuple[KeyRecord, str]:
        """Create an API key.

        Returns:
            Its record, and the key itself, `shoal_<id>_<secret>`, which is not stored.
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
            raise Invalid("Invalid key", errors=validation_errors(error)) from None
        await self.get_tenant(tenant) if tenant != PLATFORM else None
        with translate_errors():
            await self.redis.hset(KEYS, key_id, tenant)
        await self.edit(tenant, {f"key/{key_id}": record.model_dump_json()}, guard="old")
        return record, key

    async def list_keys(self, tenant: str) -> list[KeyRecord]:
        """A tenant's keys, oldest first."""
        keys = [
            KeyRecord.model_validate_json(raw)
            for raw in (await self.fields(tenant, "key")).values()
        ]
        return sorted(keys, key=lambda key: (key.created, key.id))

    async def key_tenant(self, key_id: str) -> str:
        """The tenant that a key belongs to."""
        with translate_errors():
            tenant = await self.redis.hget(KEYS, key_id)
        if tenant is None:
            raise NotFound(f"no key {key_id!r}")
        return str(tenant.decode())

    async def revoke_key(self, key_id: str, tenant: str | None = None) -> None:
        """Revoke a key; NotFound where it is not `tenant`'s (None: anyone's)."""
        owner = await self.key_tenant(key_id)
        if tenant not in (None, owner) or not await self.edit(owner, {f"key/{key_id}": ""}):
            raise NotFound(f"no key {key_id!r}")
        with translate_errors():
            await self.redis.hdel(KEYS, key_id)

    # Limits, parameters

    async def set_limits(self, tenant: str, capability: str, limits: Limits | None) -> None:
        """Set limits on a capability, or on all (`*`); None removes them."""
        raw = "" if limits is None else limits.model_dump_json(exclude_none=True)
        await self.edit(tenant, {f"limits/{_capability(capability)}": raw}, guard="old")

    async def get_limits(self, tenant: str) -> dict[str, Limits]:
        fields = await self.fields(tenant, "limits")
        return {name: Limits.model_validate_json(raw) for name, raw in fields.items()}

    async def put_parameters(
        self,
        tenant: str,
        capability: str,
        values: Mapping[str, Any],
        changed: Collection[str] = (),
    ) -> None:
        """Replace the tenant's own values; the others keep their defaults.

        Args:
            tenant: The tenant.
            capability: The capability.
            values: All its own values.
            changed: The parameters that have another value than before: the time is
                kept with each, so that a change is known after it was undone.
        """
        raw = orjson.dumps(dict(values)).decode() if values else ""
        now = datetime.now(UTC).isoformat()
        marks = {f"changed/{capability}/{name}": now for name in changed}
        await self.edit(
            tenant, {f"parameters/{_capability(capability)}": raw, **marks}, guard="old"
        )

    async def get_changes(self, tenant: str, capability: str) -> dict[str, datetime]:
        """When each parameter of a capability was last changed, if it ever was."""
        marks = await self.fields(tenant, f"changed/{capability}")
        return {name: datetime.fromisoformat(raw.decode()) for name, raw in marks.items()}

    async def get_parameters(self, tenant: str, capability: str) -> dict[str, Any]:
        with translate_errors():
            raw = await self.redis.hget(
                tenant_key(checked_tenant(tenant)), f"parameters/{capability}"
            )
        values: dict[str, Any] = {} if raw is None else orjson.loads(raw)
        return values

    # Experiments

    async def put_experiment(self, record: ExperimentRecord) -> None:
        """Store an experiment; one with `tenant` None is for every tenant."""
        await self.edit(
            record.tenant or PLATFORM,
            {f"experiment/{record.id}": record.model_dump_json()},
            guard="old",
        )

    async def get_experiment(self, tenant: str | None, experiment: str) -> ExperimentRecord:
        with translate_errors():
            raw = await self.redis.hget(
                tenant_key(checked_tenant(tenant or PLATFORM)), f"experiment/{experiment}"
            )
        if raw is None:
            raise NotFound(f"no experiment {experiment!r}")
        return ExperimentRecord.model_validate_json(raw)

    async def list_experiments(self, tenant: str | None) -> list[ExperimentRecord]:
        fields = await self.fields(tenant or PLATFORM, "experiment")
        return [ExperimentRecord.model_validate_json(fields[name]) for name in sorted(fields)]

    async def delete_experiment(self, tenant: str | None, experiment: str) -> None:
        """Delete an experiment and the record of its logged exposures."""
        owner = tenant or PLATFORM
        if not await self.edit(owner, {f"experiment/{experiment}": ""}):
            raise NotFound(f"no experiment {experiment!r}")
        with translate_errors():
            await self.redis.unlink(exposed_key(owner, experiment))
            await self.redis.srem(exposed_key(owner), experiment)

    # Audit

    async def append_audit(self, tenant: str, entries: Sequence[AuditEntry]) -> None:
        """Append to a tenant's audit log, which keeps the last 100,000 entries."""
        with translate_errors():
            pipe = self.redis.pipeline(transaction=False)
            for entry in entries:
                fields: dict[Any, Any] = {"entry": entry.model_dump_json()}
                pipe.xadd(
                    audit_key(checked_tenant(tenant)),
                    fields,
                    maxlen=AUDIT_LENGTH,
                    approximate=True,
                )
            await pipe.execute()

    async def list_audit(
        self, tenant: str, limit: int = 100, cursor: str | None = None
    ) -> tuple[list[AuditEntry], str | None]:
        """A page of entries, newest first, and the next cursor (None at the end)."""
        if cursor is not None and not re.fullmatch(r"\d{1,20}-\d{1,20}", cursor):
            raise Invalid.at("query.cursor", "not a cursor of this list")
        with translate_errors():
            rows: Any = await self.redis.xrevrange(
                audit_key(checked_tenant(tenant)),
                max="+" if cursor is None else f"({cursor}",
                count=limit + 1,
            )
        entries = [AuditEntry.model_validate_json(fields[b"entry"]) for _, fields in rows[:limit]]
        return entries, rows[limit - 1][0].decode() if len(rows) > limit else None

    async def edit(self, tenant: str, fields: Mapping[str, str], guard: str = "") -> int:
        """Run `EDIT` on a tenant's fields; return how many changed."""
        checked_tenant(tenant)
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
            raise Conflict(f"Tenant {tenant!r} already exists")
        if done == -3:
            raise Conflict(
                f"tenant {tenant!r} has 10,000 keys, limits, parameters and experiments in all, "
                "the most: delete some"
            )
        if done == -2:
            raise NotFound(f"no tenant {tenant!r}")
        return int(done)

    async def fields(self, tenant: str, kind: str) -> dict[str, bytes]:
        """A tenant's fields of one kind, by name."""
        with translate_errors():
            fields = await self.redis.hgetall(tenant_key(checked_tenant(tenant)))
        if tenant != PLATFORM and b"tenant" not in fields:
            raise NotFound(f"no tenant {tenant!r}")
        prefix = f"{kind}/"
        return {
            name.decode().removeprefix(prefix): raw
            for name, raw in fields.items()
            if name.startswith(prefix.encode())
        }


def _capability(name: str) -> str:
    if name != "*" and not CAPABILITY.fullmatch(name):
        raise NotFound(f"no capability {name[:100]!r}")
    return name
