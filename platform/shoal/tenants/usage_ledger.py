"""The usage of each tenant by day and by month, in the event log's Redis.

A journal's counts are added by what they grew since they were last added, in one
script: the same counts may be added again, by the process that counted or by one that
collects what it left, and are added once. Days are UTC. A day is kept for 100 days, a
month for three years; both go with the tenant.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Literal

from shoal.contract.names import check_tenant
from shoal.eventlog import keys
from shoal.eventlog.keys import EXPIRY_SECONDS
from shoal.stores.redis_client import async_redis, run_script, translate_errors

from .usage_journal import Counts

Period = Literal["day", "month"]
JOURNAL_SECONDS = 40 * 86_400
"""How long a journal that nothing collected may be collected."""
STORAGE = "storage_bytes"
MEASURING = "@usage:measuring"
"""String: some process measures storage; expires."""
ALL = "*"
"""In place of a capability: what is measured of all together."""
_DAY_SECONDS = 86_400

_ADD = """
-- KEYS: the day, the month, what is known of the journal, the storage; of one tenant.
-- ARGV: seconds until each expires, the day, then for each count its field and its value.
local day, month, known, storage = unpack(KEYS)
for i = 5, #ARGV, 2 do
  local field, count = ARGV[i], tonumber(ARGV[i + 1])
  local before = tonumber(redis.call('HGET', known, ARGV[4] .. '/' .. field) or 0)
  if count > before then
    redis.call('HSET', known, ARGV[4] .. '/' .. field, count)
    redis.call('HINCRBY', day, field, count - before)
    redis.call('HINCRBY', month, field, count - before)
  end
end
for i = 1, 3 do redis.call('EXPIRE', KEYS[i], ARGV[i]) end
return {redis.call('HGETALL', day), redis.call('HGETALL', month), redis.call('GET', storage)}
"""
"""Its loops and replies are as long as there are capabilities and meters."""

ByMeter = dict[tuple[str, str], int]
"""By capability and meter."""


@dataclass(slots=True)
class Totals:
    """A tenant's usage so far in one day and its month, and the bytes of its data."""

    today: str
    day: ByMeter
    month: ByMeter
    storage: int

    def used(self, period: Period, capability: str, meter: str) -> int:
        """The count of one capability, or of all (`*`)."""
        by_meter = self.day if period == "day" else self.month
        if capability != ALL:
            return by_meter.get((capability, meter), 0)
        return sum(count for (_, name), count in by_meter.items() if name == meter)


@dataclass(frozen=True, slots=True)
class PeriodUsage:
    """A tenant's usage of one capability in one day or month.

    `period` is such as `2026-11-28` or `2026-11`; `counts` are by meter.
    """

    period: str
    capability: str
    counts: dict[str, int]


def today() -> str:
    """The day in UTC, such as `2026-11-28`."""
    return _date(int(time.time() // _DAY_SECONDS))


@lru_cache(maxsize=2)
def _date(days: int) -> str:
    return (date(1970, 1, 1) + timedelta(days=days)).isoformat()


class UsageLedger:
    """Operations on the ledger. All raise `Unavailable` when Redis cannot be reached.

    Args:
        redis_url: The event log's Redis.
    """

    def __init__(self, redis_url: str) -> None:
        self._url = redis_url

    async def add(self, tenant: str, day: str, journal: str, counts: Counts) -> "Totals":
        """Add what a journal's counts of a day grew; the totals afterwards."""
        fields = [part for key, count in counts.items() for part in ("/".join(key), count)]
        parts = (day, day[:7], f"journal:{journal}", "storage")
        with translate_errors():
            of_day, of_month, storage = await run_script(
                async_redis(self._url),
                _ADD,
                [_key(tenant, part) for part in parts],
                [*EXPIRY_SECONDS.values(), JOURNAL_SECONDS, day, *fields],
            )
        return Totals(day, _pairs(of_day), _pairs(of_month), int(storage or 0))

    async def totals(self, tenants: Sequence[str], day: str) -> "list[Totals]":
        """The totals of some tenants."""
        with translate_errors():
            pipe = async_redis(self._url).pipeline(transaction=False)
            for tenant in tenants:
                pipe.hgetall(_key(tenant, day)).hgetall(_key(tenant, day[:7]))
                pipe.get(_key(tenant, "storage"))
            found = await pipe.execute()
        return [
            Totals(day, _decode(of_day), _decode(of_month), int(storage or 0))
            for of_day, of_month, storage in zip(found[::3], found[1::3], found[2::3], strict=True)
        ]

    async def may_measure(self, seconds: float) -> bool:
        """Whether no other process began to measure storage in the last seconds."""
        with translate_errors():
            client = async_redis(self._url)
            return bool(await client.set(MEASURING, "", nx=True, px=int(seconds * 1000)))

    async def set_storage(self, tenant: str, size: int) -> None:
        """Set how many bytes a tenant's data takes now."""
        day, field = today(), f"{ALL}/{STORAGE}"
        with translate_errors():
            pipe = async_redis(self._url).pipeline(transaction=False)
            pipe.set(_key(tenant, "storage"), size)
            for period, seconds in zip((day, day[:7]), EXPIRY_SECONDS.values(), strict=True):
                pipe.hset(_key(tenant, period), field, size)
                pipe.expire(_key(tenant, period), seconds)
            await pipe.execute()

    async def read(self, tenant: str, periods: Sequence[str]) -> list[PeriodUsage]:
        """A tenant's usage in some days or months, in that order."""
        with translate_errors():
            pipe = async_redis(self._url).pipeline(transaction=False)
            for period in periods:
                pipe.hgetall(_key(tenant, period))
            found = await pipe.execute()
        usage = []
        for period, raw in zip(periods, found, strict=True):
            by_capability: dict[str, dict[str, int]] = {}
            for (capability, meter), count in _decode(raw).items():
                by_capability.setdefault(capability, {})[meter] = count
            usage += [PeriodUsage(period, *pair) for pair in sorted(by_capability.items())]
        return usage


def periods_between(first: date, last: date, by: Period) -> list[str]:
    """The days or months from `first` to `last`, both included."""
    days = (first + timedelta(days=n) for n in range((last - first).days + 1))
    length = len("2026-11-28") if by == "day" else len("2026-11")
    return list(dict.fromkeys(day.isoformat()[:length] for day in days))


def end_of(period: Period, now: datetime) -> datetime:
    """When the day or the month that `now` is in ends."""
    day = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if period == "day":
        return day + timedelta(days=1)
    return (day.replace(day=28) + timedelta(days=4)).replace(day=1)


def _key(tenant: str, part: str) -> str:
    return keys.usage(check_tenant(tenant), part)


def _pairs(flat: Sequence[bytes]) -> ByMeter:
    return _decode(dict(zip(flat[::2], flat[1::2], strict=True)))


def _decode(raw: Mapping[bytes, bytes]) -> ByMeter:
    found: ByMeter = {}
    for field, count in raw.items():
        capability, _, meter = field.decode().rpartition("/")
        found[capability, meter] = int(count)
    return found
