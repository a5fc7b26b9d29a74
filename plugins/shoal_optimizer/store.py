"""A tenant's people, tasks, outcomes and decisions, kept in Redis: raw JSON in hashes
of one slot, with one version.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha1
from secrets import randbits
from typing import Any, Literal, TypeVar

import orjson
from pydantic import BaseModel

from shoal import Conflict, TenantContext

Kind = Literal["people", "tasks", "outcomes", "recommendations", "plans"]
M = TypeVar("M", bound=BaseModel)

SWAP = """
for n = 2, #ARGV, 4 do
  local held = redis.call('HGET', KEYS[tonumber(ARGV[n])], ARGV[n + 1])
  if (held or '') ~= ARGV[n + 2] then return n end
end
for n = 2, #ARGV, 4 do
  if ARGV[n + 3] == '' then redis.call('HDEL', KEYS[tonumber(ARGV[n])], ARGV[n + 1])
  else redis.call('HSET', KEYS[tonumber(ARGV[n])], ARGV[n + 1], ARGV[n + 3]) end
end
if ARGV[1] ~= '' then
  redis.call('SET', KEYS[#KEYS], ARGV[1], 'NX')
  redis.call('INCR', KEYS[#KEYS])
end
return 0
"""
VERSIONED: tuple[Kind, ...] = ("people", "outcomes")
KINDS: tuple[Kind, ...] = ("people", "tasks", "outcomes", "recommendations", "plans")


@dataclass(frozen=True)
class Change:
    """One record from what it was to what it shall be; None means that it is not there."""

    kind: Kind
    id: str
    before: bytes | None
    after: bytes | None


def fingerprint(raw: bytes) -> str:
    """What a record was when it was read."""
    return sha1(raw, usedforsecurity=False).hexdigest()


def _epoch() -> int:
    """Where a tenant's versions begin: at random, so that one erased and made again
    never meets a version that a cache knows.
    """
    return randbits(60)


def packed(value: BaseModel | Mapping[str, Any]) -> bytes:
    """A record as it is kept."""
    return orjson.dumps(value.model_dump(mode="json") if isinstance(value, BaseModel) else value)


class Store:
    """The records of one tenant."""

    def __init__(self, ctx: TenantContext) -> None:
        self._online = ctx.stores.online

    @staticmethod
    def key(name: str) -> tuple[str, ...]:
        return ("{}", "optimizer", "{}", name)

    async def version(self) -> int:
        """Counts the changes to people and outcomes, from a random number on; 0 before
        the first.
        """
        return int(await self._online.get(self.key("version")) or 0)

    async def get(self, kind: Kind, id: str) -> bytes | None:
        raw: bytes | None = await self._online.hget(self.key(kind), id)
        return raw

    async def many(self, kind: Kind, ids: Sequence[str]) -> list[bytes | None]:
        return list(await self._online.hmget(self.key(kind), list(ids))) if ids else []

    async def all(self, kind: Kind) -> dict[str, bytes]:
        found: Mapping[bytes | str, bytes] = await self._online.hgetall(self.key(kind))
        rows = [(id.decode() if isinstance(id, bytes) else id, raw) for id, raw in found.items()]
        return dict(sorted(rows))

    async def put(self, kind: Kind, rows: Mapping[str, bytes]) -> None:
        if rows:
            await self._online.hset(self.key(kind), mapping=dict(rows))
            await self._changed(kind)

    async def delete(self, kind: Kind, id: str) -> bool:
        gone = bool(await self._online.hdel(self.key(kind), id))
        if gone:
            await self._changed(kind)
        return gone

    async def _changed(self, kind: Kind) -> None:
        if kind in VERSIONED:
            await self._online.set(self.key("version"), _epoch(), nx=True)
            await self._online.incrby(self.key("version"), 1)

    async def swap(self, changes: Sequence[Change]) -> None:
        """Make all the changes or none: Conflict when a record is no longer what it
        was.
        """
        arguments: list[Any] = [
            _epoch() if any(change.kind in VERSIONED for change in changes) else ""
        ]
        for change in changes:
            arguments += [
                KINDS.index(change.kind) + 1,
                change.id,
                change.before or b"",
                change.after or b"",
            ]
        keys = [self.key(kind) for kind in KINDS] + [self.key("version")]
        if failed := int(await self._online.eval(SWAP, keys, arguments)):
            change = changes[(failed - 2) // 4]
            raise Conflict(
                f"{change.kind} {change.id!r} changed in the meantime; ask for a new recommendation"
            )
