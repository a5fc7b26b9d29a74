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
_PAGE_OF_GROUPS = """
-- KEYS: the dead letters. ARGV: where to begin, how many to look at.
-- Returns the groups of these, and where the next begin: empty after the last.
local page = redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', ARGV[2])
local groups, seen = {}, {}
for _, letter in ipairs(page) do
  for i = 1, #letter[2], 2 do
    local name = letter[2][i + 1]
    if letter[2][i] == 'group' and not seen[name] then
      seen[name] = true
      groups[#groups + 1] = name
    end
  end
end
local full = #page == tonumber(ARGV[2])
return {groups, full and '(' .. page[#page][1] or ''}
"""


async def add_dead_letter(
    events: Any, tenant: str, group: str, entry: Entry, error: str, deliveries: int
) -> None:
    """Keep an event that a group could not handle."""
    position, fields = entry
    letter: dict[str, Any] = {
        "group": group,
        "position": fields.get(b"p", position),
        "error": error[:ERROR_LENGTH].encode(errors="replace"),
        "deliveries": deliveries,
        "t": fields[b"t"],
        "e": fields[b"e"],
    }
    await events.xadd(keys.dead_letters(tenant), letter)


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


async def groups_with_dead_letters(events: Any, tenant: str) -> set[str]:
    """The groups that a tenant's dead letters are of."""
    letters, position, groups = keys.dead_letters(tenant), b"-", set[str]()
    while position:
        found, position = await run_script(events, _PAGE_OF_GROUPS, [letters], [position, PAGE])
        groups.update(name.decode() for name in found)
    return groups


async def requeue_dead_letters(events: Any, tenant: str, group: str, ids: Sequence[str]) -> int:
    """Move dead letters of a group to its retry queue, in the log's order."""
    dead, retry_queue = keys.dead_letters(tenant), keys.retry_queue(tenant, group)
    letters = []
    for position in dict.fromkeys(map(check_position, ids)):
        found = await events.xrange(dead, position, position)
        if not found or found[0][1][b"group"].decode() != group:
            raise NotFound(f"{group} has no dead letter {position}")
        letters.append(found[0])
    letters.sort(key=lambda letter: sort_key(letter[1][b"position"].decode()))
    commands: list[tuple[Any, ...]] = []
    for position, fields in letters:
        entry = {"t": fields[b"t"], "e": fields[b"e"], "p": fields[b"position"]}
        commands.append(append_command(retry_queue, entry))
        commands.append(("XDEL", dead, position))
    await run_atomically(events, commands)
    return len(letters)


def _dead_letter(entry: Entry) -> DeadLetter:
    position, fields = entry
    group, at, error, deliveries = (
        fields[name].decode(errors="replace")
        for name in (b"group", b"position", b"error", b"deliveries")
    )
    return DeadLetter(position.decode(), group, at, error, int(deliveries), decode_event(fields))
