"""Speed and memory: scoring, from a point to its alert, the nightly fit.

    python benchmarks/anomalies_load.py

Starts a Redis of its own. The stream's handler gets events as a worker passes them, by
tenant and in batches. Without Ray.
"""

import asyncio
import statistics
import tempfile
import time
import tracemalloc
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from common import machine

from shoal import Event, Role, TenantContext
from shoal.contract.rights import SERVICE_RIGHTS
from shoal.stores.configuration import StoreConfig
from shoal.stores.connections import close_connections
from shoal.tenants.tenant_stores import open_stores
from shoal.testing.servers import RedisServer
from shoal_anomalies import keys, seasonal
from shoal_anomalies.detector import Detector
from shoal_anomalies.model_fitting import fit_forests
from shoal_anomalies.points import series_id
from shoal_anomalies.recent_points import SeriesPoints
from shoal_anomalies.stream_processor import StreamProcessor

TENANTS, SERIES = 20, 2_000  # in all
SERIES_PER_TENANT = SERIES // TENANTS
HISTORY = 105  # minutes before the measurement
ROUNDS = 8  # minutes measured
BATCH = 4_000  # events


class Services:
    def settings(self, model: Any) -> Any:
        return model()


def show(label: str, value: float, unit: str) -> None:
    print(f"{label:32s}{value:10,.0f} {unit}")


def measure_scoring() -> None:
    random = np.random.default_rng(0)
    values, rates = random.normal(100, 5, 4_000).tolist(), []
    for _ in range(5):
        detector, started = Detector(), time.process_time()
        for i, value in enumerate(values):
            detector.update(300.0 * i, value)
        rates.append(len(values) / (time.process_time() - started))
    show("scoring, combined", statistics.median(rates), "points/s/core")
    tracemalloc.start()
    detectors = []
    for n in range(20):
        detector = Detector()
        for i in range(2_100):
            detector.update(300.0 * i, values[(i + n) % 4_000])
        detectors.append(detector)
    size = tracemalloc.get_traced_memory()[0] / len(detectors)
    tracemalloc.stop()
    show("memory per series", size / 1024, "KiB in the worker")


def measure_fitting() -> None:
    random = np.random.default_rng(1)
    times = 1.7e9 + 300.0 * np.arange(90 * 288)
    daily = 30 * np.sin(times / 86_400 * 2 * np.pi)
    weekly = 20 * ((times // 86_400) % 7 < 5)
    values = 100 + daily + weekly + random.normal(0, 3, len(times))
    methods: tuple[tuple[seasonal.Method, int], ...] = (("stl", 6), ("prophet", 4))
    for method, count in methods:
        seasonal.fit(times[:4_000], values[:4_000], method)  # imports and compiles
        spent = []
        for _ in range(count):
            started = time.process_time()
            seasonal.fit(times, values, method)
            spent.append(time.process_time() - started)
        show(f"fit 90 days at 5 min, {method}", 60 / statistics.median(spent), "series/min/core")
    metrics = [f"m{k}" for k in range(4)]
    history = {
        series_id(metric, {}): SeriesPoints(
            times, values * random.normal(1, 0.05, len(times)), values
        )
        for metric in metrics
    }
    infos = {series_id(metric, {}): {"metric": metric, "labels": {}} for metric in metrics}
    started = time.process_time()
    fit_forests(history, infos)
    show("fit a forest to 4 metrics", 60 / (time.process_time() - started), "forests/min/core")


def open_context(config: StoreConfig, tenant: str) -> TenantContext:
    return TenantContext(
        tenant,
        Role.admin,
        SERVICE_RIGHTS[Role.admin],
        None,
        None,
        "r",
        open_stores(config, tenant, "anomalies"),
        Services(),  # type: ignore[arg-type]
        lambda model: model(),
        lambda name, ctx: None,
    )


def metric_event(number: int, value: float, at: datetime) -> Event:
    metric = f"m{number}"
    return Event(
        id=f"{metric}{at.isoformat()}",
        type="metric",
        time=at,
        data={"metric": metric, "value": float(value)},
    )


async def process_history(
    processor: StreamProcessor, ctx: TenantContext, start: datetime, random: np.random.Generator
) -> None:
    """Process the points that signals need to warm up."""
    events = [
        metric_event(number, random.normal(100, 5), start + timedelta(minutes=minute))
        for minute in range(HISTORY)
        for number in range(SERIES_PER_TENANT)
    ]
    for first in range(0, len(events), BATCH):
        await processor.handle(ctx, events[first : first + BATCH])


async def measure_arrival(port: int, folder: str) -> None:
    config = StoreConfig(
        online=f"redis://127.0.0.1:{port}/0", vectors="http://127.0.0.1:1", lake=folder
    )
    contexts = [open_context(config, f"bench{n}") for n in range(TENANTS)]
    processor, random = StreamProcessor(), np.random.default_rng(2)
    processor.notifier.schedule_delivery = lambda ctx: None  # type: ignore[method-assign]
    start = datetime.now(UTC) - timedelta(minutes=ROUNDS + HISTORY)
    for ctx in contexts:
        await process_history(processor, ctx, start, random)
    waits: list[float] = []
    spent = []
    for minute in range(ROUNDS):
        at = start + timedelta(minutes=HISTORY + minute)
        unusual = int(random.integers(SERIES_PER_TENANT))
        arrived, busy = time.perf_counter(), time.process_time()
        for ctx in contexts:  # all at the same moment: the worst case
            values = random.normal(100, 5, SERIES_PER_TENANT)
            values[unusual] = 100_000.0 * (minute + 1)
            await processor.handle(ctx, [metric_event(n, v, at) for n, v in enumerate(values)])
            waits.append(time.perf_counter() - arrived)
        spent.append(time.process_time() - busy)
    found = sum([await ctx.stores.online.zcard(keys.ANOMALIES) for ctx in contexts])
    median, high = statistics.median(waits), sorted(waits)[int(0.99 * len(waits))]
    print(
        f"{SERIES:,} series a minute, {TENANTS} tenants, arriving at once: "
        f"to the alert p50 {median:.2f} s, p99 {high:.2f} s;\n"
        f"    {statistics.median(spent):.2f} s of CPU a minute ({found} anomalies). "
        "The stream adds its latency, well under a second."
    )
    await show_redis_memory(contexts[0])
    await close_connections()


async def show_redis_memory(ctx: TenantContext) -> None:
    series = series_id("m0", {})
    script = "return redis.call('memory', 'usage', KEYS[1])"
    used = await ctx.stores.online.eval(script, [keys.recent_points(series)])
    state = await ctx.stores.online.hget(keys.STATES, series)
    print(
        f"in Redis per series: {used / 1024:.1f} KiB for {HISTORY + ROUNDS} points (at most 80), "
        f"{len(state) / 1024:.1f} KiB of state"
    )


def main() -> None:
    print(f"{machine()}\n")
    measure_scoring()
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder))
        try:
            asyncio.run(measure_arrival(server.port, folder))
        finally:
            server.stop()
    measure_fitting()


if __name__ == "__main__":
    main()
