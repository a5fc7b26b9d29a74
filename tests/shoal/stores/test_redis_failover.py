"""The master of a Redis dies while it is written to: nothing acknowledged is lost."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from shoal import Event, Unavailable
from shoal.eventlog import keys
from shoal.eventlog.redis_log import RedisEventLog
from shoal.runtime.job_runs import JobRuns
from shoal.stores.configuration import StoreConfig
from shoal.stores.connections import close_connections
from shoal.tenants.tenant_stores import open_stores
from shoal.testing import wait_until

from ...redis_engines import ENGINES, Engine

pytestmark = [pytest.mark.anyio, pytest.mark.engines]
WRITERS = 20


@pytest.fixture(params=["cluster", "sentinel"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """One of its own, since its masters change."""
    folder = tmp_path / "engine"
    folder.mkdir()
    engine = ENGINES[request.param](folder)
    yield engine
    engine.stop()


@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_no_acknowledged_event_is_lost_in_a_failover(
    engine: Engine, tmp_path: Path, tenant: str, how: str
):
    config = StoreConfig(
        online=engine.uri, vectors="http://127.0.0.1:1", lake=str(tmp_path / "lake"), replicas=1
    )
    store, log, runs = (
        open_stores(config, tenant, "notes").events,
        RedisEventLog(config),
        JobRuns(engine.uri),
    )
    acknowledged, handled, failed = set[str](), list[str](), 0
    stop, after = asyncio.Event(), set[str]()
    run = runs.add("a.b", tenant=tenant)

    async def write(writer: int) -> None:
        nonlocal failed
        number = 0
        while not stop.is_set():
            id = f"{writer}-{number}"
            try:  # after an error, again with the same id
                await store.append([Event(id=id, source="test", type="x")])
            except Unavailable:
                failed += 1
                await asyncio.sleep(0.05)
                continue
            number += 1
            acknowledged.add(id)
            if died.is_set():
                after.add(id)

    async def handle(_: str, events: list[Event]) -> None:
        handled.extend(event.id for event in events)

    died = asyncio.Event()
    following = asyncio.create_task(log.consume("g", "w", handle, stop=(ended := asyncio.Event())))
    writing = [asyncio.create_task(write(writer)) for writer in range(WRITERS)]
    async with asyncio.timeout(90):
        while len(acknowledged) < 500:
            await asyncio.sleep(0.05)
        master = await asyncio.to_thread(engine.master, keys.log(tenant))
        master.kill() if how == "killed" else master.pause()
        await asyncio.to_thread(wait_until, lambda: engine.master(keys.log(tenant)) is not master)
        master.start() if how == "killed" else master.resume()  # a replica from now on
        died.set()
        while len(after) < 500:  # they can only be on the new master
            await asyncio.sleep(0.05)
        stop.set()
        await asyncio.gather(*writing)
        found = [event.id async for _, event in store.read()]
        assert acknowledged <= set(found)
        while not acknowledged <= set(handled):
            await asyncio.sleep(0.05)
    assert failed
    ended.set()
    await following

    def claimed() -> bool:
        with suppress(Unavailable):
            return runs.get(run.id).state == "queued" and runs.claim() is not None
        return False

    await asyncio.to_thread(wait_until, claimed)
    await close_connections()
