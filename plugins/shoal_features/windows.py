"""Exact sliding windows in Redis, under duplicates, disorder and lateness.

An entity's events of one view are a sorted set: the member names the event (source and
id), the score is its time. So an event counts once however often it is delivered, and a
window `(t - w, t]` is a range of scores, read when it is asked for. What a window needs
of an event besides its time is in a hash beside the set. One Lua script applies a batch
of events to one entity atomically; applying it again changes nothing.

An event is too late when it is older than every window plus the grace: it cannot change
any value any more.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import orjson

from .registry import Feature, View
from .values import pack, to_json

SKEW = 300
"""Seconds an event may be ahead of our clock. Later ones wait for the batch, or a wrong
clock would win for ever.
"""

APPLY = """
-- KEYS: the entity's values, the events' times, the events' columns
-- ARGV: now, horizon, companions' life in ms, the entity's life in ms (0: for ever), #windowed, windowed names…,
--       #last, last names…, then per event: time, member, columns as JSON (or ''), one stored value (or '') per last
local horizon, life, at = tonumber(ARGV[2]), tonumber(ARGV[3]), 5
local windowed, last = {}, {}
for i = 1, tonumber(ARGV[at]) do windowed[i] = ARGV[at + i] end
at = at + #windowed + 1
for i = 1, tonumber(ARGV[at]) do last[i] = ARGV[at + i] end
at = at + #last + 1
local left = redis.call('PTTL', KEYS[1])  -- -2: there is no such key, -1: it stays for ever
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
      elseif old ~= columns then  -- known from before a change of the view: only what it lacks
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
for i, value in pairs(best) do redis.call('HSET', KEYS[1], last[i], value, last[i] .. ':by', seen[i][2]) end
if newest then
  for _, name in ipairs(windowed) do
    local now = redis.call('HGET', KEYS[1], name)
    if not now or struct.unpack('>I7', now) < newest then
      redis.call('HSET', KEYS[1], name, struct.pack('>I7I7', newest, tonumber(ARGV[1])) .. 'wnull')
    end
  end
  local gone = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', horizon)
  if #gone > 0 then
    redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', horizon)
    for i = 1, #gone, 4000 do redis.call('HDEL', KEYS[3], unpack(gone, i, math.min(i + 3999, #gone))) end
  end
  if fresh > 0 then
    redis.call('PEXPIRE', KEYS[2], life)
    redis.call('PEXPIRE', KEYS[3], life)
  end
end
if ARGV[4] == '0' then redis.call('PERSIST', KEYS[1])
elseif left == -2 or (left >= 0 and left < tonumber(ARGV[4])) then redis.call('PEXPIRE', KEYS[1], ARGV[4]) end
return {fresh, late}
"""

READ = """
-- KEYS: the events' times, the events' columns.  ARGV: now, then per feature: function, column (or ''), window in µs
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
      for _, raw in ipairs(redis.call('HMGET', KEYS[2], unpack(ids, i, math.min(i + 3999, #ids)))) do
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
class Occurrence:
    """One event as a view sees it: when (µs since 1970), its name (unique, and the
    tie-break between equal times), the entity's id, and the values of the view's
    columns.
    """

    time: int
    member: str
    entity: str
    columns: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """What the script needs to know of a view, worked out once."""

    view: View
    windowed: tuple[Feature, ...]
    last: tuple[Feature, ...]
    columns: tuple[tuple[str, str], ...]
    """Column and type of what the windows read. Each is stored under a name made of
    both, so that a view may gain and lose features and what is stored means the same.
    """

    @staticmethod
    def of(view: View) -> "Plan":
        windowed = tuple(f for f in view.features if f.window)
        last = tuple(f for f in view.features if not f.window)
        columns = tuple(dict.fromkeys((f.column, needed_type(f)) for f in windowed if f.column))
        return Plan(view, windowed, last, columns)

    def arguments(self, events: Iterable[Occurrence], now: int, grace: int) -> list[Any]:
        """ARGV of `APPLY` for one entity's events. `now` in µs, `grace` in seconds."""
        keep = (self.view.retention + grace) * 1_000_000
        head: list[Any] = [now, now - keep, keep // 1000, (self.view.ttl or 0) * 1000]
        head += [
            len(self.windowed),
            *(f.name for f in self.windowed),
            len(self.last),
            *(f.name for f in self.last),
        ]
        for event in events:
            head += [event.time, event.member, self._stored(event)]
            for feature in self.last:
                value = coerce(feature.dtype, event.columns.get(feature.column))
                head.append("" if value is None else pack(feature.dtype, value, event.time, now))
        return head

    def questions(self, features: Sequence[Feature]) -> list[Any]:
        """ARGV of `READ` after the time, for the windowed ones of `features`."""
        out: list[Any] = []
        for feature in features:
            column = _stored_name(feature.column, needed_type(feature)) if feature.column else ""
            out += [feature.function, column, (feature.window or 0) * 1_000_000]
        return out

    def _stored(self, event: Occurrence) -> bytes | str:
        # each value is JSON text inside the JSON object, so that Lua compares and
        # returns it without changing it
        texts = {
            _stored_name(c, dtype): _text(dtype, event.columns.get(c)) for c, dtype in self.columns
        }
        return (
            orjson.dumps({name: text for name, text in texts.items() if text is not None})
            if any(texts.values())
            else ""
        )


def needed_type(feature: Feature) -> str:
    """The type that an event's value must have for this aggregation to take it in;
    empty for any scalar.
    """
    if feature.function in ("count", "count_distinct"):
        return ""
    return "float64" if feature.function in ("sum", "mean") else feature.dtype


def _stored_name(column: str, dtype: str) -> str:
    return f"{column}:{dtype}"


def _text(dtype: str, value: Any) -> str | None:
    value = coerce(dtype, value)
    return (
        None
        if value is None
        else (to_json(dtype, value) if dtype else orjson.dumps(value)).decode()
    )


def coerce(dtype: str, value: Any) -> Any:
    """An event's value as a feature of type `dtype` takes it, or None where it cannot:
    numbers stay numbers and are never made from text, anything simple may become text,
    the empty dtype takes any scalar. The batch applies the same rules.
    """
    if (
        value is None
        or isinstance(value, dict | list)
        or (isinstance(value, float) and not isfinite(value))
    ):
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
