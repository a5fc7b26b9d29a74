"""One hot entity: what its windows cost, whatever they hold.

python benchmarks/features_hot.py [--events 1000000]

Events of one user over a year, and as many in an hour, are applied in batches while
another tenant reads. Prints the processor time of a script (the mean of the scripts of
200 events, the largest of these means; and of reading twelve features), the time of
reading a sum over 366 days and of twelve features, the other tenant's reads meanwhile,
and the memory of an event. The peer is the same sum over the raw events by a Lua script
that reads them all, as without tiles.
"""

import argparse
import asyncio
import random
import time
from collections.abc import Iterator

import redis
from common import machine, median, p99, private_redis, table

from shoal.stores.configuration import StoreConfig
from shoal.tenants.tenant_stores import open_stores
from shoal_features.online import ReadPlan, apply_events, read_json
from shoal_features.views import Feature, View
from shoal_features.windows import EventRow, WindowPlan

S, YEAR, HOUR = 1_000_000, 366 * 86_400, 3_600
NOW = 1_790_000_000 * S
BATCH = 200
SIZES = (100, 10_000)

RAW_SUM = """
local sum, ids = 0, redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[1], '+inf')
for i = 1, #ids, 4000 do
  for _, raw in ipairs(redis.call('HMGET', KEYS[2], unpack(ids, i, math.min(i + 3999, #ids)))) do
    sum = sum + tonumber(cjson.decode(raw)['x:float64'])
  end
end
return tostring(sum)
"""


def make_view(window: int) -> View:
    columns = (("sum", "x"), ("mean", "x"), ("min", "x"), ("max", "x"), ("last", "x"))
    features = [
        Feature(f"{function}_{share}", "float64", function, column, window // share)
        for share in (1, 4)
        for function, column in columns
    ]
    features += [
        Feature(f"kinds_{share}", "int64", "count_distinct", "k", window // share)
        for share in (1, 4)
    ]
    fields = ("data.user_id",)
    return View("hot", "user", "user_id", "stream", tuple(features), None, ("a",), fields)


def make_events(n: int, window: int) -> Iterator[list[EventRow]]:
    """Events in order of time, a little out of order, in batches."""
    draw = random.Random(n)
    for start in range(0, n, BATCH):
        yield [
            EventRow(
                NOW - window * S + (i + 1) * window * S // n - draw.randrange(S),
                f"bench\x1f{i:032x}",
                "hot",
                {"x": draw.randrange(1000) / 4, "k": draw.randrange(1000)},
            )
            for i in range(start, min(start + BATCH, n))
        ]


class Cpu:
    """Processor time of Redis, in ms for each script that ran."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._last = self._read()
        self.most = 0.0

    def _read(self) -> tuple[float, int]:
        cpu, stats = self._client.info("cpu"), self._client.info("commandstats")
        calls = sum(stats.get(f"cmdstat_{c}", {}).get("calls", 0) for c in ("eval", "evalsha"))
        return cpu["used_cpu_user"] + cpu["used_cpu_sys"], calls

    def lap(self) -> None:
        now = self._read()
        scripts = max(now[1] - self._last[1], 1)
        self.most = max(self.most, (now[0] - self._last[0]) * 1e3 / scripts)
        self._last = now


async def measure(port: int, n: int, window: int) -> tuple[str, ...]:
    client = redis.Redis(port=port)
    client.flushall()
    config = StoreConfig(online=f"redis://127.0.0.1:{port}/0", vectors="http://x", lake="/tmp/x")
    online, view = open_stores(config, "acme", "features").online, make_view(window)
    other = open_stores(config, "globex", "features").online
    await other.hset(("user", "1"), mapping={f"f{i}": i for i in range(20)})
    done, waits = asyncio.Event(), []

    async def read_other() -> None:
        while not done.is_set():
            began = time.perf_counter()
            await other.hmget(("user", "1"), ["f1", "f2"])
            waits.append(time.perf_counter() - began)
            await asyncio.sleep(0.002)

    before = client.info("memory")["used_memory"]
    reader, writes = asyncio.create_task(read_other()), Cpu(client)
    began = time.perf_counter()
    for batch in make_events(n, window):
        await apply_events(online, WindowPlan.of(view), batch, NOW, 600)
        writes.lap()
    took = time.perf_counter() - began
    done.set()
    await reader
    size = (client.info("memory")["used_memory"] - before) / n
    one = ReadPlan("user", [(view, view.features[0])])
    twelve = ReadPlan("user", [(view, f) for f in view.features])
    times: dict[int, list[float]] = {1: [], 12: []}
    for k in range(300):
        for plan in (one, twelve):
            began = time.perf_counter()
            await read_json(online, plan, ["hot"], NOW + k)
            times[len(plan.names)].append(time.perf_counter() - began)
    reads = Cpu(client)
    for k in range(100):
        await read_json(online, twelve, ["hot"], NOW + k)
    reads.lap()
    keys = ["{acme:features:values:user:hot}:hot", "{acme:features:values:user:hot}:hot:columns"]
    began = time.perf_counter()
    client.eval(RAW_SUM, 2, *keys, NOW - window * S)
    raw = time.perf_counter() - began
    return (
        f"{n:,} in {'a year' if window == YEAR else 'an hour'}",
        f"{n / took:,.0f}",
        f"{writes.most:.1f}",
        f"{median(times[1]) * 1e3:.2f} / {p99(times[1]) * 1e3:.2f}",
        f"{median(times[12]) * 1e3:.2f} / {p99(times[12]) * 1e3:.2f}",
        f"{reads.most:.2f}",
        f"{raw * 1e3:,.1f}",
        f"{p99(waits) * 1e3:.1f}",
        f"{size:,.0f}",
    )


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=1_000_000)
    arguments = parser.parse_args()
    print(machine())
    rows = []
    with private_redis() as port:
        for n in (*SIZES, arguments.events):
            for window in (YEAR, HOUR):
                rows.append(await measure(port, n, window))
    head = (
        "events of one user",
        "applied/s",
        "a write script, CPU ms",
        "a sum, p50 / p99 ms",
        "12 features, p50 / p99 ms",
        "a read script, CPU ms",
        "the sum without tiles, ms",
        "another tenant's p99 meanwhile, ms",
        "bytes an event",
    )
    table("Windows of one hot entity", head, rows)


if __name__ == "__main__":
    asyncio.run(main())
