"""The account: how many requests, how they ended and how long they took, per tenant,
capability, route and variant.
"""

import asyncio
import logging
import time
from bisect import bisect_left
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from shoal.contract.errors import Unavailable
from shoal.contract.events import Event
from shoal.contract.stores import Stores
from shoal.stores.redis_client import REDIS_ERRORS, run_atomically, translate_errors
from shoal.tenants.directory import Directory
from shoal.tenants.keyspace import CAPABILITIES, PREFIX, active_key, minute_keys
from shoal.tenants.records import PLATFORM
from shoal.tenants.tasks import cancel_and_wait

log = logging.getLogger(__name__)

BOUNDS = tuple(0.0001 * 2 ** (i / 2) for i in range(40))
"""Upper bounds of the latency histogram's buckets, in seconds: .1 ms to 74 s, each √2
times the one before; one more is open.
"""

SETTLE_SECONDS = 15
"""A minute is closed so long after its end, when every replica has told its part."""
KEPT_SECONDS = 900
ACTIVE_MINUTES = 24 * 60
"""A tenant without requests gets zeros for so long after its last."""


@dataclass(slots=True)
class Cell:
    """Counts of one kind of request. `errors` are answers of 500 and above; `seconds`
    is their latencies' sum.
    """

    count: int = 0
    errors: int = 0
    seconds: float = 0.0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))

    def add(self, bucket: int, seconds: float, failed: bool) -> None:
        self.count += 1
        self.seconds += seconds
        self.buckets[bucket] += 1
        if failed:
            self.errors += 1

    def merge(self, other: "Cell") -> None:
        self.count += other.count
        self.errors += other.errors
        self.seconds += other.seconds
        self.buckets = [a + b for a, b in zip(self.buckets, other.buckets, strict=True)]


def quantile(buckets: list[int], q: float) -> float:
    """The q-quantile in seconds, from the histogram: linear within its bucket, so at
    most √2 off. 0 when it is empty.
    """
    rank = q * sum(buckets)
    below = 0
    for i, count in enumerate(buckets):
        if count and below + count >= rank:
            low, high = (
                (BOUNDS[i - 1] if i else 0.0),
                (BOUNDS[i] if i < len(BOUNDS) else BOUNDS[-1] * 2**0.5),
            )
            return low + (high - low) * max(0.0, rank - below) / count
        below += count
    return 0.0


class RequestMetrics:
    """Kept by each replica since its start (`snapshot`), summed over the replicas by
    the minute in Redis, and from there appended to each tenant's event log as `metric`
    events, once a minute.
    """

    def __init__(
        self,
        directory: Directory,
        open_stores: Callable[[str], Stores],
        capability: str,
        tenant_exists: Callable[[str], bool],
        *,
        flush_seconds: float = 10,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._directory, self._open_stores, self._capability, self._tenant_exists = (
            directory,
            open_stores,
            capability,
            tenant_exists,
        )
        self._flush_seconds, self._clock = flush_seconds, clock
        self._routes: dict[tuple[str, str, int], Cell] = {}
        self._variants: dict[tuple[str, str, str], Cell] = {}
        self._minutes: dict[tuple[int, str, tuple[tuple[str, str], ...]], Cell] = {}
        """(minute, tenant, the caller's variants) → what Redis was not told yet."""
        self._users: dict[tuple[int, str], set[str]] = {}
        self._closed = int(self._clock() // 60) - 1
        self._task: asyncio.Task[None] | None = None

    def record(
        self,
        tenant: str,
        route: str,
        status: int,
        seconds: float,
        user: str | None,
        variants: Mapping[str, str],
    ) -> None:
        """Count one answer. `route` is method and template, such as `GET
        /search/items/{id}`.
        """
        minute = int(self._clock() // 60)
        bucket = bisect_left(BOUNDS, seconds)
        failed = status >= 500
        _cell(self._routes, (tenant, route, status)).add(bucket, seconds, failed)
        _cell(self._minutes, (minute, tenant, tuple(variants.items()))).add(bucket, seconds, failed)
        if user is not None:
            users = self._users.get((minute, tenant))
            if users is None:
                users = self._users[minute, tenant] = set()
            users.add(user)

    def snapshot(self) -> dict[str, list[dict[str, Any]]]:
        """Counts since the start of this process, for an exporter: `routes` (labels
        tenant, capability, route, status) and `variants` (labels tenant, capability,
        experiment, variant), each with count, errors, seconds (their sum) and buckets
        (not cumulative; their upper bounds are `BOUNDS`). Variants are counted as of
        the last flush.
        """

        def sample(labels: dict[str, Any], cell: Cell) -> dict[str, Any]:
            labels["capability"] = self._capability
            return {
                "labels": labels,
                "count": cell.count,
                "errors": cell.errors,
                "seconds": cell.seconds,
                "buckets": list(cell.buckets),
            }

        return {
            "routes": [
                sample({"tenant": t, "route": r, "status": s}, cell)
                for (t, r, s), cell in self._routes.items()
            ],
            "variants": [
                sample({"tenant": t, "experiment": e, "variant": v}, cell)
                for (t, e, v), cell in self._variants.items()
            ],
        }

    def start(self) -> None:
        self._task = asyncio.create_task(self._keep(), name="shoal-account")

    async def close(self) -> None:
        await cancel_and_wait(self._task)
        self._task = None
        try:
            async with asyncio.timeout(5):
                await self.flush()
        except (Unavailable, TimeoutError) as error:
            log.error("the account's last seconds were not kept: %s", error)

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(self._flush_seconds)
            try:
                await self.flush()
                await self.close_minutes()
            except Unavailable as error:
                log.warning("the account could not be kept, trying again: %s", error)
            except Exception:
                log.exception("keeping the account failed")

    async def flush(self) -> None:
        """Add what was counted since the last flush to the minutes in Redis. What Redis
        does not take is kept for the next.
        """
        minutes, users, self._minutes, self._users = self._minutes, self._users, {}, {}
        self._routes = {
            key: cell for key, cell in self._routes.items() if self._tenant_exists(key[0])
        }
        self._variants = {
            key: cell for key, cell in self._variants.items() if self._tenant_exists(key[0])
        }
        if not minutes:
            return
        totals: dict[tuple[int, str, str], Cell] = {}
        for (minute, tenant, variants), cell in minutes.items():
            if not self._tenant_exists(
                tenant
            ):  # an erased tenant must not come back by late counts
                continue
            for labels in ("", *map("/".join, variants)):
                _cell(totals, (minute, tenant, labels)).merge(cell)
        commands: list[tuple[Any, ...]] = [("SADD", CAPABILITIES, self._capability)]
        for (minute, tenant, variant), cell in totals.items():
            counts, _ = minute_keys(self._capability, minute, tenant)
            for name, value in (("n", cell.count), ("e", cell.errors), *enumerate(cell.buckets)):
                if value:
                    commands.append(("HINCRBY", counts, f"{name}/{variant}", value))
            if not variant:
                commands.append(("EXPIRE", counts, KEPT_SECONDS))
                commands.append(("ZADD", active_key(self._capability), "GT", minute, tenant))
        for (minute, tenant), names in users.items():
            if not self._tenant_exists(tenant):
                continue
            _, seen = minute_keys(self._capability, minute, tenant)
            commands += [("PFADD", seen, name) for name in names]
            commands.append(("EXPIRE", seen, KEPT_SECONDS))
        try:
            with translate_errors():
                await run_atomically(self._directory.redis, commands)
        except Unavailable:
            oldest = self._clock() // 60 - KEPT_SECONDS // 60
            for key, cell in minutes.items():
                if key[0] >= oldest:
                    _cell(self._minutes, key).merge(cell)
            for minute_tenant, names in users.items():
                if minute_tenant[0] >= oldest:
                    self._users.setdefault(minute_tenant, set()).update(names)
            raise
        for (_, tenant, variant), cell in totals.items():
            if variant:
                experiment, _, arm = variant.partition("/")
                _cell(self._variants, (tenant, experiment, arm)).merge(cell)

    async def close_minutes(self) -> None:
        """Append the metrics of every minute that is over, of all tenants, unless
        another replica does.
        """
        last = int((self._clock() - SETTLE_SECONDS) // 60) - 1
        for minute in range(max(self._closed + 1, last - 5), last + 1):
            await self._close_minute(minute)
            self._closed = minute

    async def _close_minute(self, minute: int) -> None:
        redis, claim = self._directory.redis, f"{PREFIX}closed:{self._capability}:{minute}"
        with translate_errors():
            if not await redis.set(claim, "", nx=True, ex=KEPT_SECONDS):
                return
        try:
            with translate_errors():
                active = await redis.zrange(
                    active_key(self._capability), minute - ACTIVE_MINUTES, "+inf", byscore=True
                )
                await redis.zremrangebyscore(
                    active_key(self._capability), "-inf", minute - ACTIVE_MINUTES
                )
            for name in active:
                tenant = name.decode()
                if tenant != PLATFORM and self._tenant_exists(tenant):
                    await self._close_tenant(minute, tenant)
        except BaseException:
            with suppress(*REDIS_ERRORS):
                await redis.delete(
                    claim
                )  # another replica, or this one, tries again; the events' ids are the same
            raise

    async def _close_tenant(self, minute: int, tenant: str) -> None:
        counts_key, users_key = minute_keys(self._capability, minute, tenant)
        with translate_errors():
            pipe = self._directory.redis.pipeline(transaction=False)
            pipe.hgetall(counts_key)
            pipe.pfcount(users_key)
            counts, users = await pipe.execute()
        events = metric_events(self._capability, minute, counts, users)
        await self._open_stores(tenant).events.append(events)


def metric_events(
    capability: str, minute: int, counts: Mapping[bytes, bytes], users: int
) -> list[Event]:
    """One tenant's minute as `metric` events, timed at its beginning. Without requests
    there is only their number, 0.
    """
    cells: dict[str, Cell] = {"": Cell()}
    for raw_name, value in counts.items():
        name, _, variant = raw_name.decode().partition("/")
        cell = cells.setdefault(variant, Cell())
        if name == "n":
            cell.count = int(value)
        elif name == "e":
            cell.errors = int(value)
        else:
            cell.buckets[int(name)] = int(value)
    events = []
    for variant, cell in cells.items():
        labels, prefix = {"capability": capability}, "shoal."
        if variant:
            labels["experiment"], _, labels["variant"] = variant.partition("/")
            prefix = "shoal.variant."
        values: dict[str, float] = {"requests": cell.count}
        if cell.count:
            values["error_rate"] = cell.errors / cell.count
            values["latency_p50"] = round(quantile(cell.buckets, 0.5) * 1000, 3)
            values["latency_p95"] = round(quantile(cell.buckets, 0.95) * 1000, 3)
            if not variant:
                values["active_users"] = users
        for metric, number in values.items():
            data: dict[str, Any] = {"metric": prefix + metric, "value": number, "labels": labels}
            if variant:
                data["count"] = cell.count
            events.append(
                Event(
                    id=f"account/{capability}/{minute}/{variant}/{metric}",
                    source="shoal/router",
                    type="metric",
                    time=datetime.fromtimestamp(minute * 60, UTC),
                    data=data,
                )
            )
    return events


def _cell(cells: dict[Any, Cell], key: Any) -> Cell:
    cell = cells.get(key)
    if cell is None:
        cell = cells[key] = Cell()
    return cell
