"""Who may see which board."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from shoal.contract.errors import Invalid, NotFound
from shoal.contract.names import check_tenant, check_text
from shoal.stores.redis_client import run_script, translate_errors

from .keyspace import CHANGES, CHANNEL, MEMBERS, VERSION, board_key, boards_key, user_key

if TYPE_CHECKING:
    from .directory import Directory


class BoardMembers:
    """The members of each tenant's boards, part of the directory.

    Every operation raises:
        NotFound: There is no such tenant or board.
        Unavailable: Redis cannot be reached.
    """

    def __init__(self, directory: "Directory") -> None:
        self._directory = directory

    async def replace(self, tenant: str, board: str, users: Sequence[str]) -> None:
        """Replace a board's members; without any, only services see it."""
        errors = [
            {"location": f"users.{i}", "message": message}
            for i, user in enumerate(users)
            if (message := _text_error(user))
        ]
        if message := _text_error(board):
            errors.append({"location": "board", "message": message})
        if errors:
            raise Invalid("Invalid board members", errors=errors)
        await self._directory.get_tenant(tenant)
        await self._set(tenant, board, "SADD", users)

    async def delete(self, tenant: str, board: str) -> None:
        """Delete a board and its memberships."""
        if not await self._set(tenant, board, "SREM", ()):
            raise NotFound(f"no board {board!r}")

    async def delete_all(self, tenant: str) -> dict[str, int]:
        """Delete all boards of a tenant; return how many boards and memberships."""
        redis, counts = self._directory.redis, {"boards": 0, "memberships": 0}
        for board in await self.list(tenant):
            with translate_errors():
                counts["memberships"] += await redis.scard(board_key(tenant, board))
            counts["boards"] += 1
            await self._set(tenant, board, "SREM", ())
        return counts

    async def members(self, tenant: str, board: str) -> list[str]:
        """A board's members, sorted."""
        redis = self._directory.redis
        with translate_errors():
            if not await redis.sismember(boards_key(checked_tenant(tenant)), board):
                raise NotFound(f"no board {board!r}")
            users = await redis.smembers(board_key(tenant, board))
        return sorted(user.decode() for user in users)

    async def list(self, tenant: str) -> list[str]:
        """A tenant's boards, sorted."""
        with translate_errors():
            boards = await self._directory.redis.smembers(boards_key(checked_tenant(tenant)))
        return sorted(board.decode() for board in boards)

    async def of_user(self, tenant: str, user: str) -> frozenset[str]:
        """The boards that a user is a member of."""
        with translate_errors():
            boards = await self._directory.redis.smembers(user_key(checked_tenant(tenant), user))
        return frozenset(board.decode() for board in boards)

    async def _set(self, tenant: str, board: str, command: str, users: Sequence[str]) -> int:
        keys = [
            VERSION,
            CHANGES,
            CHANNEL,
            boards_key(checked_tenant(tenant)),
            board_key(tenant, board),
        ]
        args = (user_key(tenant, ""), tenant, board, command, *users)
        with translate_errors():
            return int(await run_script(self._directory.redis, MEMBERS, keys, args))


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
