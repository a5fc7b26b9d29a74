"""Membership: who may see which board, and to whom which role is given."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shoal.contract.errors import Conflict, Invalid, NotFound
from shoal.contract.names import check_tenant, check_text
from shoal.stores.redis_client import run_script, translate_errors

from .keyspace import (
    CHANGES,
    CHANNEL,
    MEMBERS,
    VERSION,
    board_key,
    boards_key,
    role_key,
    role_names_key,
    user_key,
    user_roles_key,
)

if TYPE_CHECKING:
    from .directory import Directory

MAX_MEMBERS = 100_000
"""The most members of one board or role."""
AT_ONCE = 1_000
"""Memberships that one script changes, so that it holds up Redis for a moment only."""


@dataclass(frozen=True, slots=True)
class Grouping:
    """What users are members of, and where that is in Redis."""

    noun: str
    groups_key: Callable[[str], str]
    group_key: Callable[[str, str], str]
    user_key: Callable[[str, str], str]


BOARDS = Grouping("board", boards_key, board_key, user_key)
ROLES = Grouping("role", role_names_key, role_key, user_roles_key)


@dataclass(frozen=True, slots=True)
class MemberChanges:
    """The users that a change added to a group, and those it removed."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


class Members:
    """The members of each tenant's boards, or of its roles; part of the directory.

    Every operation raises:
        NotFound: There is no such tenant, board or role.
        Unavailable: Redis cannot be reached.
    """

    def __init__(self, directory: "Directory", grouping: Grouping) -> None:
        self._directory, self._grouping = directory, grouping

    async def replace(self, tenant: str, group: str, users: Sequence[str]) -> MemberChanges:
        """Replace a group's members; a board without any is seen by services only.

        Of two calls at once, each user of either may remain, and no other.
        """
        noun = self._grouping.noun
        errors = [
            {"location": f"users.{i}", "message": message}
            for i, user in enumerate(users)
            if (message := _text_error(user))
        ]
        if message := _text_error(group):
            errors.append({"location": noun, "message": message})
        if errors:
            raise Invalid(f"Invalid members of a {noun}", errors=errors)
        await self._directory.get_tenant(tenant)
        wanted, before = set(users), await self._stored(tenant, group)
        self._check_count(len(wanted))
        _, changes = await self._set(tenant, group, "SADD", wanted - before, before - wanted)
        return changes

    async def change(
        self, tenant: str, group: str, add: Sequence[str], remove: Sequence[str]
    ) -> MemberChanges:
        """Add members to a group, and remove others."""
        if add:
            key = self._grouping.group_key(checked_tenant(tenant), group)
            with translate_errors():
                self._check_count(await self._directory.redis.scard(key) + len(set(add)))
        _, changes = await self._set(tenant, group, "SADD", set(add), set(remove), "known")
        return changes

    async def delete(self, tenant: str, group: str) -> MemberChanges:
        """Delete a group and its memberships."""
        known, changes = await self._clear(tenant, group)
        if not known:
            raise NotFound(f"no {self._grouping.noun} {group!r}")
        return changes

    async def delete_all(self, tenant: str) -> tuple[int, int]:
        """Delete all groups of a tenant; return how many groups and memberships."""
        groups = memberships = 0
        for group in await self.list(tenant):
            _, changes = await self._clear(tenant, group)
            groups, memberships = groups + 1, memberships + len(changes.removed)
        return groups, memberships

    async def _clear(self, tenant: str, group: str) -> tuple[int, MemberChanges]:
        return await self._set(tenant, group, "SREM", (), await self._stored(tenant, group))

    def _check_count(self, count: int) -> None:
        if count > MAX_MEMBERS:
            raise Conflict(f"a {self._grouping.noun} has at most {MAX_MEMBERS:,} members")

    async def _stored(self, tenant: str, group: str) -> set[str]:
        key = self._grouping.group_key(checked_tenant(tenant), group)
        with translate_errors():
            return {user.decode() for user in await self._directory.redis.smembers(key)}

    async def members(self, tenant: str, group: str) -> list[str]:
        """A group's members, sorted."""
        redis, grouping = self._directory.redis, self._grouping
        with translate_errors():
            if not await redis.sismember(grouping.groups_key(checked_tenant(tenant)), group):
                raise NotFound(f"no {grouping.noun} {group!r}")
            users = await redis.smembers(grouping.group_key(tenant, group))
        return sorted(user.decode() for user in users)

    async def exists(self, tenant: str, group: str) -> bool:
        key = self._grouping.groups_key(checked_tenant(tenant))
        with translate_errors():
            return bool(await self._directory.redis.sismember(key, group))

    async def list(self, tenant: str) -> list[str]:
        """A tenant's groups, sorted."""
        key = self._grouping.groups_key(checked_tenant(tenant))
        with translate_errors():
            groups = await self._directory.redis.smembers(key)
        return sorted(group.decode() for group in groups)

    async def of_user(self, tenant: str, user: str) -> frozenset[str]:
        """The groups that a user is a member of."""
        key = self._grouping.user_key(checked_tenant(tenant), user)
        with translate_errors():
            groups = await self._directory.redis.smembers(key)
        return frozenset(group.decode() for group in groups)

    async def _set(
        self,
        tenant: str,
        group: str,
        command: str,
        add: Collection[str],
        remove: Collection[str],
        condition: str = "",
    ) -> tuple[int, MemberChanges]:
        """Remove and add members, a thousand at a time: first those to remove."""
        grouping, known = self._grouping, 0
        keys = [
            VERSION,
            CHANGES,
            CHANNEL,
            grouping.groups_key(checked_tenant(tenant)),
            grouping.group_key(tenant, group),
        ]
        added, removed = list[str](), list[str]()
        users = [(user, False) for user in sorted(remove)] + [(user, True) for user in sorted(add)]
        for start in range(0, max(len(users), 1), AT_ONCE):
            some = users[start : start + AT_ONCE]
            to_add = [user for user, wanted in some if wanted]
            to_remove = [user for user, wanted in some if not wanted]
            options = (grouping.user_key(tenant, ""), tenant, group, command, condition)
            with translate_errors():
                status, *changes = await run_script(
                    self._directory.redis,
                    MEMBERS,
                    keys,
                    (*options, len(to_add), MAX_MEMBERS, *to_add, *to_remove),
                )
            if status == -1:
                raise NotFound(f"no {grouping.noun} {group!r}")
            if status == -2:
                self._check_count(MAX_MEMBERS + 1)
            known += status
            added += [user.decode() for user in changes[0]]
            removed += [user.decode() for user in changes[1]]
        return known, MemberChanges(tuple(sorted(added)), tuple(sorted(removed)))


def checked_tenant(tenant: str) -> str:
    """A tenant's id that may become part of a key; NotFound when it is not valid."""
    try:
        return check_tenant(tenant)
    except ValueError:
        raise NotFound(f"no tenant {tenant[:100]!r}") from None


def _text_error(value: str) -> str | None:
    try:
        check_text(value)
    except ValueError as error:
        return str(error)
    return None
