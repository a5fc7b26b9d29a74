"""Request metrics: counts, errors and latencies per tenant, route and variant."""

import asyncio
import logging
import time
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

from shoal.contract.errors import Unavailable
from shoal.contract.events import Event
from shoal.contract.stores import Stores
from shoal.stores.redis_client import REDIS_ERRORS, run_atomically, translate_errors
from shoal.tenants.directory import Directory
from shoal.tenants.keyspace import CAPABILITIES, PREFIX, active_key, minute_keys
from shoal.tenants.records import PLATFORM
from shoal.tenants.tasks import cancel_and_wait

log = logging.getLogger(__name__)

K = TypeVar("K")
MinuteKey = tuple[int, str, tuple[tuple[str, str], ...]]
"""(minute, tenant, the caller's variants)"""
Command = tuple[Any, ...]

BOUNDS = tuple(0.0001 * 2 ** (i / 2) for i in range(40))
"""Upper bounds of the latency buckets in seconds: 0.1 ms to 74 s, in steps of √2.

One more bucket counts what took longer.
"""

SETTLE_SECONDS = 15
"""A minute is closed this long after its end, when every replica has flushed."""
KEPT_SECONDS = 900
TENANTS_AT_ONCE = 20
"""Tenants whose counts one script adds, so that it holds up Redis for a moment only."""
ACTIVE_MINUTES = 24 * 60
"""How long after its last request a tenant gets metrics of zero."""


@dataclass(slots=True)
class RequestCounts:
    """Counts of one kind of request.

    `errors` are responses with status 500 and above, `seconds` is the sum of the
    latencies, `buckets` (not cumulative) belong to `BOUNDS`.
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

    def merge(self, other: "RequestCounts") -> None:
        self.count += other.count
        self.errors += other.errors
        self.seconds += other.seconds
        self.buckets = [a + b for a, b in zip(self.buckets, other.buckets, strict=True)]


def quantile(buckets: list[int], q: float) -> float:
    """The q-quantile in seconds, interpolated within its bucket; 0 without requests.

    It is at most a factor of √2 off.
    """
    rank = q * sum(buckets)
    below = 0
    for i, count in enumerate(buckets):
        if count and below + count >= rank:
            low = BOUNDS[i - 1] if i else 0.0
            high = BOUNDS[i] if i < len(BOUNDS) else BOUNDS[-1] * 2**0.5
            return low + (high - low) * max(0.0, rank - below) / count
        below += count
    return 0.0


class MetricsExporter(Protocol):
    """Where request counts go besides the tenants' event logs, such as Prometheus."""

    def export(self, requests: Mapping[tuple[str, str, int], RequestCounts]) -> None:
        """Add the requests since the last export, by (tenant, route, status).

        A route is the method and the template, such as `GET /search/items/{id}`.
        """

    def export_replica(self, blocked: float, memory: int) -> None:
        """Set this replica's longest block of the loop in seconds, and its bytes."""


class RequestMetrics:
    """Counts the requests of one replica.

    Every few seconds the counts are added to those of the other replicas in Redis, by
    minute, and handed to the exporter. Once a minute is over, one replica appends its
    totals to each tenant's event log as `metric` events.

    Args:
        directory: Whose Redis the minutes are in.
        open_stores: Gives a tenant's stores.
        capability: The capability's name.
        tenant_exists: Tells whether a tenant still exists. Counts of one that was
            erased are dropped.
        exporter: Gets the counts by route and status.
        flush_seconds: Seconds between two flushes.
        clock: The time in seconds since 1970.
    """

    def __init__(
        self,
        directory: Directory,
        open_stores: Callable[[str], Stores],
        capability: str,
        tenant_exists: Callable[[str], bool],
        *,
        exporter: MetricsExporter | None = None,
        flush_seconds: float = 10,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._directory, self._open_stores = directory, open_stores
        self._capability, self._tenant_exists = capability, tenant_exists
        self._exporter, self._flush_seconds, self._clock = exporter, flush_seconds, clock
        self._routes: dict[tuple[str, str, int], RequestCounts] = {}
        self._minutes: dict[MinuteKey, RequestCounts] = {}
        """What is not in Redis yet."""
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
        """Count one response.

        Args:
            tenant: The caller's tenant.
            route: Method and template, such as `GET /search/items/{id}`.
            status: The HTTP status.
            seconds: The latency.
            user: The caller's user, if any.
            variants: experiment id → variant's name.
        """
        minute = int(self._clock() // 60)
        bucket = bisect_left(BOUNDS, seconds)
        failed = status >= 500
        if self._exporter is not None:
            _counts_of(self._routes, (tenant, route, status)).add(bucket, seconds, failed)
        _counts_of(self._minutes, (minute, tenant, tuple(variants.items()))).add(
            bucket, seconds, failed
        )
        if user is not None:
            users = self._users.get((minute, tenant))
            if users is None:
                users = self._users[minute, tenant] = set()
            users.add(user)

    def start(self) -> None:
        self._task = asyncio.create_task(self._flush_periodically(), name="shoal-metrics")

    async def close(self) -> None:
        await cancel_and_wait(self._task)
        self._task = None
        try:
            async with asyncio.timeout(5):
                await self.flush()
        except (Unavailable, TimeoutError) as error:
            log.error("the last request metrics are lost: %s", error)

    async def _flush_periodically(self) -> None:
        while True:
            await asyncio.sleep(self._flush_seconds)
            try:
                await self.flush()
                await self.close_minutes()
            except Unavailable as error:
                log.warning("request metrics could not be flushed, retrying: %s", error)
            except Exception:
                log.exception("flushing request metrics failed")

    async def flush(self) -> None:
        """Export the counts since the last flush, and add them to the minutes in Redis.

        Raises:
            Unavailable: Redis is; the counts are kept for the next flush.
        """
        self._export()
        minutes, users, self._minutes, self._users = self._minutes, self._users, {}, {}
        tenants = sorted({tenant for _, tenant, _ in minutes})
        for start in range(0, len(tenants), TENANTS_AT_ONCE):
            some = set(tenants[start : start + TENANTS_AT_ONCE])
            commands = [
                ("SADD", CAPABILITIES, self._capability),
                *self._count_commands({k: c for k, c in minutes.items() if k[1] in some}),
                *self._user_commands({k: names for k, names in users.items() if k[1] in some}),
            ]
            try:
                with translate_errors():
                    await run_atomically(self._directory.redis, commands)
            except Unavailable:
                self._keep(set(tenants[start:]), minutes, users)
                raise

    def _keep(
        self,
        tenants: Collection[str],
        minutes: Mapping[MinuteKey, RequestCounts],
        users: Mapping[tuple[int, str], set[str]],
    ) -> None:
        """Keep what could not be flushed for the next flush."""
        oldest = self._clock() // 60 - KEPT_SECONDS // 60
        for key, counts in minutes.items():
            if key[0] >= oldest and key[1] in tenants:
                _counts_of(self._minutes, key).merge(counts)
        for minute_tenant, names in users.items():
            if minute_tenant[0] >= oldest and minute_tenant[1] in tenants:
                self._users.setdefault(minute_tenant, set()).update(names)

    def _export(self) -> None:
        routes, self._routes = self._routes, {}
        if self._exporter is None or not routes:
            return
        try:
            self._exporter.export({k: c for k, c in routes.items() if self._tenant_exists(k[0])})
        except Exception:  # must not keep the counts from the event logs
            log.exception("exporting request metrics failed")

    def _count_commands(self, minutes: Mapping[MinuteKey, RequestCounts]) -> Iterator[Command]:
        totals: dict[tuple[int, str, str], RequestCounts] = {}
        for (minute, tenant, variants), counts in minutes.items():
            if self._tenant_exists(tenant):  # an erased tenant's late counts are dropped
                for labels in ("", *map("/".join, variants)):
                    _counts_of(totals, (minute, tenant, labels)).merge(counts)
        for (minute, tenant, variant), counts in totals.items():
            key, _ = minute_keys(self._capability, minute, tenant)
            fields = (("n", counts.count), ("e", counts.errors), *enumerate(counts.buckets))
            for name, value in fields:
                if value:
                    yield "HINCRBY", key, f"{name}/{variant}", value
            if not variant:
                yield "EXPIRE", key, KEPT_SECONDS
                yield "ZADD", active_key(self._capability), "GT", minute, tenant

    def _user_commands(self, users: Mapping[tuple[int, str], set[str]]) -> Iterator[Command]:
        for (minute, tenant), names in users.items():
            if self._tenant_exists(tenant):
                _, key = minute_keys(self._capability, minute, tenant)
                for name in names:
                    yield "PFADD", key, name
                yield "EXPIRE", key, KEPT_SECONDS

    async def close_minutes(self) -> None:
        """Append a past minute's metrics to the event logs, once for all replicas."""
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
                # This or another replica tries again; the events keep their ids.
                await redis.delete(claim)
            raise

    async def _close_tenant(self, minute: int, tenant: str) -> None:
        counts_key, users_key = minute_keys(self._capability, minute, tenant)
        with translate_errors():
            pipe = self._directory.redis.pipeline(transaction=False)
            pipe.hgetall(counts_key)
            pipe.execute_command("PFCOUNT", users_key)  # a cluster's pipeline has no `pfcount`
            counts, users = await pipe.execute()
        events = metric_events(self._capability, minute, counts, users)
        await self._open_stores(tenant).events.append(events)


def metric_events(
    capability: str, minute: int, counts: Mapping[bytes, bytes], users: int
) -> list[Event]:
    """One tenant's minute as `metric` events, timed at its start.

    Without requests there is only `shoal.requests`, 0.
    """
    by_variant = _decode_counts(counts)
    events = []
    for variant, total in by_variant.items():
        labels, prefix = {"capability": capability}, "shoal."
        if variant:
            labels["experiment"], _, labels["variant"] = variant.partition("/")
            prefix = "shoal.variant."
        values: dict[str, float] = {"requests": total.count}
        if total.count:
            values["error_rate"] = total.errors / total.count
            values["latency_p50"] = round(quantile(total.buckets, 0.5) * 1000, 3)
            values["latency_p95"] = round(quantile(total.buckets, 0.95) * 1000, 3)
            if not variant:
                values["active_users"] = users
        for metric, number in values.items():
            data: dict[str, Any] = {"metric": prefix + metric, "value": number, "labels": labels}
            if variant:
                data["count"] = total.count
            event = Event(
                id=f"requests/{capability}/{minute}/{variant}/{metric}",
                source="shoal/router",
                type="metric",
                time=datetime.fromtimestamp(minute * 60, UTC),
                data=data,
            )
            events.append(event)
    return events


def _decode_counts(fields: Mapping[bytes, bytes]) -> dict[str, RequestCounts]:
    """The counts by `experiment/variant`; those of all requests by the empty text."""
    by_variant: dict[str, RequestCounts] = {"": RequestCounts()}
    for field_name, value in fields.items():
        name, _, variant = field_name.decode().partition("/")
        counts = _counts_of(by_variant, variant)
        if name == "n":
            counts.count = int(value)
        elif name == "e":
            counts.errors = int(value)
        else:
            counts.buckets[int(name)] = int(value)
    return by_variant


def _counts_of(by_key: dict[K, RequestCounts], key: K) -> RequestCounts:
    counts = by_key.get(key)
    if counts is None:
        counts = by_key[key] = RequestCounts()
    return counts
