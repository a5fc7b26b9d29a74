"""Exact sliding windows in Redis, under duplicates, disorder and lateness.

The events of one view of an entity are a sorted set: the member names the event (source
and id), the score is its time. An event therefore counts once however often it is
delivered, and a window `(t - w, t]` is a range of scores that is read on request. The
columns that a window needs are in a hash beside the set. One Lua script applies a batch
of events to one entity atomically; applying it again changes nothing.

An event is too late when it is older than every window plus the grace period, so that
it cannot change any value.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import orjson

from .values import pack, to_json
from .views import Feature, View

MAX_AHEAD = 300
"""Seconds that an event may be ahead of our clock. Later ones wait until they are due,
or one wrong clock would decide the latest value indefinitely.
"""

APPLY_SCRIPT = """
-- Apply events to one entity. Returns the number of new events, and the indexes (from 1)
-- of those that came too late.
-- KEYS: 1 the entity's values (hash), 2 the times of its events (sorted set),
--       3 the columns of its events (hash)
-- ARGV: 1 now in µs, 2 the time in µs up to which events are too late,
--       3 lifetime of KEYS 2 and 3 in ms, 4 lifetime of KEYS 1 in ms (0: no limit),
--       number of windowed features, their names…,
--       number of features without a window, their names…,
--       then per event: time in µs, member, its columns as JSON (or ''),
--       and a stored value (or '') per feature without a window
local horizon, life, at = tonumber(ARGV[2]), tonumber(ARGV[3]), 5
local windowed, last = {}, {}
for i = 1, tonumber(ARGV[at]) do windowed[i] = ARGV[at + i] end
at = at + #windowed + 1
for i = 1, tonumber(ARGV[at]) do last[i] = ARGV[at + i] end
at = at + #last + 1
local left = redis.call('PTTL', KEYS[1])  -- -2: no such key, -1: no expiry
local fresh, newest, late = 0, nil, {}
local best, seen = {}, {}
for i, name in ipairs(last) do
  local now = redis.call('HMGET', KEYS[1], name, name .. ':by')
  seen[i] = {now[1] and struct.unpack('>I7', now[1]), now[2] or ''}
end
local index = 0
while at <= #ARGV do
  index = index + 1
  local time, member, columns = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local t = tonumber(time)
  if #windowed > 0 then
    if not newest or t > newest then newest = t end
    if t <= horizon then
      late[#late + 1] = index
    elseif redis.call('ZADD', KEYS[2], 'NX', time, member) == 1 then
      fresh = fresh + 1
      if columns ~= '' then redis.call('HSET', KEYS[3], member, columns) end
    elseif columns ~= '' then
      local old = redis.call('HGET', KEYS[3], member)
      if not old then redis.call('HSET', KEYS[3], member, columns)
      elseif old ~= columns then  -- stored before the view changed: add the missing columns
        local both = cjson.decode(columns)
        for name, value in pairs(cjson.decode(old)) do both[name] = value end
        redis.call('HSET', KEYS[3], member, cjson.encode(both))
      end
    end
  end
  for i = 1, #last do
    local value, now = ARGV[at + 2 + i], seen[i]
    if value ~= '' and (not now[1] or t > now[1] or (t == now[1] and member > now[2])) then
      seen[i], best[i] = {t, member}, value
    end
  end
  at = at + 3 + #last
end
for i, value in pairs(best) do
  redis.call('HSET', KEYS[1], last[i], value, last[i] .. ':by', seen[i][2])
end
if newest then
  for _, name in ipairs(windowed) do
    local now = redis.call('HGET', KEYS[1], name)
    if not now or struct.unpack('>I7', now) < newest then
      local times = struct.pack('>I7I7', newest, tonumber(ARGV[1]))
      redis.call('HSET', KEYS[1], name, times .. 'wnull')
    end
  end
  local expired = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', horizon)
  if #expired > 0 then
    redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', horizon)
    for i = 1, #expired, 4000 do
      redis.call('HDEL', KEYS[3], unpack(expired, i, math.min(i + 3999, #expired)))
    end
  end
  if fresh > 0 then
    redis.call('PEXPIRE', KEYS[2], life)
    redis.call('PEXPIRE', KEYS[3], life)
  end
end
if ARGV[4] == '0' then redis.call('PERSIST', KEYS[1])
elseif left == -2 or (left >= 0 and left < tonumber(ARGV[4])) then
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
end
return {fresh, late}
"""

READ_SCRIPT = """
-- Read the windows of one entity. Returns the value of each feature as JSON.
-- KEYS: 1 the times of its events (sorted set), 2 the columns of its events (hash)
-- ARGV: 1 now in µs, then per feature: function, column (or ''), window in µs
local out, now = {}, tonumber(ARGV[1])
for at = 2, #ARGV, 3 do
  local how, column = ARGV[at], ARGV[at + 1]
  local low, high = '(' .. string.format('%.0f', now - tonumber(ARGV[at + 2])), ARGV[1]
  if column == '' then
    out[#out + 1] = tostring(redis.call('ZCOUNT', KEYS[1], low, high))
  else
    local ids = redis.call('ZRANGEBYSCORE', KEYS[1], low, high)
    local n, sum, least, most, newest, kinds, distinct = 0, 0, nil, nil, nil, {}, 0
    for i = 1, #ids, 4000 do
      local found = redis.call('HMGET', KEYS[2], unpack(ids, i, math.min(i + 3999, #ids)))
      for _, raw in ipairs(found) do
        local value = raw and cjson.decode(raw)[column]
        if value and value ~= cjson.null then
          n, newest = n + 1, value
          if how == 'count_distinct' then
            if not kinds[value] then kinds[value], distinct = true, distinct + 1 end
          elseif how ~= 'last' and how ~= 'count' then
            local number = tonumber(value)
            sum = sum + number
            if n == 1 or number < tonumber(least) then least = value end
            if n == 1 or number > tonumber(most) then most = value end
          end
        end
      end
    end
    local answer = 'null'
    if how == 'count' then answer = tostring(n)
    elseif how == 'count_distinct' then answer = tostring(distinct)
    elseif how == 'sum' or (how == 'mean' and n > 0) then
      local total = how == 'sum' and sum or sum / n
      if total - total == 0 then answer = string.format('%.17g', total) end
    elseif n > 0 then answer = how == 'min' and least or how == 'max' and most or newest end
    out[#out + 1] = answer
  end
end
return out
"""


@dataclass(frozen=True, slots=True)
class EventRow:
    """One event as a view reads it.

    Attributes:
        time: µs since 1970.
        member: Names the event; unique, and decides between events of one time.
        entity: The entity's id.
        columns: The values of the view's columns.
    """

    time: int
    member: str
    entity: str
    columns: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class WindowPlan:
    """The arguments of the scripts that depend on the view alone.

    Attributes:
        view: A stream view.
        windowed: Its features with a window.
        last: Its features without one.
        columns: Column and type of what the windows read. Each is stored under a name
            made of both, so a view may gain and lose features without changing the
            meaning of what is stored.
    """

    view: View
    windowed: tuple[Feature, ...]
    last: tuple[Feature, ...]
    columns: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, view: View) -> "WindowPlan":
        """The plan of a view."""
        windowed = tuple(f for f in view.features if f.window)
        last = tuple(f for f in view.features if not f.window)
        columns = tuple(dict.fromkeys((f.column, required_type(f)) for f in windowed if f.column))
        return cls(view, windowed, last, columns)

    def apply_arguments(self, events: Iterable[EventRow], now: int, grace: int) -> list[Any]:
        """ARGV of `APPLY_SCRIPT` for one entity's events.

        Args:
            events: The events of the entity.
            now: µs since 1970.
            grace: Seconds past its longest window that an event is still accepted.
        """
        retention = (self.view.retention + grace) * 1_000_000
        arguments: list[Any] = [
            now,
            now - retention,
            retention // 1000,
            (self.view.ttl or 0) * 1000,
            len(self.windowed),
            *(f.name for f in self.windowed),
            len(self.last),
            *(f.name for f in self.last),
        ]
        for event in events:
            arguments += [event.time, event.member, self._encode_columns(event)]
            for feature in self.last:
                value = coerce(feature.dtype, event.columns.get(feature.column))
                stored = "" if value is None else pack(feature.dtype, value, event.time, now)
                arguments.append(stored)
        return arguments

    def read_arguments(self, features: Sequence[Feature]) -> list[Any]:
        """ARGV of `READ_SCRIPT` after the time, for features with a window."""
        arguments: list[Any] = []
        for feature in features:
            column = _stored_name(feature.column, required_type(feature)) if feature.column else ""
            arguments += [feature.function, column, (feature.window or 0) * 1_000_000]
        return arguments

    def _encode_columns(self, event: EventRow) -> bytes | str:
        # Each value is JSON text inside the JSON object, so that Lua compares and
        # returns it unchanged.
        texts = {}
        for column, dtype in self.columns:
            text = _encode(dtype, event.columns.get(column))
            if text is not None:
                texts[_stored_name(column, dtype)] = text
        return orjson.dumps(texts) if texts else ""


def required_type(feature: Feature) -> str:
    """The type that a feature's aggregation accepts; empty for any scalar."""
    if feature.function in ("count", "count_distinct"):
        return ""
    return "float64" if feature.function in ("sum", "mean") else feature.dtype


def coerce(dtype: str, value: Any) -> Any:
    """Convert an event's value to the type that an aggregation accepts.

    Text never becomes a number, any scalar may become text, and the empty type accepts
    any scalar. The batch side applies the same rules in SQL.

    Returns:
        The value, or None where it cannot be of the type.
    """
    if value is None or isinstance(value, dict | list):
        return None
    if isinstance(value, float) and not isfinite(value):
        return None
    if dtype == "":
        return value
    if dtype == "string":
        return value if isinstance(value, str) else orjson.dumps(value).decode()
    try:
        to_json(dtype, value)
    except (ValueError, OverflowError):
        return None
    return value


def _stored_name(column: str, dtype: str) -> str:
    return f"{column}:{dtype}"


def _encode(dtype: str, value: Any) -> str | None:
    value = coerce(dtype, value)
    if value is None:
        return None
    return (to_json(dtype, value) if dtype else orjson.dumps(value)).decode()
