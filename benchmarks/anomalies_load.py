"""Speed and size: scoring, the way from a point to its alert, the nightly fit, memory.

    python benchmarks/anomalies_load.py

Starts a redis-server of its own; the stream's handler is fed as a worker feeds it, by
tenant and in batches. No Ray.
"""

import asyncio
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
import tracemalloc
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from common import machine

from shoal import Event, Role, TenantContext
from shoal.stores.configuration import StoreConfig
from shoal.stores.connections import close_connections
from shoal.tenants.tenant_stores import open_stores
from shoal_anomalies import keys, seasonal
from shoal_anomalies.detector import Detector
from shoal_anomalies.model_fitting import fit_forests
from shoal_anomalies.points import series_id
from shoal_anomalies.recent_points import SeriesPoints
from shoal_anomalies.stream_processor import StreamProcessor

TENANTS, SERIES = 20, 2_000  # in all
HISTORY = 105  # minutes
ROUNDS = 8  # minutes played, as fast as they can be taken


class Services:
    def settings(self, model: Any) -> Any:
        return model()


def scoring() -> None:
    random = np.random.default_rng(0)
    values, rates = random.normal(100, 5, 4_000).tolist(), []
    for _ in range(5):
        detector, started = Detector(), time.process_time()
        for i, value in enumerate(values):
            detector.update(300.0 * i, value)
        rates.append(len(values) / (time.process_time() - started))
    print(
        f"scoring, combined score       {statistics.median(rates):10,.0f} points/s/core  (a series a minute each: that many series)"
    )
    tracemalloc.start()
    kept = []
    for n in range(20):
        detector = Detector()
        for i in range(2_100):
            detector.update(300.0 * i, values[(i + n) % 4_000])
        kept.append(detector)
    size = tracemalloc.get_traced_memory()[0] / len(kept)
    tracemalloc.stop()
    print(f"memory per state series     {size / 1024:10,.0f} KiB in the worker")


def fitting() -> None:
    random = np.random.default_rng(1)
    times = 1.7e9 + 300.0 * np.arange(90 * 288)
    values = (
        100
        + 30 * np.sin(times / 86_400 * 2 * np.pi)
        + 20 * ((times // 86_400) % 7 < 5)
        + random.normal(0, 3, len(times))
    )
    (
        seasonal.fit(times, values, "stl"),
        seasonal.fit(times[:4_000], values[:4_000], "prophet"),
    )  # imports, first compilation
    for method, count in (("stl", 6), ("prophet", 4)):
        spent = []
        for _ in range(count):
            started = time.process_time()
            seasonal.fit(times, values, method)  # type: ignore[arg-type]
            spent.append(time.process_time() - started)
        print(
            f"fit 90 days at 5 min, {method:8s}{60 / statistics.median(spent):10,.0f} series/min/core"
        )
    columns = {
        f"m{k}": SeriesPoints(times, values * random.normal(1, 0.05, len(times)), values)
        for k in range(4)
    }
    ids = {series_id(m, {}): r for m, r in columns.items()}
    started = time.process_time()
    fit_forests(ids, {series_id(m, {}): {"metric": m, "labels": {}} for m in columns})
    print(
        f"fit a forest over 4 metrics   {60 / (time.process_time() - started):10,.0f} forests/min/core"
    )


async def arrival(port: int, folder: str) -> None:
    config = StoreConfig(
        online=f"redis://127.0.0.1:{port}/0", vectors="http://127.0.0.1:1", lake=folder
    )
    contexts = [
        TenantContext(
            f"bench{n}",
            Role.admin,
            None,
            None,
            "r",
            open_stores(config, f"bench{n}"),
            Services(),
            lambda m: m(),
            lambda n: None,
        )  # type: ignore[arg-type]
        for n in range(TENANTS)
    ]
    processor, random = StreamProcessor(), np.random.default_rng(2)
    processor.notifier.schedule_delivery = lambda ctx: None  # type: ignore[method-assign]
    per, start = SERIES // TENANTS, datetime.now(UTC) - timedelta(minutes=ROUNDS + HISTORY)
    for ctx in contexts:  # what the cold start needs, in batches
        events = [
            _event(f"m{s}", random.normal(100, 5), start + timedelta(minutes=i))
            for i in range(HISTORY)
            for s in range(per)
        ]
        for first in range(0, len(events), 4_000):
            await processor.handle(ctx, events[first : first + 4_000])
    waits: list[float] = []
    spent = []
    for minute in range(ROUNDS):
        at = start + timedelta(minutes=HISTORY + minute)
        odd = int(random.integers(per))
        arrived = time.perf_counter()
        busy = time.process_time()
        for ctx in contexts:  # all at the same moment: the worst case
            values = random.normal(100, 5, per)
            values[odd] = 100_000.0 * (minute + 1)
            await processor.handle(ctx, [_event(f"m{s}", v, at) for s, v in enumerate(values)])
            waits.append(time.perf_counter() - arrived)
        spent.append(time.process_time() - busy)
    found = sum([await ctx.stores.online.zcard(keys.ANOMALIES) for ctx in contexts])
    low, high = statistics.median(waits), sorted(waits)[int(0.99 * len(waits))]
    print(
        f"{SERIES:,} series a minute, {TENANTS} tenants, arriving at once: to the alert p50 {low:.2f} s, p99 {high:.2f} s;"
    )
    print(
        f"    {statistics.median(spent):.2f} s of CPU a minute ({found} anomalies). The stream adds its wake-up, well under a second."
    )
    used = await contexts[0].stores.online.eval(
        "return redis.call('memory', 'usage', KEYS[1])", [keys.recent_points(series_id("m0", {}))]
    )
    state = await contexts[0].stores.online.hget(keys.STATES, series_id("m0", {}))
    print(
        f"in Redis per series: {used / 1024:.1f} KiB of points after {HISTORY + ROUNDS} (at most 80), {len(state) / 1024:.1f} KiB of state"
    )
    await close_connections()


def _event(metric: str, value: float, at: datetime) -> Event:
    return Event(
        id=f"{metric}{at.isoformat()}",
        type="metric",
        time=at,
        data={"metric": metric, "value": float(value)},
    )


def main() -> None:
    print(f"{machine()}\n")
    scoring()
    binary = shutil.which("redis-server")
    if not binary:
        raise SystemExit("no redis-server on the PATH")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        server = subprocess.Popen(
            [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder],
            stdout=subprocess.DEVNULL,
        )
        time.sleep(0.5)
        try:
            asyncio.run(arrival(port, folder))
        finally:
            server.terminate()
            server.wait()
    fitting()


if __name__ == "__main__":
    main()
