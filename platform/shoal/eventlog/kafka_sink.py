"""Mirrors events of the log to a topic of Kafka, in each tenant's order."""

import asyncio
from collections.abc import Sequence
from typing import Any

from confluent_kafka import KafkaException, Producer

from shoal.contract.errors import Unavailable
from shoal.contract.events import Event

from .kafka_messages import write_message
from .kafka_settings import KafkaSink

FLUSH_SECONDS = 30.0


class KafkaSinkWriter:
    """A handler of a group of the log. The group's position is what was delivered.

    The key is the tenant, so that its events are of one partition; a header `tenant`
    says it too. What a dead worker had written is written again.
    """

    def __init__(self, sink: KafkaSink) -> None:
        self._sink = sink
        self._producer = Producer(
            {
                "delivery.timeout.ms": int(FLUSH_SECONDS * 1000),
                **sink.settings(),
                "enable.idempotence": True,
            }
        )

    async def handle(self, tenant: str, events: Sequence[Event]) -> None:
        """Write events; Unavailable where a broker has not confirmed each of them."""
        await asyncio.to_thread(self._write, tenant, events)

    def _write(self, tenant: str, events: Sequence[Event]) -> None:
        failed: list[Any] = []
        delivered: list[None] = []

        def note(error: Any, _: Any) -> None:
            failed.append(error) if error else delivered.append(None)

        try:
            for event in events:
                value, headers = write_message(event, self._sink.mode)
                self._producer.produce(
                    self._sink.topic,
                    value,
                    tenant.encode(),
                    headers=[*headers, ("tenant", tenant.encode())],
                    on_delivery=note,
                )
            self._producer.flush(FLUSH_SECONDS)
        except (KafkaException, BufferError) as error:
            failed.append(error)
        if failed or len(delivered) < len(events):
            why = failed[0] if failed else "no answer"
            raise Unavailable(f"Kafka does not take events of {self._sink.name}: {why}")
