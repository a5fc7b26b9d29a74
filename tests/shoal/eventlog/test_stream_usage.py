"""What a stream uses is counted once for each event, whatever is handled again."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter

from shoal import Capability, Event, Stream, TenantContext
from shoal.contract.capability import Job
from shoal.eventlog.partition_reader import PartitionReader
from shoal.eventlog.redis_log import RedisEventLog
from shoal.runtime.configuration import Config
from shoal.runtime.stream_worker import Worker
from shoal.stores.configuration import StoreConfig
from shoal.stores.connections import close_connections
from shoal.tenants.usage_ledger import today
from shoal.testing.local_platform import LocalPlatform
from shoal.testing.servers import RedisServer

pytestmark = pytest.mark.anyio


class PlatformWithoutJobs(LocalPlatform):
    def jobs(self) -> dict[str, Job]:
        return {}


async def counted(platform: LocalPlatform) -> int:
    found = await platform.usage.ledger.read("acme", [today()])
    return sum(used.counts.get("embedding_texts", 0) for used in found)


async def wait_for_count(platform: LocalPlatform, count: int) -> None:
    async with asyncio.timeout(60):
        while await counted(platform) < count:
            await asyncio.sleep(0.05)


async def test_each_event_is_counted_once_however_often_handled(
    redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis_server.client.flushall()
    handled: Counter[str] = Counter()
    crashed: set[bytes] = set()
    finish = PartitionReader._finish

    async def handle(ctx: TenantContext, events: Sequence[Event]) -> None:
        for event in events:
            handled[event.id] += 1
            if event.type == "x.poison":
                raise ValueError("poison")
            ctx.usage.require("embedding_texts", 10**12)  # no quota refuses a stream
            ctx.usage.add("embedding_texts", 2)

    async def crash_first(self: Any, stream: str, position: bytes, batch: Any, used: Any) -> None:
        """Ends the turn after its events were handled, as the worker's end would."""
        if used.used and batch[-1][0] not in crashed:
            crashed.add(batch[-1][0])
            raise ConnectionError("the worker died")
        await finish(self, stream, position, batch, used)

    monkeypatch.setattr(PartitionReader, "_finish", crash_first)
    stream = Stream("x", ("x.*",), handle, batch_size=4)
    capability = Capability("shelf", "", routes=lambda services: APIRouter(), streams=[stream])
    stores = StoreConfig(
        online=redis_server.url, vectors="http://127.0.0.1:1", lake=str(tmp_path / "lake")
    )
    config = Config.load(data=str(tmp_path), stores=stores, router={"internal_secret": "x" * 32})
    platform = PlatformWithoutJobs(config, [capability])
    await platform.directory.create_tenant("acme")
    events = [Event(id=str(n), type="x.poison" if n == 6 else "x.item") for n in range(10)]
    await platform.open_stores("acme", "platform").events.append(events)
    worker, log = Worker(platform), RedisEventLog(stores)
    await worker.start()
    try:
        await wait_for_count(platform, 9 * 2)
        [group] = await log.groups("acme")
        assert (group.lag, await counted(platform)) == (0, 9 * 2)
        assert min(handled[str(n)] for n in range(10) if n != 6) > 1
        [letter] = await log.dead_letters("acme")
        assert letter.event.id == "6"
        await log.replay("acme", "shelf.x", after="0")  # which is work anew
        await wait_for_count(platform, 2 * 9 * 2)
        assert await counted(platform) == 2 * 9 * 2
    finally:
        await worker.stop()
        await close_connections()


async def test_events_of_a_retry_queue_are_counted_once(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    redis_server.client.flushall()
    stores = StoreConfig(
        online=redis_server.url, vectors="http://127.0.0.1:1", lake=str(tmp_path / "lake")
    )
    config = Config.load(data=str(tmp_path), stores=stores, router={"internal_secret": "x" * 32})
    fails = True

    async def handle(ctx: TenantContext, events: Sequence[Event]) -> None:
        if fails:
            raise ValueError("not yet")
        ctx.usage.add("embedding_texts", len(events))

    stream = Stream("x", ("x",), handle)
    capability = Capability("shelf", "", routes=lambda services: APIRouter(), streams=[stream])
    platform = PlatformWithoutJobs(config, [capability])
    await platform.directory.create_tenant("acme")
    await platform.open_stores("acme", "platform").events.append([Event(id="1", type="x")])
    worker, log = Worker(platform), RedisEventLog(stores)
    await worker.start()
    try:
        async with asyncio.timeout(60):
            while not (letters := await log.dead_letters("acme")):
                await asyncio.sleep(0.05)
        assert await counted(platform) == 0
        fails = False
        await log.replay("acme", "shelf.x", ids=[letter.id for letter in letters])
        await wait_for_count(platform, 1)
        assert await counted(platform) == 1
    finally:
        await worker.stop()
        await close_connections()
