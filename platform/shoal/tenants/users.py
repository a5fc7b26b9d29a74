"""Provisioned users: their records, and whether they may use the platform."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from shoal.contract.errors import Conflict, NotFound
from shoal.stores.redis_client import run_script, translate_errors

from .keyspace import (
    CHANGES,
    CHANNEL,
    PUT_USER,
    VERSION,
    group_records_key,
    inactive_key,
    user_external_key,
    user_key,
    user_order_key,
    user_records_key,
    user_roles_key,
)
from .members import checked_tenant
from .records import GroupRecord, UserRecord

if TYPE_CHECKING:
    from .directory import Directory

EPOCH = datetime.fromtimestamp(0, UTC)
MAX_USERS = 100_000
"""The most users that one tenant may provision."""


class Modified(Conflict):
    """The record has been changed since it was read."""


@dataclass(frozen=True, slots=True)
class UserAccess:
    """What the directory says of a user, whether provisioned or not."""

    active: bool
    boards: frozenset[str]
    roles: frozenset[str]


class Users:
    """The provisioned users of each tenant, part of the directory.

    A tenant need not provision its users. One who is deactivated or deleted is refused
    until activated or created again.

    Every operation raises:
        NotFound: There is no such tenant or user.
        Unavailable: Redis cannot be reached.
    """

    def __init__(self, directory: "Directory") -> None:
        self._directory = directory

    async def access(self, tenant: str, user: str) -> UserAccess:
        """Whether a user may use the platform, and the user's boards and roles."""
        with translate_errors():
            pipe = self._directory.redis.pipeline(transaction=False)
            pipe.sismember(inactive_key(checked_tenant(tenant)), user)
            pipe.smembers(user_key(tenant, user))
            pipe.smembers(user_roles_key(tenant, user))
            inactive, boards, roles = await pipe.execute()
        return UserAccess(
            not inactive,
            frozenset(board.decode() for board in boards),
            frozenset(role.decode() for role in roles),
        )

    async def get(self, tenant: str, user: str) -> UserRecord:
        found = await self.get_many(tenant, [user])
        if not found:
            raise NotFound(f"no user {user[:100]!r}")
        return found[0]

    async def get_many(self, tenant: str, users: Sequence[str]) -> list[UserRecord]:
        """The records of those users that are provisioned."""
        if not users:
            return []
        with translate_errors():
            raw = await self._directory.redis.hmget(user_records_key(checked_tenant(tenant)), users)
        return [UserRecord.model_validate_json(record) for record in raw if record is not None]

    async def find_external(self, tenant: str, external_id: str) -> str | None:
        """The user with an id at the identity provider."""
        with translate_errors():
            key = user_external_key(checked_tenant(tenant))
            user = await self._directory.redis.hget(key, external_id)
        return None if user is None else str(user.decode())

    async def page(self, tenant: str, start: int, count: int) -> tuple[list[UserRecord], int]:
        """Users in the order of their ids, from a position; and how many there are."""
        redis, order = self._directory.redis, user_order_key(checked_tenant(tenant))
        with translate_errors():
            total = int(await redis.zcard(order))
            users = await redis.zrange(order, start, start + count - 1) if count else []
        return await self.get_many(tenant, [user.decode() for user in users]), total

    async def create(self, tenant: str, record: UserRecord) -> None:
        """Create a user.

        Raises:
            Conflict: The user exists, or another has the same external id, or the
                tenant has too many users.
        """
        await self._directory.get_tenant(tenant)
        await self._put(tenant, record.id, None, record)

    async def replace(self, tenant: str, before: UserRecord, record: UserRecord) -> None:
        """Replace the record of a user.

        Raises:
            Conflict: Another user has the same external id.
            Modified: The record is not `before` any more.
        """
        await self._put(tenant, record.id, before, record)

    async def delete(self, tenant: str, before: UserRecord) -> None:
        """Delete a user's record and memberships, and revoke the user's keys.

        Raises:
            Modified: The record is not `before` any more.
        """
        directory, user = self._directory, before.id
        await self._put(tenant, user, before, None)
        access = await self.access(tenant, user)
        for board in access.boards:
            await directory.boards.change(tenant, board, (), (user,))
        for role in access.roles:
            await directory.role_members.change(tenant, role, (), (user,))
        for key in await directory.list_keys(tenant):
            if key.user == user:
                await directory.revoke_key(key.id, tenant)

    async def delete_all(self, tenant: str) -> int:
        """Delete everything about a tenant's users; return how many there were."""
        with translate_errors():
            count = await self._directory.redis.zcard(user_order_key(checked_tenant(tenant)))
            await self._directory.redis.delete(
                user_records_key(tenant),
                user_order_key(tenant),
                user_external_key(tenant),
                inactive_key(tenant),
                group_records_key(tenant),
            )
        return int(count)

    async def _put(
        self, tenant: str, user: str, before: UserRecord | None, record: UserRecord | None
    ) -> None:
        keys = [
            VERSION,
            CHANGES,
            CHANNEL,
            user_records_key(checked_tenant(tenant)),
            user_order_key(tenant),
            user_external_key(tenant),
            inactive_key(tenant),
        ]
        args = (
            tenant,
            user,
            "" if before is None else before.model_dump_json(),
            "" if record is None else record.model_dump_json(),
            "" if record is None else record.external_id or "",
            "" if before is None else before.external_id or "",
            int(record is not None and record.active is not False),
            MAX_USERS,
        )
        with translate_errors():
            done = int(await run_script(self._directory.redis, PUT_USER, keys, args))
        if done == -1 and before is None:
            raise Conflict(f"user {user!r} already exists")
        if done == -1:
            raise Modified(f"user {user!r} was changed by someone else: read it and try again")
        if done == -2:
            raise Conflict("another user has the same externalId")
        if done == -3:
            raise Conflict(f"a tenant has at most {MAX_USERS:,} users")

    async def groups(self, tenant: str, names: Sequence[str]) -> list[GroupRecord]:
        """The records of groups; an empty one where it was not provisioned."""
        if not names:
            return []
        with translate_errors():
            key = group_records_key(checked_tenant(tenant))
            raw = await self._directory.redis.hmget(key, names)
        return [
            GroupRecord(created=EPOCH, modified=EPOCH)
            if record is None
            else GroupRecord.model_validate_json(record)
            for record in raw
        ]

    async def put_group(self, tenant: str, name: str, record: GroupRecord | None) -> None:
        """Store the record of a group; None deletes it."""
        key = group_records_key(checked_tenant(tenant))
        with translate_errors():
            if record is None:
                await self._directory.redis.hdel(key, name)
            else:
                await self._directory.redis.hset(key, name, record.model_dump_json())
