"""Takes topics of Kafka into the event log.

Offsets are committed once the events are in the log. What a worker took before it died
is taken again, with the same ids: events count once by theirs. While the log cannot
take events, the partitions pause, so that messages wait in Kafka.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from confluent_kafka import Consumer, KafkaException, TopicPartition

from shoal.contract.batch import off_loop
from shoal.contract.errors import Unavailable
from shoal.contract.events import Event
from shoal.contract.usage import Usage
from shoal.stores.configuration import StoreConfig

from .codec import encode_event
from .kafka_letters import add_message, append_accepted, count_allowed
from .kafka_messages import Message, read_message
from .kafka_settings import KafkaSource

logger = logging.getLogger("shoal.kafka")

BATCH = 500
"""Messages that are taken at once."""
POLL_SECONDS = 0.5
RETRY_SECONDS = 1.0
MAX_QUEUED_KILOBYTES = 16_384
"""What is fetched ahead of each partition."""

OpenUsage = Callable[[str], Awaitable[Usage]]
Tenants = Callable[[], Awaitable[Sequence[str]]]


class SourceMonitor(Protocol):
    """Is told what a source does."""

    def report_lag(self, source: str, topic: str, partition: int, messages: int) -> None:
        """How many messages of a partition wait, after each batch."""

    def count_refused(self, source: str, topic: str) -> None:
        """A message was of no tenant that may have events here."""


@dataclass
class _Batch:
    """What is left to do of some messages.

    Attributes:
        events: By tenant: messages with their events, to be appended.
        letters: The tenant, a message that cannot be taken, and why.
    """

    events: dict[str, list[tuple[Message, Event]]] = field(default_factory=dict)
    letters: deque[tuple[str, Message, str]] = field(default_factory=deque)


class KafkaSourceReader:
    """One worker's part of a source. `run()` works until `stop` is set.

    Args:
        config: Where the log is.
        source: The topics.
        tenants: The tenants that exist.
        open_usage: Where a tenant's events are counted, with its quotas as they are.
        monitor: Is told what the source does.
    """

    def __init__(
        self,
        config: StoreConfig,
        source: KafkaSource,
        tenants: Tenants,
        open_usage: OpenUsage,
        monitor: SourceMonitor | None = None,
    ) -> None:
        self._config, self._source, self._tenants = config, source, tenants
        self._open_usage, self._monitor = open_usage, monitor

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
        paused, batch = False, await self._sort(messages)
        while not stop.is_set():
            try:
                await self._append(batch)
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

    async def _sort(self, messages: Sequence[Message]) -> _Batch:
        """Read messages, and sort them by tenant."""
        known = self._source.tenants & set(await self._tenants())
        batch = _Batch()
        for message in messages:
            tenant = self._source.tenant_of(message.topic, message.key, message.headers)
            if tenant not in known:
                logger.error("source %s: %s is of no tenant", self._source.name, message.place)
                if self._monitor is not None:
                    self._monitor.count_refused(self._source.name, message.topic)
                continue
            try:
                event = await off_loop(self._read, message.value or b"", message)
                if event is not None:
                    encode_event(event)
                    batch.events.setdefault(tenant, []).append((message, event))
            except Exception as error:  # whatever a message holds, those behind it go on
                batch.letters.append((tenant, message, str(error)))
        return batch

    async def _append(self, batch: _Batch) -> None:
        """Append events and dead letters; what is done leaves the batch."""
        for tenant, found in list(batch.events.items()):
            usage = await self._open_usage(tenant)
            allowed, reason = count_allowed(usage, len(found))
            events = [event for _, event in found[:allowed]]
            await append_accepted(self._config, tenant, events, usage)
            batch.letters += [(tenant, message, reason) for message, _ in found[allowed:]]
            del batch.events[tenant]
        while batch.letters:
            tenant, message, reason = batch.letters[0]
            await add_message(self._config, self._source, tenant, message, reason)
            batch.letters.popleft()

    def _read(self, _: bytes, message: Message) -> Event | None:
        return read_message(self._source, message)

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
        if self._monitor is None:
            return
        with suppress(KafkaException, RuntimeError):
            for at in consumer.position(consumer.assignment()):
                _, high = consumer.get_watermark_offsets(at, cached=True)
                if at.offset >= 0 and high >= 0:
                    lag = max(high - at.offset, 0)
                    self._monitor.report_lag(self._source.name, at.topic, at.partition, lag)


def _message(raw: Any) -> Message:
    headers = {name.lower(): value or b"" for name, value in raw.headers() or ()}
    return Message(raw.topic(), raw.partition(), raw.offset(), raw.key(), raw.value(), headers)
