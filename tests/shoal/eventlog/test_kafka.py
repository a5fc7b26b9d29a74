"""Topics of Kafka as sources and sinks of the event log."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal import Event
from shoal.contract.events import MAX_EVENT_BYTES
from shoal.contract.usage import UNCOUNTED, Usage
from shoal.eventlog.event_store import EventStore
from shoal.eventlog.kafka_letters import keep_message, kept_message
from shoal.eventlog.kafka_messages import Message
from shoal.eventlog.kafka_settings import KafkaSink, KafkaSource
from shoal.eventlog.kafka_sink import KafkaSinkWriter
from shoal.eventlog.kafka_source import KafkaSourceReader
from shoal.eventlog.redis_log import RedisEventLog
from shoal.stores.configuration import StoreConfig
from shoal.stores.connections import close_connections
from shoal.testing.servers import RedisServer

from ...kafka_mock import MockKafka

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


@pytest.fixture(scope="module")
def kafka() -> Iterator[MockKafka]:
    yield MockKafka()


@pytest.fixture
async def config(redis_server: RedisServer) -> AsyncIterator[StoreConfig]:
    yield StoreConfig(online=redis_server.url, vectors="/none", lake="/none")
    await close_connections()


def source(kafka: MockKafka, of: str, topic: str, **given: Any) -> KafkaSource:
    defaults = {"tenant": "header:tenant", "tenants": [of], "name": topic.replace(".", "-")[:30]}
    defaults["options"] = {"heartbeat.interval.ms": "200", "session.timeout.ms": "6000"}
    return KafkaSource(servers=f"kafka://{kafka.address}", topics=(topic,), **{**defaults, **given})


class Monitor:
    """Keeps what a source reports."""

    def __init__(self) -> None:
        self.lags: dict[int, int] = {}
        self.refused: Counter[tuple[str, str]] = Counter()

    def report_lag(self, source: str, topic: str, partition: int, messages: int) -> None:
        self.lags[partition] = messages

    def count_refused(self, source: str, topic: str) -> None:
        self.refused[source, topic] += 1


@asynccontextmanager
async def taking(config: StoreConfig, source: KafkaSource, tenant: str) -> AsyncIterator[Any]:
    async def tenants() -> list[str]:
        return [tenant, "globex"]

    async def uncounted(_: str) -> Usage:
        return UNCOUNTED

    stop, monitor = asyncio.Event(), Monitor()
    reader = KafkaSourceReader(config, source, tenants, uncounted, monitor)
    task = asyncio.create_task(reader.run(stop))
    yield monitor
    stop.set()
    await task


async def events_of(config: StoreConfig, tenant: str, count: int) -> list[Event]:
    store = EventStore(config, tenant)
    async with asyncio.timeout(60):
        while await store.length() < count:
            await asyncio.sleep(0.05)
    return [event async for _, event in store.read()]


async def test_cloudevents_of_both_modes_are_taken(
    kafka: MockKafka, config: StoreConfig, tenant: str
):
    topic, of = f"ce.{tenant}", {"tenant": tenant}
    event = {"specversion": "1.0", "id": "1", "source": "crm", "type": "a.b", "data": {"x": 1}}
    structured = {"content-type": "application/cloudevents+json; charset=UTF-8", **of}
    kafka.send(topic, json.dumps(event).encode(), headers=structured)
    binary = {
        **{"ce_specversion": "1.0", "ce_id": "2", "ce_source": "crm", "ce_type": "a.c"},
        **{"ce_time": "2026-11-28T10:00:00Z", "ce_subject": "s", "ce_region": "eu", **of},
    }
    kafka.send(topic, b'{"y": 2}', headers={"content-type": "application/json", **binary})
    async with taking(config, source(kafka, tenant, topic), tenant):
        found = {event.id: event for event in await events_of(config, tenant, 2)}
    assert (found["1"].type, found["1"].source, found["1"].data) == ("a.b", "crm", {"x": 1})
    second = found["2"].model_dump(mode="json")
    assert second == {
        **{"specversion": "1.0", "id": "2", "source": "crm", "type": "a.c", "subject": "s"},
        **{"time": "2026-11-28T10:00:00Z", "data": {"y": 2}, "region": "eu"},
    }


async def test_json_is_taken_by_a_mapping(kafka: MockKafka, config: StoreConfig, tenant: str):
    topic = f"orders.{tenant}.v1"
    given = source(
        kafka, tenant, topic, tenant="topic:orders.{tenant}.v1", format="json", type="order.placed",
        fields={"id": "order", "time": "at", "subject": "user"},
    )  # fmt: skip
    row = {"order": 7, "at": 1_790_000_000_000, "user": "ana", "total": 3.5}
    kafka.send(topic, json.dumps(row).encode())
    async with taking(config, given, tenant):
        [event] = await events_of(config, tenant, 1)
    assert (event.id, event.type, event.subject, event.data) == ("7", "order.placed", "ana", row)
    assert event.time.isoformat() == "2026-09-21T14:13:20+00:00"


async def test_changes_of_a_table_become_item_events(
    kafka: MockKafka, config: StoreConfig, tenant: str
):
    topic = f"db.{tenant}"
    given = source(
        kafka, tenant, topic, tenant="key", format="debezium",
        fields={"title": "name", "board_id": "board"},
    )  # fmt: skip
    row, at = {"id": 5, "name": "Plan", "board": "b"}, 1_790_000_000_000
    changes = [
        {"op": "c", "before": None, "after": row, "ts_ms": at},
        {"payload": {"op": "u", "before": row, "after": {**row, "name": "Plans"}, "ts_ms": at + 1}},
        {"op": "d", "before": row, "after": None, "ts_ms": at + 2},
    ]
    for change in changes:
        kafka.send(topic, json.dumps(change).encode(), tenant)
    kafka.send(topic, None, tenant)  # the tombstone that follows a deletion
    async with taking(config, given, tenant):
        found = await events_of(config, tenant, 3)
        assert [event.type for event in found] == ["item.created", "item.updated", "item.deleted"]
        assert [event.data["title"] for event in found] == ["Plan", "Plans", "Plan"]
        assert {(event.subject, event.data["id"], event.data["board_id"]) for event in found} == {
            ("5", "5", "b")
        }
        async with asyncio.timeout(60):  # the tombstone is committed too
            while await asyncio.to_thread(kafka.committed, f"shoal.{given.name}", topic) < 4:
                await asyncio.sleep(0.1)
        assert await RedisEventLog(config).dead_letters(tenant) == []


async def test_poison_and_foreign_messages_hold_nothing_up(
    kafka: MockKafka, config: StoreConfig, tenant: str
):
    topic, of = f"poison.{tenant}", {"tenant": tenant}
    bad = [b"", b"{", b"[]", b'"x"', b"\xff", b'{"id": {}}', b'{"t": "never"}', b"[" * 5_000]
    given = source(kafka, tenant, topic, format="json", type="x", fields={"time": "t"})
    for value in bad:
        kafka.send(topic, value, headers=of)
    for other in ("globex", "nobody", "", "*"):
        kafka.send(topic, b'{"t": 1}', headers={"tenant": other})
    kafka.send(topic, b'{"t": 1}')
    kafka.send(topic, b'{"t": 1, "good": true}', headers=of)
    async with taking(config, given, tenant) as monitor:
        [event] = await events_of(config, tenant, 1)
        log = RedisEventLog(config)
        async with asyncio.timeout(60):
            while len(await log.dead_letters(tenant)) < len(bad):
                await asyncio.sleep(0.05)
        assert monitor.refused == {(given.name, topic): 5}
    assert event.data["good"]
    letters = await log.dead_letters(tenant)
    assert {letter.group for letter in letters} == {f"kafka.{given.name}"}
    assert all(letter.error for letter in letters)
    assert await EventStore(config, "globex").length() == 0


async def test_messages_wait_in_kafka_while_the_log_is_down(
    kafka: MockKafka, redis_server: RedisServer, config: StoreConfig, tenant: str
):
    topic, count = f"wait.{tenant}", 300
    given = source(kafka, tenant, topic, format="json", type="x", fields={"id": "n"})
    async with taking(config, given, tenant) as monitor:
        await asyncio.to_thread(redis_server.client.config_set, "maxmemory", 1)
        try:
            for number in range(count):
                kafka.producer.produce(
                    topic, json.dumps({"n": number}).encode(), headers={"tenant": tenant}
                )
            kafka.producer.flush(20)
            await asyncio.sleep(2)
            group = f"shoal.{given.name}"
            assert await asyncio.to_thread(kafka.committed, group, topic) == 0
        finally:
            await asyncio.to_thread(redis_server.client.config_set, "maxmemory", 0)
        found = await events_of(config, tenant, count)
        assert {event.id for event in found} == {str(n) for n in range(count)}
        async with asyncio.timeout(60):
            while await asyncio.to_thread(kafka.committed, group, topic) < count:
                await asyncio.sleep(0.1)
            while sum(monitor.lags.values()) or not monitor.lags:
                await asyncio.sleep(0.1)


async def test_workers_share_partitions_and_lose_nothing(
    kafka: MockKafka, config: StoreConfig, tenant: str
):
    topic = f"share.{tenant}"
    given = source(kafka, tenant, topic, format="json", type="x", fields={"id": "n"})
    for number in range(200):
        kafka.producer.produce(
            topic, json.dumps({"n": number}).encode(), f"k{number}", headers={"tenant": tenant}
        )
    kafka.producer.flush(20)
    async with taking(config, given, tenant):
        await events_of(config, tenant, 1)
    async with taking(config, given, tenant), taking(config, given, tenant):
        async with asyncio.timeout(60):
            while len({e.id for e in await events_of(config, tenant, 1)}) < 200:
                await asyncio.sleep(0.1)


@pytest.mark.parametrize("mode", ["structured", "binary"])
async def test_a_sink_mirrors_its_types_in_order(
    kafka: MockKafka, config: StoreConfig, tenant: str, mode: str
):
    topic, stop = f"sink.{mode}.{tenant}", asyncio.Event()
    sink = KafkaSink(
        name="out", servers=f"kafka://{kafka.address}", topic=topic, types=("a.*",), mode=mode
    )
    writer, log = KafkaSinkWriter(sink), RedisEventLog(config)

    async def just() -> list[str]:
        return [tenant]

    task = asyncio.create_task(
        log.consume("kafka.out", "w", writer.handle, types=sink.types, tenants=just, stop=stop)
    )
    given = [
        Event(id=str(n), type="ab"[n % 2] + ".x", data={"n": n}, region="eu") for n in range(40)
    ]
    await EventStore(config, tenant).append(given)
    found = await asyncio.to_thread(kafka.read, topic, 20)
    stop.set()
    await task
    assert {(key, headers["tenant"]) for key, _, headers in found} == {(tenant.encode(),) * 2}
    if mode == "structured":
        events = [Event.model_validate_json(value) for _, value, _ in found]
        assert events == given[::2]
    else:
        assert [json.loads(value) for _, value, _ in found] == [e.data for e in given[::2]]
        assert [h["ce_id"].decode() for *_, h in found] == [e.id for e in given[::2]]
        assert {h["ce_region"] for *_, h in found} == {b"eu"}


BYTES = st.one_of(st.none(), st.binary(max_size=20), st.text(max_size=20).map(str.encode))


@given(BYTES, BYTES, st.dictionaries(st.text(max_size=5), st.binary(max_size=9), max_size=3))
async def test_a_message_is_kept_as_it_was(
    key: bytes | None, value: bytes | None, headers: dict[str, bytes]
) -> None:
    message = Message("t", 3, 7, key, value, headers)
    stored = keep_message(message).model_dump_json()
    assert kept_message(Event.model_validate_json(stored)) == message


async def test_a_message_larger_than_any_event_is_cut() -> None:
    event = keep_message(Message("t", 3, 7, None, b"\xff" * (MAX_EVENT_BYTES + 1), {}))
    assert len(event.model_dump_json()) < MAX_EVENT_BYTES
    with pytest.raises(ValueError, match="524,289 bytes"):
        kept_message(event)
