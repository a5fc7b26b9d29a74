"""The stores, and redis-py beside them. `vectors_peers.py` has the peers of `vectors`.

    python benchmarks/stores.py [--items 10000]

Medians and 99th percentiles at one connection, and for `vectors` this process's CPU per
query (which other load on the machine changes little).
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import date
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
from common import machine
from redis.asyncio import Redis

from shoal import AnyOf, Event, VectorSchema
from shoal.eventlog.redis_log import RedisEventLog
from shoal.local.embedded_servers import EmbeddedServers
from shoal.stores.configuration import StoreConfig
from shoal.stores.connections import close_connections
from shoal.tenants.tenant_stores import open_stores

SCHEMA = VectorSchema(384, {"board": "string", "at": "integer", "words": "tokens"})
FIELDS = [f"feature_{i}" for i in range(20)]
WORDS = np.array([f"w{i}" for i in range(5000)])
ZIPF = (1 / np.arange(1, 5001)) / (1 / np.arange(1, 5001)).sum()


async def timed(
    name: str, call: Callable[[], Awaitable[Any]], times: int, server: psutil.Process | None = None
) -> None:
    for _ in range(max(times // 20, 2)):
        await call()
    spent, before = [], sum(server.cpu_times()[:2]) if server else 0.0
    for _ in range(times):
        start = time.perf_counter()
        await call()
        spent.append((time.perf_counter() - start) * 1e3)
    spent.sort()
    cpu = f"{(sum(server.cpu_times()[:2]) - before) / times * 1e3:11.2f}" if server else " " * 11
    print(f"{name:58s}{spent[times // 2]:10.3f}{spent[int(times * 0.99)]:10.3f}{cpu}", flush=True)


async def online(config: StoreConfig) -> None:
    store = open_stores(config, "bench", "notes").online
    bare = Redis.from_url(config.online, protocol=2)
    await store.hset(("user", "1"), mapping={f: "0.123456" for f in FIELDS})
    await timed(
        "HMGET of 20 fields, redis-py", lambda: bare.hmget("bench:notes:user:1", FIELDS), 4000
    )
    await timed("HMGET of 20 fields, the store", lambda: store.hmget(("user", "1"), FIELDS), 4000)
    await bare.aclose()


async def events(config: StoreConfig) -> None:
    store = open_stores(config, "bench", "notes").events
    bare = Redis.from_url(config.online, protocol=2)
    await timed(
        "XADD, synced every second, redis-py", lambda: bare.xadd("s", {"e": "x" * 300}), 500
    )
    await timed(
        "append 1 event, on the disk", lambda: store.append([Event(type="x", data={"a": 1})]), 500
    )
    batch = [Event(type="x", data={"a": i}) for i in range(1000)]
    await timed("append 1,000 events, on the disk", lambda: store.append(batch), 10)
    await bare.aclose()
    seen, arrived, stop = [0], asyncio.Event(), asyncio.Event()

    async def handle(_: str, found: list[Event]) -> None:
        seen[0] += len(found)
        arrived.set()

    total, start = await store.length(), time.perf_counter()
    task = asyncio.create_task(RedisEventLog(config).consume("bench", "one", handle, stop=stop))
    while seen[0] < total:
        await asyncio.sleep(0.01)
    print(f"{'a group follows, events a second':58s}{total / (time.perf_counter() - start):10.0f}")

    async def there() -> None:
        arrived.clear()
        await store.append([Event(type="x")])
        await arrived.wait()

    await timed("append 1 event until its handler has it", there, 200)
    stop.set()
    await task


async def lake(config: StoreConfig) -> None:
    store = open_stores(config, "bench", "notes").lake
    rows = pa.table({"id": [f"user-{i}" for i in range(10_000)], "value": np.arange(10_000.0)})
    await timed(
        "append 10,000 rows to the lake, on the disk",
        lambda: store.append("t", rows, date(2026, 3, 1)),
        10,
    )
    await timed("read 100,000 rows of it", lambda: store.read("t"), 10)


async def fill(config: StoreConfig, items: int) -> None:
    store, random = open_stores(config, "bench", "notes").vectors, np.random.default_rng(0)
    await store.ensure("items", SCHEMA)
    start = time.perf_counter()
    for at in range(0, items, 500):
        rows = [
            {
                "id": str(i),
                "vectors": v[None],
                "board": f"b{i % 40}",
                "at": i,
                "words": " ".join(random.choice(WORDS, 60, p=ZIPF)),
            }
            for i, v in enumerate(random.normal(size=(min(500, items - at), 384)), at)
        ]
        await store.upsert("items", rows)
    await store.optimize("items")
    print(
        f"{'upsert, items a second (384 dimensions, 60 words)':58s}"
        f"{items / (time.perf_counter() - start):10.0f}"
    )
    await asyncio.sleep(2)


async def vectors(config: StoreConfig) -> None:
    store, random = open_stores(config, "bench", "notes").vectors, np.random.default_rng(1)
    server, some = psutil.Process(), [AnyOf("board", ["b1", "b2", "b3"])]

    def words() -> list[str]:
        return [str(word) for word in random.choice(WORDS[20:], 5)]

    await timed(
        "nearest 100",
        lambda: store.nearest("items", random.normal(size=384), limit=100),
        60,
        server,
    )
    await timed(
        "nearest 100 on 3 of 40 boards",
        lambda: store.nearest("items", random.normal(size=384), limit=100, filter=some),
        60,
        server,
    )
    await timed(
        "matching 100", lambda: store.matching("items", "words", words(), limit=100), 60, server
    )
    await timed(
        "matching 100 on 3 of 40 boards",
        lambda: store.matching("items", "words", words(), limit=100, filter=some),
        60,
        server,
    )


def run(*steps: Callable[[], Awaitable[None]]) -> None:
    async def all_of_them() -> None:
        for step in steps:
            await step()
        await close_connections()

    asyncio.run(all_of_them())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--items", type=int, default=10_000)
    items = parser.parse_args().items
    print(machine())
    print(f"{'':58s}{'p50 ms':>10s}{'p99 ms':>10s}{'CPU ms':>11s}")
    with tempfile.TemporaryDirectory() as folder:
        servers = EmbeddedServers(folder)
        config = servers.start()
        try:
            run(
                lambda: online(config),
                lambda: events(config),
                lambda: lake(config),
                lambda: fill(config, items),
                lambda: vectors(config),
            )
        finally:
            servers.stop()


if __name__ == "__main__":
    main()
