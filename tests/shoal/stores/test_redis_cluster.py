"""The same doors on a Redis Cluster, of one node here: every key of one command must
still be of one slot.
"""

import asyncio
import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import ConnectionError, Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from shoal import Event
from shoal.eventlog.redis_log import EventLog
from shoal.local.embedded_servers import redis_binary
from shoal.stores.configuration import StoreConfig
from shoal.stores.erasure import _erase_log, _erase_online
from shoal.stores.redis_client import close_connections
from shoal.tenants.tenant_stores import open_stores

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreConfig]:
    folder: Path = tmp_path_factory.mktemp("cluster")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = (
            probe.getsockname()[1] % 40_000 + 10_000
        )  # the cluster's bus takes the port 10,000 above
    options = [
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--dir",
        str(folder),
        "--cluster-enabled",
        "yes",
        "--save",
        "",
    ]
    server = subprocess.Popen([redis_binary(), *options], stdout=subprocess.DEVNULL)
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


async def test_a_cluster_serves_like_one_redis(cluster: StoreConfig, tenant: str):
    stores, log, got, stop = (
        open_stores(cluster, tenant),
        EventLog(cluster),
        list[str](),
        asyncio.Event(),
    )
    await stores.online.hset(("user", "1"), mapping={"a": 1, "b": 2})
    assert await stores.online.hmget(("user", "1"), ["a", "b"]) == [b"1", b"2"]
    pipe = stores.online.pipeline()
    for n in range(20):
        pipe.set(("n", str(n)), n)
        pipe.eval("return redis.call('get', KEYS[1])", [("n", str(n))])
    assert (await pipe.execute())[1::2] == [str(n).encode() for n in range(20)]
    assert await stores.online.pipeline().exists(("n", "1")).delete(("n", "1")).exists(
        ("n", "1")
    ).execute() == [1, 1, 0]
    assert len([key async for key in stores.online.scan("n")]) == 19
    key = [("{}", "user", "1", "{}", "x"), ("{}", "user", "1", "{}", "y")]
    assert (
        await stores.online.eval(
            "redis.call('set', KEYS[1], 7) return redis.call('exists', KEYS[2])", key
        )
        == 0
    )

    async def handle(_: str, events: list[Event]) -> None:
        got.extend(event.id for event in events)

    task = asyncio.create_task(log.consume("search", "w1", handle, stop=stop))
    await stores.events.append([Event(id=str(i), type="x") for i in range(5)])
    async with asyncio.timeout(20):
        while len(got) < 5 and not task.done():
            await asyncio.sleep(0.01)
    stop.set()
    await task
    assert await log.archive(tenant) == 5
    assert await log.replay(tenant, "search", after="0") == 5
    assert await log.dead_letters(tenant) == []
    assert await _erase_log(cluster, tenant) == 5
    assert await _erase_online(cluster, tenant) == 21
    await close_connections()
