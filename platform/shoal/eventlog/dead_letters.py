"""Dead letters: events that a group's handler could not handle, kept with the error."""

from collections.abc import Sequence
from typing import Any

from shoal.contract.errors import NotFound
from shoal.stores.redis_client import run_atomically, run_script

from . import keys
from .codec import Entry, check_position, decode_event, sort_key
from .log import DeadLetter
from .streams import PAGE, append_command

ERROR_LENGTH = 2000
_TAKE = """
-- Removes a dead letter. Returns its fields; nil where it is gone.
-- KEYS: the dead letters, how many each group has.
local function take(id)
  local letter = redis.call('XRANGE', KEYS[1], id, id)[1]
  if not letter then return nil end
  local fields = {}
  for i = 1, #letter[2], 2 do fields[letter[2][i]] = letter[2][i + 1] end
  redis.call('XDEL', KEYS[1], id)
  if redis.call('HINCRBY', KEYS[2], fields.group, -1) <= 0 then
    redis.call('HDEL', KEYS[2], fields.group)
  end
  return fields
end
local count = 0
"""
_DELETE = f"""{_TAKE}
-- ARGV: ids. Returns how many there were.
for _, id in ipairs(ARGV) do
  if take(id) then count = count + 1 end
end
return count
"""
_REQUEUE = f"""{_TAKE}
-- KEYS[3]: a retry queue. ARGV: ids in the log's order. Returns how many there were.
for _, id in ipairs(ARGV) do
  local letter = take(id)
  if letter then
    redis.call('XADD', KEYS[3], '*', 't', letter.t, 'e', letter.e, 'p', letter.position)
    count = count + 1
  end
end
return count
"""


async def add_dead_letter(
    events: Any, tenant: str, group: str, entry: Entry, error: str, deliveries: int
) -> None:
    """Keep an event that a group could not handle."""
    position, fields = entry
    letter: dict[str, bytes] = {
        "group": group.encode(),
        "position": fields.get(b"p", position),
        "error": error[:ERROR_LENGTH].encode(errors="replace"),
        "deliveries": b"%d" % deliveries,
        "t": fields[b"t"],
        "e": fields[b"e"],
    }
    commands = [
        append_command(keys.dead_letters(tenant), letter),
        ("HINCRBY", keys.dead_letter_counts(tenant), group, 1),
    ]
    await run_atomically(events, commands)


async def list_dead_letters(
    events: Any, tenant: str, group: str | None, after: str, limit: int
) -> list[DeadLetter]:
    """See `EventLog.dead_letters`."""
    position, found = check_position(after), list[DeadLetter]()
    while len(found) < limit:
        page = await events.xrange(keys.dead_letters(tenant), f"({position}", "+", count=PAGE)
        letters = [_dead_letter(entry) for entry in page]
        found += [letter for letter in letters if group in (None, letter.group)]
        if len(page) < PAGE:
            break
        position = page[-1][0].decode()
    return found[:limit]


async def count_dead_letters(events: Any, tenant: str) -> dict[str, int]:
    """How many dead letters each group has."""
    counts = await events.hgetall(keys.dead_letter_counts(tenant))
    return {group.decode(): int(count) for group, count in sorted(counts.items())}


async def delete_dead_letters(events: Any, tenant: str, ids: Sequence[str | bytes]) -> int:
    """Delete dead letters; return how many there were."""
    if not ids:
        return 0
    where = [keys.dead_letters(tenant), keys.dead_letter_counts(tenant)]
    return int(await run_script(events, _DELETE, where, ids))


async def find_dead_letters(
    events: Any, tenant: str, group: str, ids: Sequence[str]
) -> list[DeadLetter]:
    """Dead letters of a group by their ids; NotFound where it has not all of them."""
    letters = []
    for id in dict.fromkeys(map(check_position, ids)):
        found = await events.xrange(keys.dead_letters(tenant), id, id)
        if not found or found[0][1][b"group"].decode() != group:
            raise NotFound(f"{group} has no dead letter {id}")
        letters.append(_dead_letter(found[0]))
    return letters


async def requeue_dead_letters(events: Any, tenant: str, group: str, ids: Sequence[str]) -> int:
    """Move dead letters of a group to its retry queue, in the log's order."""
    letters = await find_dead_letters(events, tenant, group, ids)
    letters.sort(key=lambda letter: sort_key(letter.position))
    where = [keys.dead_letters(tenant), keys.dead_letter_counts(tenant)]
    where.append(keys.retry_queue(tenant, group))
    return int(await run_script(events, _REQUEUE, where, [letter.id for letter in letters]))


def _dead_letter(entry: Entry) -> DeadLetter:
    position, fields = entry
    group, at, error, deliveries = (
        fields[name].decode(errors="replace")
        for name in (b"group", b"position", b"error", b"deliveries")
    )
    return DeadLetter(position.decode(), group, at, error, int(deliveries), decode_event(fields))
