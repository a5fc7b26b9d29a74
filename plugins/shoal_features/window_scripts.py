"""The Lua scripts of sliding windows: tiles, applying events, and reading.

A view's events of one entity are a sorted set, as `windows` says. Above it are tiles: a
tile covers 16ⁿ µs (17 s, 4.5 minutes, 72 minutes, 19 hours, 13 days, 204 days and so
on) and has, for each column, the number of its values and, of numbers, their sum, least
and greatest. The set as a whole is split into the largest tiles when it holds more than
`SPLIT` events, a tile into sixteen when it does. So few events need no tiles, many at
one time need more levels, and a range is always some whole tiles and at most `SPLIT`
events at each of its ends: a read costs the same whatever the window holds.

A tile always is what the events in it give: when events leave, the tiles that they were
in are computed again from those below. Sums keep what rounding lost (Knuth's TwoSum),
so they hardly depend on how events are cut into tiles.

A value's latest time, per column, answers distinct counts of windows that end now.
Values of events ahead of the clock wait in a set of their own until they are due.
"""

MAX_WORK = 1_000
"""Steps of one script: a script that applies events stops after as many, and says how
far it came.
"""

MAX_AHEAD_VALUES = 256
"""Values of columns with distinct counts that may be ahead of the clock."""

_TILES = """
-- KEYS: 1 the times of its events (sorted set), 2 the columns of its events (hash),
--       3 its tiles (hash), 4 values ahead of the clock (sorted set),
--       5… the latest times of the values of a column with distinct counts (sorted sets)
local TIMES, COLUMNS, TILES, AHEAD = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local SPLIT, TOP, BITS, FOREVER = 64, 44, 4, 2^53
local work = 0

local function digits(number) return string.format('%.0f', number) end

local function count_events(low, high)  -- low <= time < high
  return redis.call('ZCOUNT', TIMES, digits(low), '(' .. digits(high))
end

local function tile_field(shift, index) return struct.pack('>BI7', shift, index) end

local numeric = {}
local function is_numeric(column)  -- a column's name ends with its type
  if numeric[column] == nil then
    numeric[column] = column:match(':float%d%d$') ~= nil or column:match(':int%d%d$') ~= nil
  end
  return numeric[column]
end

local function is_less(a, b)  -- numbers as text; exact beyond 2^53
  local x, y = tonumber(a), tonumber(b)
  if x ~= y or a == b then return x < y end
  if #a ~= #b then return (#a < #b) == (x > 0) end
  return (a < b) == (x > 0)
end

local function is_before(a, b)  -- by bytes, which `<` is not in every locale
  for i = 1, math.min(#a, #b) do
    local x, y = a:byte(i), b:byte(i)
    if x ~= y then return x < y end
  end
  return #a < #b
end

local function add_sum(all, sum, rest)
  local total = all.sum + sum
  local part = total - all.sum
  local lost = (all.sum - (total - part)) + (sum - part)
  if lost ~= lost then lost = 0 end  -- out of range
  all.sum, all.rest = total, all.rest + rest + lost
end

local function merge_tile(into, tile)
  for column, some in pairs(tile) do
    local all = into[column]
    if not all then
      all = {n = 0}
      if is_numeric(column) then
        all = {n = 0, sum = 0, rest = 0, least = some.least, most = some.most}
      end
      into[column] = all
    end
    all.n = all.n + some.n
    if is_numeric(column) then
      add_sum(all, some.sum, some.rest)
      if is_less(some.least, all.least) then all.least = some.least end
      if is_less(all.most, some.most) then all.most = some.most end
    end
  end
end

local function add_values(tile, values, last)  -- last: the event, where a tile is a moment
  for column, value in pairs(values) do
    work = work + 1
    local one = {n = 1}
    if is_numeric(column) then
      one = {n = 1, sum = tonumber(value), rest = 0, least = value, most = value}
    end
    merge_tile(tile, {[column] = one})
    local all = tile[column]
    if last and (not all.last or is_before(all.last, last)) then all.last = last end
  end
end

local function read_events(low, high)  -- low <= time < high; in order of time and name
  local found = redis.call('ZRANGEBYSCORE', TIMES, digits(low), '(' .. digits(high), 'WITHSCORES')
  local events, members = {}, {}
  for i = 1, #found, 2 do
    members[#members + 1] = found[i]
    events[#events + 1] = {member = found[i], time = tonumber(found[i + 1])}
  end
  if #events == 0 then return events end
  for i, raw in ipairs(redis.call('HMGET', COLUMNS, unpack(members))) do
    events[i].values = raw and cjson.decode(raw) or {}
  end
  work = work + #events
  return events
end

local function read_tiles(shift, first, last)  -- index - first + 1 → tile, or false
  local fields = {}
  for index = first, last do fields[#fields + 1] = tile_field(shift, index) end
  if #fields == 0 then return {} end
  local tiles = redis.call('HMGET', TILES, unpack(fields))
  for i, raw in ipairs(tiles) do tiles[i] = raw and cmsgpack.unpack(raw) end
  return tiles
end
"""

APPLY_SCRIPT = (
    """
-- Apply events to one entity. Returns the number of new events, the indexes (from 1) of
-- those that came too late, of those too many ahead of the clock, and how many were done.
-- KEYS: as of the tiles, then the entity's retracted events (set), and its values (hash)
-- ARGV: 1 now in µs, 2 the time in µs up to which events are too late,
--       3 lifetime of the windows' keys in ms, 4 lifetime of the values in ms (0: no limit),
--       5 number of columns,
--       number of columns with distinct counts, their names…,
--       number of windowed features, their names…, the number again, their identities…,
--       number of features without a window, their names…, and identities…,
--       then per event: time in µs, member, its columns as JSON (or ''),
--       and a stored value (or '') per feature without a window
"""
    + _TILES
    + f"local MAX_WORK, MAX_AHEAD = {MAX_WORK}, {MAX_AHEAD_VALUES}"
    + """
local MAX_EXPIRED, FEW = 200, 64
local RETRACTED, VALUES = KEYS[#KEYS - 1], KEYS[#KEYS]
local some_retracted = redis.call('EXISTS', RETRACTED) == 1
local clock, horizon, at = tonumber(ARGV[1]), tonumber(ARGV[2]), 6
local function read_names()
  local names = {}
  for i = 1, tonumber(ARGV[at]) do names[i] = ARGV[at + i] end
  at = at + #names + 1
  return names
end
local distinct, windowed, windowed_ids = read_names(), read_names(), read_names()
local last, last_ids = read_names(), read_names()
local function is_of(stored, identity) return stored and stored:sub(15, 18) == identity end
local changed, held = {}, {}

local function tile_to_change(shift, index)
  local field = tile_field(shift, index)
  if not changed[field] then
    local raw = redis.call('HGET', TILES, field)
    changed[field] = raw and cmsgpack.unpack(raw) or {}
  end
  return changed[field]
end

local function split(shift, events)
  for _, event in ipairs(events) do
    changed[tile_field(shift, math.floor(event.time / 2^shift))] = {}
  end
  for _, event in ipairs(events) do
    local tile = changed[tile_field(shift, math.floor(event.time / 2^shift))]
    add_values(tile, event.values, shift == 0 and event.member)
  end
end

local total = redis.call('ZCARD', TIMES)
local function add_to_tiles(t, member, values, is_new)
  local events, low, high, inside = nil, 0, FOREVER, total
  for shift = TOP, 0, -BITS do
    if inside <= SPLIT then return end
    work = work + 1
    local index = math.floor(t / 2^shift)
    if is_new and inside == SPLIT + 1 then
      events = events or read_events(low, high)
      split(shift, events)
    else
      add_values(tile_to_change(shift, index), values, shift == 0 and member)
    end
    low, high = index * 2^shift, (index + 1) * 2^shift
    local field = tile_field(shift, index)
    held[field] = held[field] and held[field] + (is_new and 1 or 0) or count_events(low, high)
    inside = held[field]
  end
end

local function record_distinct(t, values)
  for i, column in ipairs(distinct) do
    local value = values[column]
    if value then
      if #value > 41 then value = '#' .. redis.sha1hex(value) end
      if t > clock then redis.call('ZADD', AHEAD, t, cmsgpack.pack({t, column, value}))
      else redis.call('ZADD', KEYS[4 + i], 'GT', t, value) end
    end
  end
end

local function record_due()  -- values that were ahead of the clock
  local position = {}
  for i, column in ipairs(distinct) do position[column] = i end
  local due = redis.call('ZRANGEBYSCORE', AHEAD, '-inf', ARGV[1])
  for _, raw in ipairs(due) do
    local t, column, value = unpack(cmsgpack.unpack(raw))
    if position[column] then redis.call('ZADD', KEYS[4 + position[column]], 'GT', t, value) end
  end
  if #due > 0 then redis.call('ZREM', AHEAD, unpack(due)) end
end

local function has_distinct(values)
  for _, column in ipairs(distinct) do if values[column] then return true end end
  return false
end

local function store_event(t, member, columns)  -- whether it is new
  local is_new = redis.call('ZADD', TIMES, 'NX', t, member) == 1
  if is_new then total = total + 1 end
  local values = columns ~= '' and cjson.decode(columns) or {}
  if columns ~= '' then
    local old = not is_new and redis.call('HGET', COLUMNS, member)
    if not old then redis.call('HSET', COLUMNS, member, columns)
    elseif old == columns then return false
    else  -- stored before the view changed: add the missing columns
      local both = cjson.decode(old)
      for name, value in pairs(values) do
        if both[name] then values[name] = nil else both[name] = value end
      end
      redis.call('HSET', COLUMNS, member, cjson.encode(both))
    end
    if not is_new then t = tonumber(redis.call('ZSCORE', TIMES, member)) end
    record_distinct(t, values)
  elseif not is_new then return false end
  if ARGV[5] ~= '0' then add_to_tiles(t, member, values, is_new) end
  return is_new
end

local function drop_below(t, shift)  -- the tiles on the way down to a time
  local fields = {}
  for above = shift, BITS, -BITS do
    local first = math.floor(t / 2^above) * 2^BITS
    for index = first, first + 2^BITS - 1 do
      fields[#fields + 1] = tile_field(above - BITS, index)
    end
  end
  if #fields > 0 then redis.call('HDEL', TILES, unpack(fields)) end
end

local function rebuild_tile(shift, index, inside)
  local tile, first = {}, index * 2^BITS
  if inside <= SPLIT then
    for _, event in ipairs(read_events(index * 2^shift, (index + 1) * 2^shift)) do
      add_values(tile, event.values, shift == 0 and event.member)
    end
  elseif shift > 0 then
    for _, below in ipairs(read_tiles(shift - BITS, first, first + 2^BITS - 1)) do
      if below then merge_tile(tile, below) end
    end
  end  -- what remains of more events at one moment than go at once is gone with them
  local field = tile_field(shift, index)
  if next(tile) then redis.call('HSET', TILES, field, cmsgpack.pack(tile))
  else redis.call('HDEL', TILES, field) end
end

local function rebuild_path(t)  -- the tiles that a time is in, after events have left
  local inside, path = redis.call('ZCARD', TIMES), {}
  if inside <= SPLIT then redis.call('UNLINK', TILES) return end
  for shift = TOP, 0, -BITS do
    local index = math.floor(t / 2^shift)
    inside = count_events(index * 2^shift, (index + 1) * 2^shift)
    table.insert(path, 1, {shift, index, inside})
    if inside <= SPLIT then drop_below(t, shift) break end
  end
  for _, step in ipairs(path) do rebuild_tile(unpack(step)) end
end

local function drop_expired()
  for i = 1, #distinct do
    local old = redis.call('ZRANGEBYSCORE', KEYS[4 + i], '-inf', ARGV[2], 'LIMIT', 0, MAX_EXPIRED)
    if #old > 0 then redis.call('ZREMRANGEBYRANK', KEYS[4 + i], 0, #old - 1) end
  end
  local old = redis.call(
    'ZRANGEBYSCORE', TIMES, '-inf', ARGV[2], 'WITHSCORES', 'LIMIT', 0, MAX_EXPIRED)
  if #old == 0 or total > SPLIT and #old < 2 * FEW then return end
  local members, fields, indexes = {}, {}, {}
  for i = 1, #old, 2 do
    members[#members + 1] = old[i]
    for shift = TOP, 0, -BITS do
      local index = math.floor(tonumber(old[i + 1]) / 2^shift)
      if index ~= indexes[shift] then
        indexes[shift], fields[#fields + 1] = index, tile_field(shift, index)
      end
    end
  end
  redis.call('ZREMRANGEBYRANK', TIMES, 0, #members - 1)
  redis.call('HDEL', COLUMNS, unpack(members))
  if total > SPLIT and redis.call('EXISTS', TILES) == 1 then
    redis.call('HDEL', TILES, unpack(fields))
    rebuild_path(tonumber(old[#old]))
  end
end

local left = redis.call('PTTL', VALUES)  -- -2: no such key, -1: no expiry
local fresh, newest, late, future, index = 0, nil, {}, {}, 0
local best, seen = {}, {}
for i, name in ipairs(last) do
  local now = redis.call('HMGET', VALUES, name, name .. ':by')
  if is_of(now[1], last_ids[i]) then seen[i] = {struct.unpack('>I7', now[1]), now[2] or ''}
  else seen[i] = {nil, ''} end
end
if #distinct > 0 then record_due() end
while at <= #ARGV and work < MAX_WORK do
  index = index + 1
  local t, member, columns = tonumber(ARGV[at]), ARGV[at + 1], ARGV[at + 2]
  work = work + 1
  local gone = some_retracted and redis.call('SISMEMBER', RETRACTED, member) == 1
  local waits = not gone and #distinct > 0 and t > clock and columns ~= ''
    and redis.call('ZCARD', AHEAD) >= MAX_AHEAD and has_distinct(cjson.decode(columns))
  if waits then future[#future + 1] = index
  elseif not gone and #windowed > 0 then
    if not newest or t > newest then newest = t end
    if t <= horizon then late[#late + 1] = index
    elseif store_event(t, member, columns) then fresh = fresh + 1 end
  end
  for i = 1, (gone or waits) and 0 or #last do
    local value, now = ARGV[at + 2 + i], seen[i]
    if value ~= '' and (not now[1] or t > now[1]
        or (t == now[1] and is_before(now[2], member))) then
      seen[i], best[i] = {t, member}, value
    end
  end
  at = at + 3 + #last
end
for field, tile in pairs(changed) do
  if next(tile) then redis.call('HSET', TILES, field, cmsgpack.pack(tile)) end
end
for i, value in pairs(best) do
  redis.call('HSET', VALUES, last[i], value, last[i] .. ':by', seen[i][2])
end
if newest then
  for i, name in ipairs(windowed) do
    local now = redis.call('HGET', VALUES, name)
    if not is_of(now, windowed_ids[i]) or struct.unpack('>I7', now) < newest then
      local times = struct.pack('>I7I7', newest, clock)
      redis.call('HSET', VALUES, name, times .. windowed_ids[i] .. 'null')
    end
  end
  drop_expired()
  for i = 1, newest > horizon and #KEYS - 2 or 0 do
    local remains = redis.call('PTTL', KEYS[i])
    if remains ~= -2 and remains < tonumber(ARGV[3]) then
      redis.call('PEXPIRE', KEYS[i], ARGV[3])
    end
  end
end
if ARGV[4] == '0' then redis.call('PERSIST', VALUES)
elseif left == -2 or (left >= 0 and left < tonumber(ARGV[4])) then
  redis.call('PEXPIRE', VALUES, ARGV[4])
end
return {fresh, late, future, index}
"""
)

READ_SCRIPT = (
    """
-- Read windows of one entity. Returns the value of each feature as JSON.
-- KEYS: as of the tiles
-- ARGV: 1 now in µs, 2 number of columns with distinct counts, their names…,
--       then per feature: function, column (or ''), window in µs
"""
    + _TILES
    + """
local clock, latest = tonumber(ARGV[1]), {}
for i = 1, tonumber(ARGV[2]) do latest[ARGV[2 + i]] = KEYS[4 + i] end
local total = redis.call('ZCARD', TIMES)
local newest = redis.call('ZREVRANGE', TIMES, 0, 0, 'WITHSCORES')[2]
local is_open = newest and tonumber(newest) <= clock  -- no event is after the end
local finish = is_open and tonumber(newest) or clock

local function add_range(into, begin, shift, low, high, inside)
  -- add the events from `begin` to `finish` of a tile, or of the whole set
  if inside <= SPLIT then
    for _, event in ipairs(
        read_events(math.max(begin, low), math.min(finish + 1, high))) do
      add_values(into, event.values)
    end
    return
  end
  local width = 2^shift
  local first = math.floor(math.max(begin, low) / width)
  local last = math.floor(math.min(finish, high - 1) / width)
  local from = first * width < begin and first + 1 or first
  local to = not is_open and (last + 1) * width - 1 > finish and last - 1 or last
  for _, tile in ipairs(read_tiles(shift, from, to)) do
    if tile then merge_tile(into, tile) end
  end
  local function add_edge(index)
    local start, stop = index * width, (index + 1) * width
    add_range(into, begin, shift - BITS, start, stop, count_events(start, stop))
  end
  if from > first then add_edge(first) end
  if to < last and (last > first or from == first) then add_edge(last) end
end

local function find_last(column, begin, shift, low, high, inside)
  if inside <= SPLIT then
    local events = read_events(math.max(begin, low), math.min(finish + 1, high))
    for i = #events, 1, -1 do
      if events[i].values[column] then return events[i].values[column] end
    end
    return nil
  end
  local width = 2^shift
  local first = math.floor(math.max(begin, low) / width)
  local tiles = read_tiles(shift, first, math.floor(math.min(finish, high - 1) / width))
  for i = #tiles, 1, -1 do
    local some = tiles[i] and tiles[i][column]
    if some and shift == 0 then
      return cjson.decode(redis.call('HGET', COLUMNS, some.last))[column]
    elseif some then
      local start, stop = (first + i - 1) * width, (first + i) * width
      local value = find_last(
        column, begin, shift - BITS, start, stop, count_events(start, stop))
      if value then return value end
    end
  end
end

local function count_distinct(column, begin)
  local n = redis.call('ZCOUNT', latest[column], digits(begin), '+inf')
  local seen = {}
  for _, raw in ipairs(redis.call('ZRANGEBYSCORE', AHEAD, digits(begin), ARGV[1])) do
    local _, of, value = unpack(cmsgpack.unpack(raw))
    if of == column and not seen[value] then
      seen[value] = true
      local known = redis.call('ZSCORE', latest[column], value)
      if not known or tonumber(known) < begin then n = n + 1 end
    end
  end
  return tostring(n)
end

local ranges = {}
local function aggregate(column, begin)
  if not ranges[begin] then
    ranges[begin] = {}
    if begin <= finish then add_range(ranges[begin], begin, TOP, 0, FOREVER, total) end
  end
  return ranges[begin][column] or {n = 0, sum = 0, rest = 0}
end

local function answer(how, column, begin)
  if how == 'count' and column == '' then
    return tostring(redis.call('ZCOUNT', TIMES, digits(begin), ARGV[1]))
  elseif how == 'count_distinct' then return count_distinct(column, begin)
  elseif how == 'last' then
    return begin <= finish and find_last(column, begin, TOP, 0, FOREVER, total) or 'null'
  end
  local all = aggregate(column, begin)
  if how == 'count' then return tostring(all.n)
  elseif how == 'sum' or (how == 'mean' and all.n > 0) then
    local value = all.sum + all.rest
    if how == 'mean' then value = value / all.n end
    return value - value == 0 and string.format('%.17g', value) or 'null'
  end
  return how == 'min' and all.least or how == 'max' and all.most or 'null'
end

local out = {}
for at = 3 + tonumber(ARGV[2]), #ARGV, 3 do
  out[#out + 1] = answer(ARGV[at], ARGV[at + 1], clock - tonumber(ARGV[at + 2]) + 1)
end
return out
"""
)
