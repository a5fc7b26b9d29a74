"""The online store: one Redis hash per entity, one field per feature; sliding windows
are counted when they are read.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .registry import Feature, View
from .values import CODES, JSON, TIMES, WINDOW, Stored, fitted, unpack
from .windows import APPLY, READ, Occurrence, Plan

DAY = 86_400

WRITE = """
-- KEYS: the entity's values.  ARGV: the entity's life in ms from now (0: for ever), then field, stored value…
local left, fields, out = redis.call('PTTL', KEYS[1]), {}, {}  -- -2: there is no such key, -1: it stays for ever
for at = 2, #ARGV, 2 do fields[#fields + 1] = ARGV[at] end
local now = redis.call('HMGET', KEYS[1], unpack(fields))
for i, field in ipairs(fields) do
  local raw, newer = ARGV[2 * i + 1], true
  if now[i] then
    local event, created = struct.unpack('>I7I7', raw)
    local old, known = struct.unpack('>I7I7', now[i])
    newer = event > old or (event == old and created >= known)
  end
  if newer then out[#out + 1], out[#out + 2] = field, raw end
end
if #out > 0 then redis.call('HSET', KEYS[1], unpack(out)) end
if ARGV[1] == '0' then redis.call('PERSIST', KEYS[1])
elseif left == -2 or (left >= 0 and left < tonumber(ARGV[1])) then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
return #out / 2
"""
"""Newer wins by (event time, created time), field by field; of two equal ones the later
written.
"""


@dataclass(frozen=True, slots=True)
class Row:
    """New values of one entity: feature name → its stored form (see `values.pack`)."""

    entity: str
    values: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Answer:
    """One feature of one entity as served. `reason` is why `json` is null: `missing`,
    `expired`, or empty.
    """

    json: bytes
    event: int | None = None
    created: int | None = None
    reason: str = ""


class Reading:
    """A prepared question for some features of one entity type: what to fetch, and how
    to answer from it.

    It is made once per combination of features and used for every request, so that a
    request costs one round trip and no look-up.
    """

    def __init__(self, entity: str, features: Sequence[tuple[View, Feature]]) -> None:
        self.entity = entity
        self.names = [f.name for _, f in features]
        self._prefixes = [b'"%s":' % n.encode() for n in self.names]
        self._codes = [_code(v, f) for v, f in features]
        self._life = [view.ttl * 1_000_000 if view.ttl else None for view, _ in features]
        self._windows: list[tuple[View, Plan, list[int]]] = []
        for view in dict.fromkeys(v for v, f in features if v.kind == "stream" and f.window):
            at = [i for i, (v, f) in enumerate(features) if v is view and f.window]
            self._windows.append((view, Plan.of(view), at))
        self.features = list(features)

    def ask(self, pipe: Any, entity_id: str, now: int) -> None:
        """Queue the commands for one entity. `now` in µs."""
        pipe.hmget((self.entity, entity_id), self.names)
        for view, plan, at in self._windows:
            events, columns = companions(self.entity, entity_id, view.name)
            features = [self.features[i][1] for i in at]
            if all(not f.column for f in features):
                for feature in features:
                    pipe.zcount(events, f"({now - feature.window * 1_000_000}", now)  # type: ignore[operator]
            else:
                pipe.eval(READ, [events, columns], [now, *plan.questions(features)])

    @property
    def replies(self) -> int:
        """How many replies `ask` leads to."""
        n = 1
        for _, _, at in self._windows:
            n += len(at) if all(not self.features[i][1].column for i in at) else 1
        return n

    def answers(self, replies: Sequence[Any], now: int) -> list[Answer]:
        """The answers for one entity, in the order of the features, from the replies to
        `ask`.
        """
        values = self._counted(replies)
        out = []
        for i, raw in enumerate(replies[0]):
            if raw is None:
                out.append(Answer(b"null", reason="missing"))
                continue
            stored: Stored = unpack(raw)
            life = self._life[i]
            if stored.code != self._codes[i]:  # a feature of this name and another type, gone since
                out.append(Answer(b"null", reason="missing"))
            elif life is not None and stored.event + life < now:
                out.append(Answer(b"null", stored.event, stored.created, "expired"))
            else:
                out.append(Answer(values.get(i, stored.json), stored.event, stored.created))
        return out

    def body(self, replies: Sequence[Any], now: int) -> bytes:
        """`{"name": value, …}` for one entity, put together from the stored bytes."""
        values = self._counted(replies) if self._windows else None
        parts = []
        for i, raw in enumerate(replies[0]):
            json = b"null"
            if raw is not None:
                life = self._life[i]
                fresh = life is None or int.from_bytes(raw[:7], "big") + life >= now
                if fresh and raw[TIMES:JSON] == self._codes[i]:
                    json = values[i] if values and i in values else raw[JSON:]
            parts.append(self._prefixes[i] + json)
        return b"{" + b",".join(parts) + b"}"

    def _counted(self, replies: Sequence[Any]) -> dict[int, bytes]:
        """Index of the feature → its value, for those that are counted from windows."""
        values: dict[int, bytes] = {}
        at = 1
        for _, _, indexes in self._windows:
            if all(not self.features[i][1].column for i in indexes):
                for i in indexes:
                    values[i] = b"%d" % replies[at]
                    at += 1
            else:
                values |= {
                    i: fitted(self.features[i][1].dtype, raw)
                    for i, raw in zip(indexes, replies[at], strict=True)
                }
                at += 1
        return values


def _code(view: View, feature: Feature) -> bytes:
    if view.kind == "stream" and feature.window:
        return WINDOW
    code = CODES[feature.scalar]
    return code.upper() if feature.dtype.endswith("[]") else code


def companions(entity: str, entity_id: str, view: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The keys of an entity's window: its events' times, and their columns. In the
    Cluster slot of the entity's own key.
    """
    head = ("{}", entity, entity_id, "{}", view)
    return head, (*head, "columns")


async def read(door: Any, reading: Reading, ids: Sequence[str], now: int) -> list[list[Answer]]:
    """The answers for each entity, in one round trip."""
    replies = await _fetch(door, reading, ids, now)
    return [reading.answers(r, now) for r in replies]


async def bodies(door: Any, reading: Reading, ids: Sequence[str], now: int) -> list[bytes]:
    """The JSON objects of each entity's features, in one round trip."""
    return [reading.body(r, now) for r in await _fetch(door, reading, ids, now)]


async def _fetch(door: Any, reading: Reading, ids: Sequence[str], now: int) -> list[list[Any]]:
    n = reading.replies
    if n == 1 and len(ids) == 1:
        return [[await door.hmget((reading.entity, ids[0]), reading.names)]]
    pipe = door.pipeline()
    for entity_id in ids:
        reading.ask(pipe, entity_id, now)
    replies = await pipe.execute()
    return [replies[i : i + n] for i in range(0, len(replies), n)]


async def write(door: Any, view: View, rows: Iterable[Row], now: int, size: int = 500) -> int:
    """Write rows of a view, newer wins. How many values took effect. `size` rows go in
    one round trip.
    """
    written, chunk = 0, []
    for row in rows:
        chunk.append(row)
        if len(chunk) == size:
            written += await _write(door, view, chunk, now)
            chunk = []
    return written + (await _write(door, view, chunk, now) if chunk else 0)


async def _write(door: Any, view: View, rows: Sequence[Row], now: int) -> int:
    pipe = door.pipeline()
    for row in rows:
        arguments: list[Any] = [_life(view, row, now)]
        for name, raw in row.values.items():
            arguments += [name, raw]
        pipe.eval(WRITE, [(view.entity, row.entity)], arguments)
    return sum(await pipe.execute())


def _life(view: View, row: Row, now: int) -> int:
    """Milliseconds until an entity with nothing but this row may go: a day after its
    values have expired.
    """
    if not view.ttl:
        return 0
    newest = max((unpack(raw).event for raw in row.values.values()), default=now)
    return max((newest - now) // 1000 + view.ttl * 1000, 0) + DAY * 1000


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of some events: how many were new, how many were known already, and
    which came too late.
    """

    fresh: int
    known: int
    late: tuple[Occurrence, ...]


async def apply(
    door: Any, plan: Plan, events: Iterable[Occurrence], now: int, grace: int
) -> Applied:
    """Take events into the windows of one stream view. `now` in µs, `grace` in seconds.
    Idempotent.
    """
    by_entity: dict[str, list[Occurrence]] = {}
    for event in events:
        by_entity.setdefault(event.entity, []).append(event)
    if not by_entity:
        return Applied(0, 0, ())
    pipe = door.pipeline()
    for entity_id, some in by_entity.items():
        keys = [
            (plan.view.entity, entity_id),
            *companions(plan.view.entity, entity_id, plan.view.name),
        ]
        pipe.eval(APPLY, keys, plan.arguments(some, now, grace))
    fresh, total, late = 0, 0, []
    for (new, positions), some in zip(await pipe.execute(), by_entity.values(), strict=True):
        fresh, total = fresh + new, total + len(some)
        late += [some[i - 1] for i in positions]
    return Applied(fresh, total - fresh - len(late) if plan.windowed else 0, tuple(late))
