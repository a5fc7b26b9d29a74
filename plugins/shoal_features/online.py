"""The online store: one Redis hash per entity, one field per feature.

Sliding windows are counted when they are read.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from . import keys
from .values import IDENTITY_AT, JSON_AT, StoredValue, fit_number, unpack
from .views import Feature, View
from .window_scripts import APPLY_SCRIPT, READ_SCRIPT
from .windows import EventRow, WindowPlan, lifetime_ms

EVENTS_PER_SCRIPT = 200
"""Events of one entity that are sent to a script at most; it may do fewer at a time."""

WINDOWS_PER_SCRIPT = 8
"""Windows of different lengths that one script reads."""

WRITE_SCRIPT = """
-- Write values of one entity; each replaces the stored one unless that is of the same
-- feature and newer by (event time, created time), or was created before the entity was
-- erased. Returns the number of values written.
-- KEYS: 1 the entity's values (hash), 2 when it was erased, in µs
-- ARGV: 1 lifetime of the entity in ms (0: no limit), then field, stored value, …
local left = redis.call('PTTL', KEYS[1])  -- -2: no such key, -1: no expiry
local fields, out = {}, {}
for at = 2, #ARGV, 2 do fields[#fields + 1] = ARGV[at] end
local now = redis.call('HMGET', KEYS[1], unpack(fields))
local erased = tonumber(redis.call('GET', KEYS[2]) or -1)
for i, field in ipairs(fields) do
  local raw, newer = ARGV[2 * i + 1], true
  local _, known_at = struct.unpack('>I7I7', raw)
  if known_at <= erased then newer = false
  elseif now[i] and now[i]:sub(15, 18) == raw:sub(15, 18) then
    local event, created = struct.unpack('>I7I7', raw)
    local old, known = struct.unpack('>I7I7', now[i])
    newer = event > old or (event == old and created >= known)
  end
  if newer then out[#out + 1], out[#out + 2] = field, raw end
end
if #out > 0 then redis.call('HSET', KEYS[1], unpack(out)) end
if ARGV[1] == '0' then redis.call('PERSIST', KEYS[1])
elseif left == -2 or (left >= 0 and left < tonumber(ARGV[1])) then
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
return #out / 2
"""


@dataclass(frozen=True, slots=True)
class OnlineRow:
    """New values of one entity: feature name → its stored form (see `values.pack`)."""

    entity: str
    values: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class ServedValue:
    """One feature of one entity as served.

    Attributes:
        json: The value.
        event: Event time in µs since 1970; None where nothing is stored.
        created: Created time in µs since 1970.
        reason: Why the value is null: `missing`, `expired`, or empty for none.
    """

    json: bytes
    event: int | None = None
    created: int | None = None
    reason: str = ""


class ReadPlan:
    """How to read some features of one entity type.

    It is made once per combination of features and used for every request, so a request
    costs one round trip and no look-up of definitions.

    Args:
        entity: The entity type.
        features: The features with their views, all of the entity type.
    """

    def __init__(self, entity: str, features: Sequence[tuple[View, Feature]]) -> None:
        self.entity = entity
        self.features = list(features)
        self.names = [f.name for _, f in features]
        self._prefixes = [b'"%s":' % n.encode() for n in self.names]
        self._identities = [v.identity(f) for v, f in features]
        self._ttls = [view.ttl * 1_000_000 if view.ttl else None for view, _ in features]
        self._windows = []
        for view in dict.fromkeys(v for v, f in features if v.kind == "stream" and f.window):
            own = {i: f for i, (v, f) in enumerate(features) if v is view and f.window}
            self._windows.append(_WindowRead(view, own))
        self.reply_count = 1 + sum(window.reply_count for window in self._windows)
        """How many replies the commands for one entity give."""

    def queue(self, pipe: Any, entity_id: str, now: int) -> None:
        """Queue the commands for one entity. `now` is in µs since 1970."""
        pipe.hmget(keys.values(self.entity, entity_id), self.names)
        for window in self._windows:
            window.queue(pipe, entity_id, now)

    def decode(self, replies: Sequence[Any], now: int) -> list[ServedValue]:
        """The values of one entity, in the order of the features."""
        counted = self._counted(replies)
        values = []
        for i, raw in enumerate(replies[0]):
            if raw is None:
                values.append(ServedValue(b"null", reason="missing"))
                continue
            stored: StoredValue = unpack(raw)
            ttl = self._ttls[i]
            if stored.identity != self._identities[i]:  # of another feature with this name
                values.append(ServedValue(b"null", reason="missing"))
            elif ttl is not None and stored.event + ttl < now:
                values.append(ServedValue(b"null", stored.event, stored.created, "expired"))
            else:
                json = counted.get(i, stored.json)
                values.append(ServedValue(json, stored.event, stored.created))
        return values

    def encode(self, replies: Sequence[Any], now: int) -> bytes:
        """The values of one entity as `{"name": value, …}`.

        The same as `decode`, without parsing: the stored bytes are put together.
        """
        counted = self._counted(replies) if self._windows else None
        parts = []
        for i, raw in enumerate(replies[0]):
            json = b"null"
            if raw is not None:
                ttl = self._ttls[i]
                fresh = ttl is None or int.from_bytes(raw[:7], "big") + ttl >= now
                if fresh and raw[IDENTITY_AT:JSON_AT] == self._identities[i]:
                    json = counted[i] if counted and i in counted else raw[JSON_AT:]
            parts.append(self._prefixes[i] + json)
        return b"{" + b",".join(parts) + b"}"

    def encode_values(self, values: Sequence[ServedValue]) -> bytes:
        """Decoded values as `{"name": value, …}`."""
        parts = (p + v.json for p, v in zip(self._prefixes, values, strict=True))
        return b"{" + b",".join(parts) + b"}"

    def _counted(self, replies: Sequence[Any]) -> dict[int, bytes]:
        """Index of the feature → its value, for those counted from windows."""
        values: dict[int, bytes] = {}
        at = 1
        for window in self._windows:
            values |= window.decode(replies[at : at + window.reply_count])
            at += window.reply_count
        return values


class _WindowRead:
    """How to read some windows of one stream view."""

    def __init__(self, view: View, features: Mapping[int, Feature]) -> None:
        self._plan, self._features = WindowPlan.of(view), features
        self._counts = {i: f for i, f in features.items() if not f.column}
        others = {i: f for i, f in features.items() if f.column}
        windows = list(dict.fromkeys(f.window for f in others.values()))
        self._scripts = []
        for start in range(0, len(windows), WINDOWS_PER_SCRIPT):
            some = windows[start : start + WINDOWS_PER_SCRIPT]
            self._scripts.append({i: f for i, f in others.items() if f.window in some})
        self._arguments = [self._plan.read_arguments(list(s.values())) for s in self._scripts]
        self.reply_count = len(self._counts) + len(self._scripts)

    def queue(self, pipe: Any, entity_id: str, now: int) -> None:
        places = self._plan.keys(entity_id)
        for feature in self._counts.values():
            pipe.zcount(places[0], f"({now - (feature.window or 0) * 1_000_000}", now)
        for arguments in self._arguments:
            pipe.eval(READ_SCRIPT, places, [now, *arguments])

    def decode(self, replies: Sequence[Any]) -> dict[int, bytes]:
        """Index of the feature → its value."""
        values = {i: b"%d" % n for i, n in zip(self._counts, replies, strict=False)}
        for script, reply in zip(self._scripts, replies[len(self._counts) :], strict=True):
            for (i, feature), raw in zip(script.items(), reply, strict=True):
                values[i] = fit_number(feature.dtype, raw)
        return values


async def read_values(
    online: Any, plan: ReadPlan, ids: Sequence[str], now: int
) -> list[list[ServedValue]]:
    """Read features of some entities in one round trip.

    Args:
        online: The tenant's online store.
        plan: Which features.
        ids: The entities.
        now: µs since 1970.

    Returns:
        Per id, the values in the order of the plan's features.

    Raises:
        Unavailable: When Redis is unavailable.
    """
    return [plan.decode(r, now) for r in await _fetch_replies(online, plan, ids, now)]


async def read_json(online: Any, plan: ReadPlan, ids: Sequence[str], now: int) -> list[bytes]:
    """Read features as `read_values` does, as one JSON object per id."""
    return [plan.encode(r, now) for r in await _fetch_replies(online, plan, ids, now)]


async def _fetch_replies(
    online: Any, plan: ReadPlan, ids: Sequence[str], now: int
) -> list[list[Any]]:
    n = plan.reply_count
    if n == 1 and len(ids) == 1:
        return [[await online.hmget(keys.values(plan.entity, ids[0]), plan.names)]]
    pipe = online.pipeline()
    for entity_id in ids:
        plan.queue(pipe, entity_id, now)
    replies = await pipe.execute()
    return [replies[i : i + n] for i in range(0, len(replies), n)]


async def write_rows(
    online: Any, view: View, rows: Iterable[OnlineRow], now: int, chunk_size: int = 500
) -> int:
    """Write rows of a view; a value replaces the stored one unless that is newer.

    Args:
        online: The tenant's online store.
        view: The view.
        rows: New values.
        now: µs since 1970.
        chunk_size: Rows per round trip.

    Returns:
        How many values replaced others or are new.
    """
    written, chunk = 0, []
    for row in rows:
        chunk.append(row)
        if len(chunk) == chunk_size:
            written += await _write_chunk(online, view, chunk, now)
            chunk = []
    return written + (await _write_chunk(online, view, chunk, now) if chunk else 0)


async def _write_chunk(online: Any, view: View, rows: Sequence[OnlineRow], now: int) -> int:
    pipe = online.pipeline()
    for row in rows:
        newest = max((unpack(raw).event for raw in row.values.values()), default=now)
        arguments: list[Any] = [lifetime_ms(view.ttl, newest, now)]
        for name, raw in row.values.items():
            arguments += [name, raw]
        of = view.entity, row.entity
        pipe.eval(WRITE_SCRIPT, [keys.values(*of), keys.erased(*of)], arguments)
    return sum(await pipe.execute())


async def reset_lifetimes(online: Any, lifetimes: Mapping[str, int | None]) -> None:
    """Keep the stored values of entity types for as long as their views now say.

    Args:
        online: The tenant's online store.
        lifetimes: Entity type → seconds that its values are served at most; None for no
            limit.
    """
    for entity, ttl in lifetimes.items():
        pipe = online.pipeline()
        async for encoded in online.scan(keys.values_of(entity)):
            key = tuple(unquote(part) for part in encoded.split(":"))
            if ttl is None:
                pipe.persist(key)
            else:
                pipe.pexpire(key, lifetime_ms(ttl, 0, 0))
            if len(pipe) >= 1_000:
                await pipe.execute()
        await pipe.execute()


@dataclass(frozen=True, slots=True)
class ApplyResult:
    """What became of some events.

    Attributes:
        fresh: How many were new.
        known: How many had been applied before.
        late: Those that came too late.
        future: Those ahead of our clock beyond what an entity may have of them.
    """

    fresh: int
    known: int
    late: tuple[EventRow, ...]
    future: tuple[EventRow, ...] = ()


async def apply_events(
    online: Any, plan: WindowPlan, events: Iterable[EventRow], now: int, grace: int
) -> ApplyResult:
    """Add events to the windows of one stream view. Idempotent.

    Args:
        online: The tenant's online store.
        plan: The view's plan.
        events: Events of any entities, in any order.
        now: µs since 1970.
        grace: Seconds past its longest window that an event is still accepted.
    """
    waiting: dict[str, list[EventRow]] = {}
    for event in events:
        waiting.setdefault(event.entity, []).append(event)
    fresh, total, late, future = 0, sum(map(len, waiting.values())), [], []
    while waiting:
        pipe, sent = online.pipeline(), list(waiting.items())
        for entity_id, rows in sent:
            arguments = plan.apply_arguments(rows[:EVENTS_PER_SCRIPT], now, grace)
            of = plan.view.entity, entity_id
            places = [*plan.keys(entity_id), keys.retracted(*of), keys.values(*of)]
            pipe.eval(APPLY_SCRIPT, places, arguments)
        for (entity_id, rows), reply in zip(sent, await pipe.execute(), strict=True):
            new, too_late, ahead, done = reply
            fresh += new
            late += [rows[i - 1] for i in too_late]
            future += [rows[i - 1] for i in ahead]
            waiting[entity_id] = rows[done:]
        waiting = {entity_id: rows for entity_id, rows in waiting.items() if rows}
    known = total - fresh - len(late) - len(future) if plan.windowed else 0
    return ApplyResult(fresh, known, tuple(late), tuple(future))
