"""The loops of a worker that take topics of Kafka into the log, and mirror it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from shoal.contract.usage import Usage
from shoal.eventlog.kafka_settings import KafkaSink, KafkaSource
from shoal.router.quotas import TenantUsage
from shoal.tenants.usage_ledger import ALL

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
    exporter = KafkaExporter() if export and config.sources else None

    async def take(source: KafkaSource) -> None:
        from shoal.eventlog.kafka_source import KafkaSourceReader

        open_usage = partial(open_event_usage, platform)
        await KafkaSourceReader(platform.stores, source, tenants, open_usage, exporter).run(stop)

    async def mirror(sink: KafkaSink) -> None:
        from shoal.eventlog.kafka_sink import KafkaSinkWriter

        writer = KafkaSinkWriter(sink)
        await platform.event_log.consume(
            sink.events_group,
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


async def open_event_usage(platform: PlatformContext, tenant: str) -> Usage:
    """Where a tenant's events are counted, as `POST /platform/events` counts them."""
    limits = await platform.directory.get_limits(tenant)
    quotas = {name: limits[name] for name in ("platform", ALL) if name in limits}
    usage = TenantUsage(platform.usage, tenant, "platform", quotas)
    if usage.has_quotas:
        await platform.usage.watch(tenant)
    return usage


class KafkaExporter:
    """Exports what the sources of one worker do.

    - `ray_shoal_kafka_lag_messages`: what waits in a partition, by source and topic.
    - `ray_shoal_kafka_refused_messages_total`: messages of no tenant that the source
      has, by source and topic.
    """

    def __init__(self) -> None:
        from ray.util.metrics import Counter, Gauge

        self._lag = Gauge(
            "shoal_kafka_lag_messages",
            "Messages of a partition that a source has not taken yet.",
            ("source", "topic", "partition"),
        )
        self._refused = Counter(
            "shoal_kafka_refused_messages",
            "Messages of no tenant that a source has.",
            ("source", "topic"),
        )

    def report_lag(self, source: str, topic: str, partition: int, messages: int) -> None:
        self._lag.set(messages, {"source": source, "topic": topic, "partition": str(partition)})

    def count_refused(self, source: str, topic: str) -> None:
        self._refused.inc(1, {"source": source, "topic": topic})
