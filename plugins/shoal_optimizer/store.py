"""A tenant's records in Redis: JSON in one hash for each kind, with a version."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha1
from secrets import randbits
from time import time_ns
from typing import Any, Literal, get_args
from uuid import uuid4

import orjson
from pydantic import BaseModel

from shoal import Conflict, TenantContext

Kind = Literal["people", "tasks", "outcomes", "recommendations", "assigned", "plans", "scenarios"]
"""`assigned` repeats the tasks that have a team, whose hours are committed.

`plans` names the runs of a week, see `plan_runs`.
"""
KINDS: tuple[Kind, ...] = get_args(Kind)
VERSION_OF: Mapping[Kind, str] = {
    "people": "version",
    "outcomes": "version",
    "assigned": "assigned_version",
}
"""What counts the changes of a kind."""
VERSIONS = ("version", "assigned_version")

COMPARE_AND_SET = """
-- KEYS: the hash of each kind, in the order of KINDS, then the versions.
-- ARGV: for both versions the first one when a kind that it counts changes, else '';
--       the second version that is expected, or ''; then for each change the number of
--       its hash in KEYS, the record's id, its value before and its value after (''
--       where there is none). A value before of '*' is not compared.
-- Returns 0, the place in ARGV of the first change whose record has changed since, or
-- -1 when the second version has.
if ARGV[3] ~= '' and (redis.call('GET', KEYS[#KEYS]) or '0') ~= ARGV[3] then return -1 end
for n = 4, #ARGV, 4 do
  local stored = redis.call('HGET', KEYS[tonumber(ARGV[n])], ARGV[n + 1])
  if ARGV[n + 2] ~= '*' and (stored or '') ~= ARGV[n + 2] then return n end
end
for n = 4, #ARGV, 4 do
  if ARGV[n + 3] == '' then redis.call('HDEL', KEYS[tonumber(ARGV[n])], ARGV[n + 1])
  else redis.call('HSET', KEYS[tonumber(ARGV[n])], ARGV[n + 1], ARGV[n + 3]) end
end
for n = 1, 2 do
  if ARGV[n] ~= '' then
    redis.call('SET', KEYS[#KEYS - 2 + n], ARGV[n], 'NX')
    redis.call('INCR', KEYS[#KEYS - 2 + n])
  end
end
return 0
"""


ANYTHING = b"*"
"""A value before that is not compared."""


@dataclass(frozen=True)
class Change:
    """A change of one record.

    Attributes:
        kind: The kind of the record.
        id: The id of the record.
        before: The value it must have, None when it must not exist, or ANYTHING.
        after: The value it gets, None to delete it.
    """

    kind: Kind
    id: str
    before: bytes | None
    after: bytes | None


def new_id(milliseconds: int | None = None) -> str:
    """An id of now, or of a time since the epoch; ids are in the order of their times.

    Source: RFC 9562, 5.7 (UUID version 7).
    """
    time = time_ns() // 1_000_000 if milliseconds is None else milliseconds
    return f"{time:012x}7{uuid4().hex[13:]}"


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

    async def versions(self) -> tuple[int, int]:
        """The versions of people and outcomes, and of assigned tasks.

        A version is 0 before the first change; it begins at a random number and counts
        up.
        """
        people, assigned = [await self._online.get(self.key(name)) for name in VERSIONS]
        return int(people or 0), int(assigned or 0)

    async def get(self, kind: Kind, id: str) -> bytes | None:
        """A record, or None."""
        raw: bytes | None = await self._online.hget(self.key(kind), id)
        return raw

    async def get_many(self, kind: Kind, ids: Sequence[str]) -> list[bytes | None]:
        """Records in the order of their ids, None for those that do not exist."""
        return list(await self._online.hmget(self.key(kind), list(ids))) if ids else []

    async def ids(self, kind: Kind) -> list[str]:
        """The ids of a kind, in their order."""
        found: Sequence[bytes | str] = await self._online.hkeys(self.key(kind))
        return sorted(id.decode() if isinstance(id, bytes) else id for id in found)

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

    async def compare_and_set(
        self, changes: Sequence[Change], assigned_version: int | None = None
    ) -> None:
        """Make all changes or none.

        A task that has a team afterwards is repeated among the assigned ones.

        Args:
            changes: The changes.
            assigned_version: The version of assigned tasks that they rest on.

        Raises:
            Conflict: A record, or the version, is no longer what it was before.
        """
        changes = [*changes, *filter(None, map(_repeated, changes))]
        counted = {VERSION_OF.get(change.kind) for change in changes if not _is_idle(change)}
        arguments: list[Any] = [
            _initial_version() if version in counted else "" for version in VERSIONS
        ]
        arguments.append("" if assigned_version is None else assigned_version)
        for change in changes:
            number = KINDS.index(change.kind) + 1
            arguments += [number, change.id, change.before or b"", change.after or b""]
        keys = [self.key(name) for name in (*KINDS, *VERSIONS)]
        failed = int(await self._online.eval(COMPARE_AND_SET, keys, arguments))
        if failed == -1:
            raise Conflict("another task was assigned meanwhile; try again")
        if failed:
            change = changes[(failed - len(VERSIONS) - 2) // 4]
            raise Conflict(f"{change.kind}/{change.id} was changed by another request; try again")

    async def _increment_version(self, kind: Kind) -> None:
        if (version := VERSION_OF.get(kind)) is not None:
            await self._online.set(self.key(version), _initial_version(), nx=True)
            await self._online.incrby(self.key(version), 1)


def _repeated(change: Change) -> Change | None:
    """The change of a task among the assigned ones, None when there is none."""
    if change.kind != "tasks" or not any(map(_is_assigned, (change.before, change.after))):
        return None
    after = change.after if _is_assigned(change.after) else None
    return Change("assigned", change.id, ANYTHING, after)


def _is_assigned(task: bytes | None) -> bool:
    return task is not None and orjson.loads(task)["state"] == "assigned"


def _is_idle(change: Change) -> bool:
    return change.before == change.after


def _initial_version() -> int:
    """Random, so that a tenant erased and created again repeats no cached version."""
    return randbits(60)
