"""What a tenant has set and how its alerts stand, read and written as a whole: a batch
is either all there or was never begun.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson

from shoal import TenantContext

from . import keys, recent_points
from .alerts import AlertBook
from .archive import Row
from .channels import message
from .maintenance import MaintenanceWindow
from .rules import DEFAULT_RULES, Rule

TRIES = 20  # to write, while others do

COMMIT = """
local version = redis.call('hget', KEYS[1], 'version') or '0'
if version ~= ARGV[1] then return 0 end
local at = 3
if ARGV[2] ~= '' then redis.call('hset', KEYS[1], 'version', version + 1, 'book', ARGV[2]) end
local function take() at = at + 1 return ARGV[at - 1] end
for i = 1, take() do
  local notice, body = take(), take()
  if not redis.call('zscore', KEYS[3], notice) then redis.call('hsetnx', KEYS[2], notice, body) end
end
for i = 1, take() do local time = take() redis.call('zadd', KEYS[4], time, take()) end
for i = 1, take() do redis.call('rpush', KEYS[5], take()) end
for i = 1, take() do local id = take() redis.call('hset', KEYS[6], id, take()) end
for i = 1, take() do local id = take() redis.call('hset', KEYS[7], id, take()) end
for i = 1, take() do local time = take() redis.call('zadd', KEYS[8], time, take()) end
for i = 9, #KEYS do
  local how, bytes = take(), take()
  if how == 'a' then redis.call('append', KEYS[i], bytes) else redis.call('set', KEYS[i], bytes) end
end
return 1
"""
FIXED = (
    keys.BOOK, keys.OUTBOX, keys.SENT, keys.FOUND, keys.FRESH, keys.SERIES, keys.STATES, keys.HISTORY,
)  # fmt: skip


@dataclass(slots=True)
class Settings:
    """What a tenant has set, and where its alerts stand."""

    rules: dict[str, Rule]
    windows: dict[str, MaintenanceWindow]
    version: str
    book: AlertBook
    fitted: bytes | None = None


@dataclass(slots=True)
class Writes:
    """What one batch changes, besides the alerts."""

    found: list[tuple[float, bytes]] = field(default_factory=list)
    fresh: list[bytes] = field(default_factory=list)
    series: dict[str, bytes] = field(default_factory=dict)
    states: dict[str, bytes] = field(default_factory=dict)
    tails: dict[str, tuple[str, bytes]] = field(default_factory=dict)


async def read_settings(ctx: TenantContext) -> Settings:
    pipe = ctx.stores.online.pipeline()
    pipe.hgetall(keys.RULES).hgetall(keys.WINDOWS).hgetall(keys.BOOK).get(keys.FITTED)
    rules, windows, book, fitted = await pipe.execute()
    return Settings(
        rules_of(rules),
        {k.decode(): MaintenanceWindow.model_validate_json(v) for k, v in windows.items()},
        book.get(b"version", b"0").decode(),
        AlertBook.from_dict(orjson.loads(book[b"book"])) if b"book" in book else AlertBook(),
        fitted,
    )


def rules_of(stored: Mapping[bytes, bytes]) -> dict[str, Rule]:
    """The tenant's rules: the defaults, changed, joined or (`null`) removed by what is
    stored.
    """
    rules = dict(DEFAULT_RULES)
    for name, text in stored.items():
        if text == b"null":
            rules.pop(name.decode(), None)
        else:
            rules[name.decode()] = Rule.model_validate_json(text)
    return rules


async def commit(
    ctx: TenantContext, settings: Settings, notices: Sequence[Any], before: bytes, writes: Writes | None = None,
    now: datetime | None = None,
) -> bool:  # fmt: skip
    """Write a batch, the alerts and what must be sent in one step; False when somebody
    changed the alerts meanwhile.
    """
    writes, now = writes or Writes(), now or datetime.now(UTC)
    retired = settings.book.retire(now)
    book = orjson.dumps(settings.book.to_dict())
    outbox = []
    for notice in notices:
        alert = settings.book.alerts.get(notice.alert)
        if alert is not None:
            text = message(ctx.tenant, alert, notice.reason, notice.key)
            outbox += [
                notice.key,
                orjson.dumps(
                    {"channel": notice.channel, "attempts": 0, "due": 0, "message": asdict(text)}
                ),
            ]
    args: list[Any] = [settings.version, b"" if book == before else book, len(outbox) // 2, *outbox]
    args += [len(writes.found), *(x for pair in writes.found for x in pair)]
    args += [len(writes.fresh), *writes.fresh]
    for mapping in (writes.series, writes.states):
        args += [len(mapping), *(x for pair in mapping.items() for x in pair)]
    args += [
        len(retired),
        *(x for alert in retired for x in (alert.opened, orjson.dumps(asdict(alert)))),
    ]
    args += [x for pair in writes.tails.values() for x in pair]
    return bool(await ctx.stores.online.eval(COMMIT, [*FIXED, *map(keys.tail, writes.tails)], args))


def rows_of(fresh: Sequence[bytes], about: Mapping[bytes, bytes]) -> list[Row]:
    """What waits for the long-term store, as rows; points of series that are no longer
    known are left out.
    """
    known = {name.decode(): json.loads(text) for name, text in about.items()}
    rows = []
    for item in fresh:
        series, record = item[:8].hex(), np.frombuffer(item[8:], recent_points.RECORD)[0]
        if series in known:
            entry = known[series]
            rows.append(
                Row(
                    series,
                    entry["metric"],
                    entry["labels"],
                    float(record["time"]),
                    float(record["value"]),
                    float(record["score"]),
                )
            )
    return rows
