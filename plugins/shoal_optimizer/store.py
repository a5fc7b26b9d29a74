"""A tenant's records in Redis: JSON in one hash for each kind, with a version."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha1
from secrets import randbits
from typing import Any, Literal, get_args

import orjson
from pydantic import BaseModel

from shoal import Conflict, TenantContext

Kind = Literal["people", "tasks", "outcomes", "recommendations"]
KINDS: tuple[Kind, ...] = get_args(Kind)
VERSIONED: tuple[Kind, ...] = ("people", "outcomes")
"""Kinds whose changes count in the version."""

COMPARE_AND_SET = """
-- KEYS: the hash of each kind, in the order of KINDS, then the version.
-- ARGV: the first version when a versioned kind changes, else ''; then for each change
--       the number of its hash in KEYS, the record's id, its value before and its value
--       after ('' where there is none).
-- Returns 0, or the place in ARGV of the first change whose record has changed since.
for n = 2, #ARGV, 4 do
  local stored = redis.call('HGET', KEYS[tonumber(ARGV[n])], ARGV[n + 1])
  if (stored or '') ~= ARGV[n + 2] then return n end
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


@dataclass(frozen=True)
class Change:
    """A change of one record.

    Attributes:
        kind: The kind of the record.
        id: The id of the record.
        before: The value it must have, None when it must not exist.
        after: The value it gets, None to delete it.
    """

    kind: Kind
    id: str
    before: bytes | None
    after: bytes | None


def encode(value: BaseModel | Mapping[str, Any]) -> bytes:
    """A record as it is stored and answered, with the names of requests."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json", by_alias=True)
    return orjson.dumps(value)


def fingerprint(raw: bytes) -> str:
    """A short digest of a record, to recognize later whether it has changed."""
    return sha1(raw, usedforsecurity=False).hexdigest()


class RecordStore:
    """The records of one tenant."""

    def __init__(self, ctx: TenantContext) -> None:
        self._online = ctx.stores.online

    @staticmethod
    def key(name: str) -> tuple[str, ...]:
        """The key of a hash; all share one slot of a cluster."""
        return ("{}", "optimizer", "{}", name)

    async def version(self) -> int:
        """The version of people and outcomes; 0 before the first change.

        It begins at a random number and counts up.
        """
        return int(await self._online.get(self.key("version")) or 0)

    async def get(self, kind: Kind, id: str) -> bytes | None:
        """A record, or None."""
        raw: bytes | None = await self._online.hget(self.key(kind), id)
        return raw

    async def get_many(self, kind: Kind, ids: Sequence[str]) -> list[bytes | None]:
        """Records in the order of their ids, None for those that do not exist."""
        return list(await self._online.hmget(self.key(kind), list(ids))) if ids else []

    async def get_all(self, kind: Kind) -> dict[str, bytes]:
        """Every record of a kind, by id and in the order of the ids."""
        found: Mapping[bytes | str, bytes] = await self._online.hgetall(self.key(kind))
        rows = [(id.decode() if isinstance(id, bytes) else id, raw) for id, raw in found.items()]
        return dict(sorted(rows))

    async def put(self, kind: Kind, records: Mapping[str, bytes]) -> None:
        """Create or replace records, by id."""
        if records:
            await self._online.hset(self.key(kind), mapping=dict(records))
            await self._increment_version(kind)

    async def delete(self, kind: Kind, id: str) -> bool:
        """Delete a record; whether it existed."""
        existed = bool(await self._online.hdel(self.key(kind), id))
        if existed:
            await self._increment_version(kind)
        return existed

    async def compare_and_set(self, changes: Sequence[Change]) -> None:
        """Make all changes or none.

        Raises:
            Conflict: A record is no longer what it was before the change.
        """
        versioned = any(change.kind in VERSIONED for change in changes)
        arguments: list[Any] = [_initial_version() if versioned else ""]
        for change in changes:
            number = KINDS.index(change.kind) + 1
            arguments += [number, change.id, change.before or b"", change.after or b""]
        keys = [self.key(kind) for kind in KINDS] + [self.key("version")]
        if failed := int(await self._online.eval(COMPARE_AND_SET, keys, arguments)):
            change = changes[(failed - 2) // 4]
            raise Conflict(f"{change.kind}/{change.id} was changed by another request; try again")

    async def _increment_version(self, kind: Kind) -> None:
        if kind in VERSIONED:
            await self._online.set(self.key("version"), _initial_version(), nx=True)
            await self._online.incrby(self.key("version"), 1)


def _initial_version() -> int:
    """Random, so that a tenant erased and created again repeats no cached version."""
    return randbits(60)
