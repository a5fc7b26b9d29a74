"""Watching a replica from within: blocks of its event loop, and its memory."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime

import msgspec
import psutil

from shoal.contract.errors import Unavailable
from shoal.stores.redis_client import REDIS_ERRORS, translate_errors
from shoal.tenants.directory import Directory
from shoal.tenants.keyspace import replicas_key, watch_key
from shoal.tenants.tasks import cancel_and_wait

from .metering import MetricsExporter

log = logging.getLogger(__name__)

TICK_SECONDS = 0.05
BLOCKED_SECONDS = 0.2
"""A loop that is blocked for so long is reported."""
KEPT_SECONDS = 3600
"""How long it is."""
GROWN_BYTES = 512 * 2**20
"""A replica whose memory has grown by so much since its start is reported."""
REPORT_SECONDS = 10
MAX_ROUTES = 5


class Block(msgspec.Struct, frozen=True):
    """When the loop was blocked, for how long, and in which routes' requests."""

    at: float
    seconds: float
    routes: list[str]


class Report(msgspec.Struct, frozen=True):
    """What a replica says of itself: its longest block in the last hour, and bytes."""

    block: Block | None
    memory: int
    grown: int


class ReplicaWatch:
    """Watches this replica's event loop and memory, and reports them to Redis.

    Args:
        directory: Whose Redis the reports are in.
        capability: The capability's name.
        replica: The replica's id, as its heartbeat has it.
        in_progress: Gives the requests in progress: (route, when it began, by
            `time.perf_counter`).
        exporter: Gets the numbers of each report.
    """

    def __init__(
        self,
        directory: Directory,
        capability: str,
        replica: str,
        in_progress: Callable[[], Iterable[tuple[str, float]]],
        exporter: MetricsExporter | None = None,
    ) -> None:
        self._directory, self._key = directory, watch_key(capability, replica)
        self._in_progress, self._exporter = in_progress, exporter
        self._capability = capability
        self._finished: deque[tuple[str, float, float]] = deque(maxlen=1000)
        """The requests that ended since the last tick: route, seconds, when."""
        self._blocks: deque[Block] = deque(maxlen=1000)
        self._process = psutil.Process()
        self._memory_at_start = self._process.memory_info().rss
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [
            asyncio.create_task(run(), name="shoal-watch")
            for run in (self._tick, self._report_periodically)
        ]

    async def stop(self) -> None:
        for task in self._tasks:
            await cancel_and_wait(task)
        with suppress(*REDIS_ERRORS):
            await self._directory.redis.delete(self._key)

    def finish(self, route: str, seconds: float) -> None:
        """Note a request that ended: one that blocks may do so before the next tick."""
        self._finished.append((route, seconds, time.perf_counter()))

    async def _tick(self) -> None:
        while True:
            began = time.perf_counter()
            self._finished.clear()
            await asyncio.sleep(TICK_SECONDS)
            blocked = time.perf_counter() - began - TICK_SECONDS
            if blocked >= BLOCKED_SECONDS:
                self._add_block(blocked, began)

    def _add_block(self, seconds: float, began: float) -> None:
        """Note a block that a tick which began at `began` has met."""
        now = time.perf_counter()
        running = [(route, now - start, now) for route, start in self._in_progress()]
        shares: dict[str, float] = {}
        for route, took, ended in (*running, *self._finished):
            share = min(took, ended - began)
            shares[route] = max(share, shares.get(route, share))
        block = Block(time.time(), round(seconds, 3), likely_causes(shares))
        self._blocks.append(block)
        log.warning("%s: %s", self._capability, describe_block(block))

    def report(self) -> Report:
        """What there is to say now."""
        recent = [block for block in self._blocks if block.at > time.time() - KEPT_SECONDS]
        memory = self._process.memory_info().rss
        longest = max(recent, key=lambda block: block.seconds, default=None)
        return Report(longest, memory, memory - self._memory_at_start)

    async def _report_periodically(self) -> None:
        while True:
            try:
                await self.send_report()
            except Unavailable as error:
                log.warning("the replica's report could not be written: %s", error)
            except Exception:
                log.exception("reporting on the replica failed")
            await asyncio.sleep(REPORT_SECONDS)

    async def send_report(self) -> None:
        """Write a report to Redis, where `replica_warnings` reads it.

        Raises:
            Unavailable: Redis is.
        """
        report = self.report()
        if self._exporter is not None:
            self._exporter.export_replica(
                report.block.seconds if report.block else 0.0, report.memory
            )
        with translate_errors():
            encoded = msgspec.json.encode(report)
            await self._directory.redis.set(self._key, encoded, ex=6 * REPORT_SECONDS)


def likely_causes(shares: Mapping[str, float]) -> list[str]:
    """The routes whose requests were in progress for most of a block.

    They are compared with each other, not with the block: its length is known only to
    the tick, and includes what the machine itself was late.

    Args:
        shares: How many seconds of the tick each route's longest request took.
    """
    longest = max(shares.values(), default=0.0)
    likely = [route for route, share in shares.items() if share >= longest / 2]
    return sorted(likely, key=lambda route: (-shares[route], route))[:MAX_ROUTES]


def describe_block(block: Block) -> str:
    at = datetime.fromtimestamp(block.at, UTC).strftime("%H:%M:%S UTC")
    routes = ", ".join(block.routes) or "no request in progress"
    return f"the event loop was blocked for {block.seconds:.2f} s at {at} ({routes})"


async def replica_warnings(directory: Directory, capability: str) -> list[str]:
    """What a capability's replicas report of blocked loops and grown memory."""
    redis, found = directory.redis, []
    with translate_errors():
        replicas = await redis.zrange(replicas_key(capability), 0, 1000)
        keys = [watch_key(capability, replica.decode()) for replica in replicas]
        reports = await redis.mget(keys) if keys else []
    for raw in filter(None, reports):
        report = msgspec.json.decode(raw, type=Report)
        if report.block is not None:
            found.append(describe_block(report.block))
        if report.grown >= GROWN_BYTES:
            found.append(f"the memory has grown by {report.grown >> 20} MiB since the start")
    return found
