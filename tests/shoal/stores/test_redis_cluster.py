"""Everything that stands on Redis, on a Redis Cluster of one node."""

import asyncio
import contextlib
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from redis import ConnectionError, Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from shoal import Event, Unavailable
from shoal.eventlog import redis_log
from shoal.eventlog.redis_log import RedisEventLog
from shoal.local.redis_process import redis_binary
from shoal.runtime import job_runs
from shoal.runtime.job_runs import JobRuns
from shoal.stores import online as online_store
from shoal.stores.configuration import StoreConfig
from shoal.stores.connections import close_connections
from shoal.stores.redis_client import async_redis, run_atomically, translate_errors
from shoal.tenants.tenant_stores import TenantStores, open_stores

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreConfig]:
    folder: Path = tmp_path_factory.mktemp("cluster")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        # The cluster's bus takes the port 10,000 above.
        port = probe.getsockname()[1] % 40_000 + 10_000
    address = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
    options = ["--cluster-enabled", "yes", "--save", ""]
    server = subprocess.Popen([redis_binary(), *address, *options], stdout=subprocess.DEVNULL)
    try:
        with Redis(port=port, retry=Retry(NoBackoff(), 0)) as client:
            for _ in range(200):
                with contextlib.suppress(ConnectionError):
                    if client.ping():
                        break
                time.sleep(0.05)
            client.execute_command("CLUSTER", "ADDSLOTS", *range(16384))
            while b"cluster_state:ok" not in client.execute_command("CLUSTER", "INFO"):
                time.sleep(0.05)
        uri = f"redis+cluster://127.0.0.1:{port}"
        yield StoreConfig(online=uri, vectors="http://127.0.0.1:1", lake=str(folder / "lake"))
    finally:
        server.terminate()
        server.wait()


@pytest.fixture
async def stores(cluster: StoreConfig, tenant: str) -> AsyncIterator[TenantStores]:
    yield open_stores(cluster, tenant)
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
