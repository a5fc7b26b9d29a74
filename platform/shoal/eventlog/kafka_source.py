"""Takes topics of Kafka into the event log.

Offsets are committed once the events are in the log. What a worker took before it died
is taken again, with the same ids: events count once by theirs. While the log cannot
take events, the partitions pause, so that messages wait in Kafka.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition

from shoal.contract.batch import off_loop
from shoal.contract.errors import Unavailable
from shoal.contract.events import Event
from shoal.stores.configuration import StoreConfig
from shoal.stores.redis_client import async_redis, translate_errors

from .codec import encode_event
from .dead_letters import add_dead_letter
from .event_store import EventStore
from .kafka_messages import Message, read_message
from .kafka_settings import KafkaSource
from .tombstones import find_retracted

logger = logging.getLogger("shoal.kafka")

BATCH = 500
"""Messages that are taken at once."""
POLL_SECONDS = 0.5
RETRY_SECONDS = 1.0
MAX_QUEUED_KILOBYTES = 16_384
"""What is fetched ahead of each partition."""

OpenEvents = Callable[[str], EventStore]
Tenants = Callable[[], Awaitable[Sequence[str]]]


class KafkaSourceReader:
    """One worker's part of a source. `run()` works until `stop` is set.

    Args:
        config: Where the log is.
        source: The topics.
        open_events: A tenant's event log.
        tenants: The tenants that exist.
        report: Called with (topic, partition, messages that wait) after each batch.
    """

    def __init__(
        self,
        config: StoreConfig,
        source: KafkaSource,
        open_events: OpenEvents,
        tenants: Tenants,
        report: Callable[[str, int, int], None] = lambda *_: None,
    ) -> None:
        self._config, self._source, self._open = config, source, open_events
        self._tenants, self._report = tenants, report
        self.refused = 0
        """Messages of no tenant that may have events here."""

    async def run(self, stop: asyncio.Event) -> None:
        consumer = Consumer(
            {
                "group.id": self._source.group or f"shoal.{self._source.name}",
                "auto.offset.reset": "earliest",
                "partition.assignment.strategy": "cooperative-sticky",
                "queued.max.messages.kbytes": MAX_QUEUED_KILOBYTES,
                **self._source.settings(),
                "enable.auto.commit": False,
            },
            logger=logger,
        )
        try:
            consumer.subscribe(list(self._source.topics))
            while not stop.is_set():
                found = await asyncio.to_thread(consumer.consume, BATCH, POLL_SECONDS)
                messages = [_message(raw) for raw in found if not self._is_error(raw)]
                if messages and await self._take(consumer, messages, stop):
                    await self._commit(consumer, messages)
                await asyncio.to_thread(self._report_lag, consumer)
        finally:
            await asyncio.to_thread(consumer.close)

    def _is_error(self, raw: Any) -> bool:
        if (error := raw.error()) is not None:
            logger.warning("source %s: %s", self._source.name, error)
        return error is not None

    async def _take(
        self, consumer: Consumer, messages: Sequence[Message], stop: asyncio.Event
    ) -> bool:
        """Append messages, waiting for the log; whether all of them are in it."""
        paused = False
        while not stop.is_set():
            try:
                await self._append(messages)
                if paused:
                    consumer.resume(consumer.assignment())
                return True
            except Unavailable as error:
                logger.warning("source %s waits: %s", self._source.name, error)
            assigned = await asyncio.to_thread(consumer.assignment)
            consumer.pause(assigned)
            paused = True
            # Polling keeps this worker in its group.
            raw = await asyncio.to_thread(consumer.poll, RETRY_SECONDS)
            if raw is not None and not self._is_error(raw):  # of a partition that it just got
                found = _message(raw)
                consumer.seek(TopicPartition(found.topic, found.partition, found.offset))
        return False

    async def _append(self, messages: Sequence[Message]) -> None:
        known = self._source.tenants & set(await self._tenants())
        events: dict[str, list[Event]] = {}
        poison: list[tuple[str, Message, str]] = []
        for message in messages:
            tenant = self._source.tenant_of(message.topic, message.key, message.headers)
            if tenant not in known:
                self.refused += 1
                logger.error("source %s: %s is of no tenant", self._source.name, message.place)
                continue
            try:
                event = await off_loop(self._read, message.value or b"", message)
                if event is not None:
                    encode_event(event)
                    events.setdefault(tenant, []).append(event)
            except Exception as error:  # whatever a message holds, those behind it go on
                poison.append((tenant, message, str(error)))
        for tenant, found in events.items():
            retracted = set(await find_retracted(self._config, tenant, found))
            await self._open(tenant).append([e for n, e in enumerate(found) if n not in retracted])
        for tenant, message, reason in poison:
            await self._dead_letter(tenant, message, reason)

    def _read(self, _: bytes, message: Message) -> Event | None:
        return read_message(self._source, message)

    async def _dead_letter(self, tenant: str, message: Message, reason: str) -> None:
        """Keep a message that is no event among the tenant's dead letters."""
        value = (message.value or b"")[:10_000].decode("utf-8", "replace")
        kept = Event(
            id=message.place,
            source=f"kafka/{message.topic}",
            type="kafka.message",
            data={"value": value, "bytes": len(message.value or b"")},
        )
        group = f"kafka.{self._source.name}"
        with translate_errors():
            client = async_redis(self._config.events)
            fields = {name.encode(): value for name, value in encode_event(kept).items()}
            await add_dead_letter(client, tenant, group, (b"0-0", fields), reason, 1)

    async def _commit(self, consumer: Consumer, messages: Sequence[Message]) -> None:
        last = {(m.topic, m.partition): m.offset for m in messages}
        own = {(each.topic, each.partition) for each in consumer.assignment()}
        offsets = [TopicPartition(*at, offset + 1) for at, offset in last.items() if at in own]
        if not offsets:
            return
        try:
            await asyncio.to_thread(consumer.commit, offsets=offsets, asynchronous=False)
        except KafkaException as error:  # another worker has the partition: it takes them again
            logger.warning("source %s: offsets not committed: %s", self._source.name, error)

    def _report_lag(self, consumer: Consumer) -> None:
        with suppress(KafkaException, RuntimeError):
            for at in consumer.position(consumer.assignment()):
                _, high = consumer.get_watermark_offsets(at, cached=True)
                if at.offset >= 0 and high >= 0:
                    self._report(at.topic, at.partition, max(high - at.offset, 0))


def _message(raw: Any) -> Message:
    headers = {name.lower(): value or b"" for name, value in raw.headers() or ()}
    return Message(raw.topic(), raw.partition(), raw.offset(), raw.key(), raw.value(), headers)
