"""Everything that stands on Redis, on a Redis Cluster of one node."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from shoal import Event, Unavailable
from shoal.contract.experiments import ExperimentRecord, Variant
from shoal.eventlog import redis_log
from shoal.eventlog.redis_log import RedisEventLog
from shoal.runtime import job_runs
from shoal.runtime.job_runs import JobRuns
from shoal.stores import online as online_store
from shoal.stores.configuration import StoreConfig
from shoal.stores.connections import close_connections
from shoal.stores.redis_client import async_redis, run_atomically, translate_errors
from shoal.tenants import usage_ledger
from shoal.tenants.directory import Directory
from shoal.tenants.keyspace import active_key, exposed_key
from shoal.tenants.tenant_stores import TenantStores, open_stores

from ..conftest import World

pytestmark = pytest.mark.anyio


@pytest.fixture
def cluster(redis_cluster: str, tmp_path: Path) -> StoreConfig:
    lake = str(tmp_path / "lake")
    return StoreConfig(online=redis_cluster, vectors="http://127.0.0.1:1", lake=lake)


@pytest.fixture
async def stores(cluster: StoreConfig, tenant: str) -> AsyncIterator[TenantStores]:
    yield open_stores(cluster, tenant, "notes")
    await close_connections()


async def test_the_online_store_works_on_a_cluster(stores: TenantStores, cluster: StoreConfig):
    online = stores.online
    await online.hset(("user", "1"), mapping={"a": 1, "b": 2})
    assert await online.hmget(("user", "1"), ["a", "b"]) == [b"1", b"2"]
    pipe = online.pipeline()
    for n in range(20):
        pipe.set(("n", str(n)), n)
        pipe.eval("return redis.call('get', KEYS[1])", [("n", str(n))])
    assert (await pipe.execute())[1::2] == [str(n).encode() for n in range(20)]
    pipe = online.pipeline().exists(("n", "1")).delete(("n", "1")).exists(("n", "1"))
    assert await pipe.execute() == [1, 1, 0]
    assert len([key async for key in online.scan("n")]) == 19
    keys = [("{}", "user", "1", "{}", "x"), ("{}", "user", "1", "{}", "y")]
    script = "redis.call('set', KEYS[1], 7) return redis.call('exists', KEYS[2])"
    assert await online.eval(script, keys) == 0
    assert await online_store.erase(cluster, stores._tenant) == 21


async def test_the_event_log_works_on_a_cluster(
    stores: TenantStores, cluster: StoreConfig, tenant: str
):
    log, got, stop = RedisEventLog(cluster), list[str](), asyncio.Event()
    fails = True

    async def handle(_: str, events: list[Event]) -> None:
        if fails and any(event.id == "3" for event in events):
            raise ValueError("no")
        got.extend(event.id for event in events)

    task = asyncio.create_task(log.consume("search", "w1", handle, stop=stop, deliveries=1))
    positions = await stores.events.append([Event(id=str(i), type="x") for i in range(5)])
    positions += await stores.events.append([Event(id=str(i), type="x") for i in range(5, 8)])
    assert len(set(positions)) == 8
    async with asyncio.timeout(20):
        while len(got) < 7 and not task.done():
            await asyncio.sleep(0.01)
        [letter] = await log.dead_letters(tenant)
        fails = False
        assert await log.replay(tenant, "search", ids=[letter.id]) == 1
        while "3" not in got and not task.done():
            await asyncio.sleep(0.01)
    stop.set()
    await task
    assert await log.archive(tenant) == 8
    assert await log.replay(tenant, "search", after="0") == 8
    assert await log.dead_letters(tenant) == []
    assert await redis_log.erase(cluster, tenant) == 8


def test_job_runs_work_on_a_cluster(cluster: StoreConfig, monkeypatch: pytest.MonkeyPatch):
    runs = JobRuns(cluster.online)
    run = runs.add("search.load", tenant="acme", arguments={"path": "x"})
    claimed = runs.claim()
    assert claimed is not None
    assert (claimed.id, claimed.state, claimed.arguments) == (run.id, "running", {"path": "x"})
    runs.finish(run.id, "succeeded", result={"rows": 3})
    assert runs.get(run.id).result == {"rows": 3}
    queued = runs.add("search.load", tenant="acme")
    assert runs.cancel(queued.id).state == "cancelled"
    lost = runs.add("search.load", tenant="globex")
    assert runs.claim() is not None
    assert not runs.heartbeat(lost.id)
    assert [r.id for r in runs.unfinished()] == [lost.id]
    monkeypatch.setattr(job_runs, "LOST_SECONDS", -1.0)
    assert [r.id for r in runs.requeue_lost()] == [lost.id]
    assert runs.get(lost.id).state == "queued"
    assert [r.id for r in runs.recent()] == [lost.id, queued.id, run.id]
    assert [r.id for r in runs.recent(tenant="globex")] == [lost.id]
    assert runs.count_unfinished("globex") == 1
    assert not runs.schedule("a.b", datetime(2026, 11, 22, 3, tzinfo=UTC))
    assert runs.schedule("a.b", datetime(2026, 11, 23, 3, tzinfo=UTC))
    assert runs.forget_tenant("acme") == 2


async def test_the_router_counts_and_logs_exposures_on_a_cluster(
    redis_cluster: str, tmp_path: Path
):
    directory = Directory(redis_cluster)
    await directory.redis.flushall()
    arms = (
        Variant(name="control", allocation=50),
        Variant(name="treatment", allocation=50, parameters={"warmth": 0.9}),
    )
    record = ExperimentRecord(
        id="warmer", tenant="acme", capability="greeting", status="running", variants=arms
    )
    async with World(directory, tmp_path) as world:
        await directory.put_experiment(record)
        await world.router.snapshot.catch_up()
        for user in ("ana", "bob"):  # each flush is a script of its own
            response = await world.get("/warmth", headers={"shoal-user": user})
            assert response.status_code == 200
            await world.router.metrics.flush()
    events = [e for e in world.logs["acme"].events if e.type == "experiment.exposure"]
    assert {event.subject for event in events} == {"ana", "bob"}
    assert await directory.redis.scard(exposed_key("acme", "warmer")) == 2
    assert await directory.redis.zscore(active_key("greeting"), "acme") is not None
    [of_today] = await world.usage.ledger.read("acme", [usage_ledger.today()])
    assert of_today.counts == {"requests": 2}
    await close_connections()


async def test_commands_run_atomically_on_a_cluster(cluster: StoreConfig):
    client = async_redis(cluster.online)
    for _ in range(2):
        replies = await run_atomically(client, [("SET", "{a}:1", "x"), ("GET", "{a}:1")])
        assert replies == [b"OK", b"x"]
    await close_connections()


async def test_an_unreachable_cluster_is_unavailable():
    uri = "redis+cluster://127.0.0.1:1"
    with pytest.raises(Unavailable, match="Redis is unavailable"):
        JobRuns(uri).add("a.b")
    with pytest.raises(Unavailable, match="Redis is unavailable"), translate_errors():
        await async_redis(uri).get("x")
    await close_connections()
