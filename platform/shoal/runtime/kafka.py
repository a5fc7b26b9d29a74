"""The loops of a worker that take topics of Kafka into the log, and mirror it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from shoal.eventlog.event_store import EventStore
from shoal.eventlog.kafka_settings import KafkaSink, KafkaSource

from .context import PlatformContext

log = logging.getLogger("shoal.kafka")
RESTART_SECONDS = 5.0

Tenants = Callable[[], Awaitable[Sequence[str]]]


def kafka_loops(
    platform: PlatformContext, worker: str, tenants: Tenants, stop: asyncio.Event, export: bool
) -> list[Awaitable[None]]:
    """One loop for each source and sink. They work until `stop` is set.

    Args:
        platform: Whose configuration names them.
        worker: A name that no other living worker has.
        tenants: The tenants that exist.
        stop: Ends the loops after the batches in progress.
        export: Whether to export how many messages wait, through Ray's metrics.
    """
    config = platform.config
    report = export_lag() if export and config.sources else None

    async def take(source: KafkaSource) -> None:
        from shoal.eventlog.kafka_source import KafkaSourceReader

        def note(topic: str, partition: int, lag: int) -> None:
            if report is not None:
                report(source.name, topic, partition, lag)

        def open_events(tenant: str) -> EventStore:
            return EventStore(platform.stores, tenant)

        reader = KafkaSourceReader(platform.stores, source, open_events, tenants, note)
        await reader.run(stop)

    async def mirror(sink: KafkaSink) -> None:
        from shoal.eventlog.kafka_sink import KafkaSinkWriter

        writer = KafkaSinkWriter(sink)
        await platform.event_log.consume(
            f"kafka.{sink.name}",
            worker,
            writer.handle,
            types=sink.types,
            tenants=tenants,
            stop=stop,
        )

    async def repeat(name: str, act: Callable[[], Awaitable[None]]) -> None:
        while not stop.is_set():
            try:
                await act()
            except Exception:
                log.exception("%s failed and will be restarted", name)
                await asyncio.sleep(RESTART_SECONDS)

    return [
        *(repeat(f"source {each.name}", partial(take, each)) for each in config.sources),
        *(repeat(f"sink {each.name}", partial(mirror, each)) for each in config.sinks),
    ]


def export_lag() -> Callable[[str, str, int, int], None]:
    """Exports `ray_shoal_kafka_lag_messages`: what waits in a partition of a source."""
    from ray.util.metrics import Gauge

    gauge = Gauge(
        "shoal_kafka_lag_messages",
        "Messages of a partition that a source has not taken yet.",
        ("source", "topic", "partition"),
    )

    def report(source: str, topic: str, partition: int, lag: int) -> None:
        gauge.set(lag, {"source": source, "topic": topic, "partition": str(partition)})

    return report
