"""The capability, the platform and the console in one process, with a company that has
had an incident: real Redis, real Router, no Ray.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import orjson

from shoal import Event
from shoal.runtime.job_runs import JobRuns
from shoal.testing.console import serve_console
from shoal_anomalies import AnomalyParameters, keys, shoal_capabilities
from shoal_anomalies.points import series_id
from shoal_anomalies.seasonal_model import SeasonalModel
from shoal_anomalies.stream_processor import StreamProcessor

MINUTES = 600


async def seed(process: Any) -> None:
    """Ten hours of two series, of which the last minutes are an incident."""
    context = await process.context("acme", "anomalies")
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    random = np.random.default_rng(0)
    calm = random.random(MINUTES)
    series = {
        "error_rate": [*(0.01 + 0.002 * calm[:-3]), 0.3, 0.4, 0.5],
        "latency_ms": [*(100 + 10 * calm[:-3]), 900, 950, 990],
    }
    processor = StreamProcessor()
    processor.notifier.schedule_delivery = lambda ctx: None  # type: ignore[method-assign]
    for i in range(MINUTES):
        time = now - timedelta(minutes=MINUTES - 1 - i)
        events = [
            Event(
                type="metric",
                time=time,
                data={"metric": metric, "value": float(values[i]), "labels": {"service": "shop"}},
            )
            for metric, values in series.items()
        ]
        if i % 100 == 0:
            batch: list[Event] = []
        batch += events
        if i % 100 == 99:
            await processor.handle(context, batch)
    slots = np.full(96, 0.011)
    model = SeasonalModel("stl", 0.0, 900.0, slots, slots / 10, True, now.timestamp())
    error_rate = series_id("error_rate", {"service": "shop"})
    await context.stores.online.hset(keys.SEASONS, error_rate, orjson.dumps(model.to_dict()))
    parameters = AnomalyParameters.model_validate({"sensitivity_threshold": 4.0}).model_dump()
    suggestion = {
        "parameters": parameters,
        "score": 80.0,
        "current": 60.0,
        "windows": 4,
        "denied": 3,
        "time": now.isoformat(),
    }
    await context.stores.online.set(keys.SUGGESTION, orjson.dumps(suggestion))
    runs = JobRuns(process.stores.online)
    standing = {"acme": {"P1": 1, "P2": 0, "P3": 2}, "globex": {"P1": 0, "P2": 0, "P3": 0}}
    runs.finish(
        runs.add("anomalies.keep").id, "succeeded", result={"points": 1200, "tenants": standing}
    )


if __name__ == "__main__":
    serve_console(shoal_capabilities(), seed=seed)
