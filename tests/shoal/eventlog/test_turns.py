"""Tenants share a worker's time: neither poison nor a slow handler holds up others."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter

from shoal import Capability, Event, Stream, TenantContext
from shoal.contract.capability import Job
from shoal.eventlog.consumer import BATCHES_PER_TURN, OVERDUE_TURNS, Consumer
from shoal.eventlog.subscription import Subscription
from shoal.runtime.configuration import Config
from shoal.runtime.stream_worker import Worker
from shoal.stores.configuration import StoreConfig
from shoal.stores.connections import close_connections
from shoal.tenants.tenant_stores import open_stores
from shoal.testing.local_platform import LocalPlatform
from shoal.testing.servers import RedisServer

pytestmark = pytest.mark.anyio

POISON_EVENTS = 100
TURNS = 2
"""Each other tenant has events for so many turns, of one event a batch."""
OTHERS = [f"other-{i}" for i in range(20)]


class Handler:
    """Fails for tenants called poison, and waits for the others' end for the slow."""

    def __init__(self) -> None:
        self.poison_deliveries = {"poison-0": 0}
        self.slow: set[str] = set()
        self.handled: dict[str, list[str]] = {tenant: [] for tenant in OTHERS}
        self.others_are_done = asyncio.Event()

    async def __call__(self, tenant: str, events: Sequence[Event]) -> None:
        if tenant.startswith("poison"):
            count = self.poison_deliveries.get(tenant, 0)
            self.poison_deliveries[tenant] = count + 1
            raise ValueError("poison")
        if tenant.startswith("slow"):
            self.slow.add(tenant)
            await self.others_are_done.wait()
            return
        self.handled[tenant] += [event.id for event in events]
        if all(len(ids) >= TURNS * BATCHES_PER_TURN for ids in self.handled.values()):
            self.others_are_done.set()


@pytest.fixture
async def config(redis_server: RedisServer, tmp_path: Path) -> AsyncIterator[StoreConfig]:
    redis_server.client.flushall()
    yield StoreConfig(
        online=redis_server.url, vectors="http://127.0.0.1:1", lake=str(tmp_path / "lake")
    )
    await close_connections()


async def append(config: StoreConfig, counts: Mapping[str, int]) -> None:
    for tenant, count in counts.items():
        events = [Event(id=str(i), type="x") for i in range(count)]
        await open_stores(config, tenant, "notes").events.append(events)


def check(handler: Handler, slow: Sequence[str]) -> None:
    expected = [str(i) for i in range(TURNS * BATCHES_PER_TURN)]
    assert handler.handled == dict.fromkeys(OTHERS, expected)
    assert handler.slow == set(slow)


async def test_poison_and_slowness_cost_others_no_turn(
    config: StoreConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a single place, even: between two turns of a tenant, each other has one."""
    turns: Counter[str] = Counter()
    take_turn = Consumer._take_turn

    async def count_turn(self: Consumer, tenant: str) -> None:
        if not handler.others_are_done.is_set():
            turns[tenant] += 1
        await take_turn(self, tenant)

    monkeypatch.setattr(Consumer, "_take_turn", count_turn)
    handler, others = Handler(), dict.fromkeys(OTHERS, TURNS * BATCHES_PER_TURN)
    counts = {"poison-0": POISON_EVENTS, "slow-0": 1, **others}
    await append(config, counts)
    subscription = Subscription("greeting.x", handler, batch_size=1)
    consumer = Consumer(config, subscription, "w1", concurrency=1)
    task = asyncio.create_task(consumer.run())
    try:
        await asyncio.wait_for(handler.others_are_done.wait(), 60)
    finally:
        task.cancel()
        await asyncio.wait([task])
    check(handler, ["slow-0"])
    assert turns["poison-0"] <= max(turns[tenant] for tenant in OTHERS) + 1
    assert turns["slow-0"] == 1


async def test_a_worker_serves_others_beside_many_bad_tenants(config: StoreConfig) -> None:
    handler = Handler()

    async def handle(ctx: TenantContext, events: Sequence[Event]) -> None:
        await handler(ctx.tenant, events)

    stream = Stream("x", ("x",), handle, batch_size=1)
    greeting = Capability("greeting", "", routes=lambda services: APIRouter(), streams=[stream])
    platform = PlatformWithoutJobs(
        Config.load(stores=config, router={"internal_secret": "x" * 32}), [greeting]
    )
    slow = [f"slow-{i}" for i in range(12)]
    assert len(slow) <= OVERDUE_TURNS
    others = dict.fromkeys(OTHERS, TURNS * BATCHES_PER_TURN)
    poisoned = {f"poison-{i}": POISON_EVENTS for i in range(12)}
    counts = {**poisoned, **dict.fromkeys(slow, 1), **others}
    for tenant in counts:
        await platform.directory.create_tenant(tenant)
    await append(config, counts)
    worker = Worker(platform)
    try:
        await worker.start()
        await asyncio.wait_for(handler.others_are_done.wait(), 120)
    finally:
        handler.others_are_done.set()
        await worker.stop()
    check(handler, slow)


class PlatformWithoutJobs(LocalPlatform):
    def jobs(self) -> dict[str, Job]:
        return {}


async def test_a_handler_that_never_returns_has_failed(
    config: StoreConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shoal.eventlog.partition_reader.HANDLER_SECONDS", 0.05)
    seen: list[Any] = []

    async def hang(tenant: str, events: Sequence[Event]) -> None:
        seen.append(events[0].id)
        if events[0].id == "0":
            await asyncio.Event().wait()

    await append(config, {"acme": 2})
    subscription = Subscription("greeting.x", hang, batch_size=1, deliveries=2)
    consumer = Consumer(config, subscription, "w1", backoff=0.01)
    task = asyncio.create_task(consumer.run())
    try:
        async with asyncio.timeout(60):
            while "1" not in seen:
                await asyncio.sleep(0.01)
    finally:
        task.cancel()
        await asyncio.wait([task])
    assert seen == ["0", "0", "0", "1"]  # its batch, its deliveries, then the next event
