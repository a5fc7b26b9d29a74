"""Archiving the event log to the lake."""

import asyncio
import json
from datetime import UTC, date, datetime, timedelta

import pytest

from shoal import Conflict, Event
from shoal.eventlog import archive, keys
from shoal.eventlog.archive import SCHEMA
from shoal.eventlog.redis_log import RedisEventLog
from shoal.stores import lake as lake_module
from shoal.stores.configuration import StoreConfig
from shoal.stores.connections import close_connections
from shoal.stores.redis_client import async_redis
from shoal.tenants.tenant_stores import TenantStores

from .test_log import Recorder, following

pytestmark = pytest.mark.anyio

NOW = timedelta(0)


def made(start: int, stop: int, **fields: object) -> list[Event]:
    return [Event(id=str(i), type="x", data={"n": i}, **fields) for i in range(start, stop)]


async def ids(stores: TenantStores) -> list[int]:
    rows = await stores.lake.read("events", columns=["id"])
    return [] if rows is None else sorted(int(i) for i in rows["id"].to_pylist())


async def test_events_are_archived_by_their_utc_day(stores: TenantStores, config: StoreConfig):
    event = Event(
        id="1",
        source="s",
        type="x",
        time="2026-03-01T23:30:00-02:00",
        subject="ana",
        data={"a": None},
        traceparent="t",
    )
    positions = await stores.events.append([event, *made(2, 3, time="2026-03-01T23:30:00Z")])
    assert await RedisEventLog(config).archive(stores._tenant) == 2
    assert await stores.lake.days("events") == [date(2026, 3, 1), date(2026, 3, 2)]
    rows = await stores.lake.read("events", date(2026, 3, 2))
    assert rows.schema.remove(len(SCHEMA)) == SCHEMA
    (row,) = rows.to_pylist()
    assert row == {
        "id": "1",
        "source": "s",
        "type": "x",
        "time": datetime(2026, 3, 2, 1, 30, tzinfo=UTC),
        "subject": "ana",
        "data": '{"a": null}',
        "attributes": '{"traceparent": "t"}',
        "position": positions[0],
        "date": "2026-03-02",
    }


async def test_events_of_the_first_and_last_day_are_archived(
    stores: TenantStores, config: StoreConfig, tenant: str
):
    await stores.events.append(
        made(0, 1, time="0001-01-01T00:00:00+14:00") + made(1, 2, time="9999-12-31T23:59:59-12:00")
    )
    await RedisEventLog(config).archive(tenant)
    assert await ids(stores) == [0, 1]


async def test_archiving_again_adds_only_what_is_new(
    stores: TenantStores, config: StoreConfig, tenant: str, monkeypatch
):
    monkeypatch.setattr(archive, "CHUNK", 10)
    log = RedisEventLog(config)
    await stores.events.append(made(0, 25))
    assert await log.archive(tenant) == 25
    assert await log.archive(tenant) == 0
    await stores.events.append(made(25, 30))
    assert await log.archive(tenant) == 5
    assert await ids(stores) == list(range(30))


@pytest.mark.parametrize("compacted", [False, True])
async def test_a_crash_after_writing_the_files_duplicates_nothing(
    stores: TenantStores, config: StoreConfig, tenant: str, monkeypatch, compacted: bool
):
    log, write = RedisEventLog(config), archive._write
    await stores.events.append(made(0, 5))
    await log.archive(tenant, NOW)
    await stores.events.append(made(5, 10))

    def crash(*args: object) -> None:
        write(*args)
        raise KeyError("crash")

    monkeypatch.setattr(archive, "_write", crash)
    with pytest.raises(KeyError):
        await log.archive(tenant)
    monkeypatch.setattr(archive, "_write", write)
    if compacted:
        monkeypatch.setattr(lake_module, "SETTLED", -1.0)
        for _ in range(2):
            await stores.lake.compact("events", least=2)
    await stores.events.append(made(10, 12))
    await log.archive(tenant)
    assert await ids(stores) == list(range(12))


async def test_only_events_that_every_group_handled_are_trimmed(
    stores: TenantStores, config: StoreConfig, tenant: str
):
    log = RedisEventLog(config)
    positions = await stores.events.append(made(0, 10))
    await log.replay(tenant, "slow", after=positions[3])
    await log.archive(tenant, NOW)
    assert [p async for p, _ in stores.events.read()] == positions[3:]
    await log.forget_group(tenant, "slow")
    await log.archive(tenant, NOW)
    assert await stores.events.length() == 1
    assert await ids(stores) == list(range(10))


async def test_recent_events_stay_in_the_log(
    stores: TenantStores, config: StoreConfig, tenant: str
):
    await stores.events.append(made(0, 10))
    await RedisEventLog(config).archive(tenant)
    assert await stores.events.length() == 10


async def test_a_replay_includes_archived_events_in_order(
    stores: TenantStores, config: StoreConfig, tenant: str
):
    log, recorder = RedisEventLog(config), Recorder()
    positions = await stores.events.append(made(0, 6, time="2026-03-01T00:00:00Z") + made(6, 10))
    await log.archive(tenant, NOW)
    await stores.events.append(made(10, 15))
    assert await stores.events.length() < 10
    assert await log.replay(tenant, "new", after=positions[1]) == 13
    async with following(config, recorder, tenant, group="new"):
        assert await recorder.until(tenant, 13) == list(range(2, 15))


async def test_an_archived_event_is_read_back_unchanged(
    stores: TenantStores, config: StoreConfig, tenant: str
):
    event = Event(
        id="1",
        type="x",
        time="2026-03-01T00:00:00.123456Z",
        data={"a": [1.5, "ü", None]},
        traceparent="t",
    )
    await stores.events.append([event, *made(2, 3)])
    await RedisEventLog(config).archive(tenant, NOW)
    assert next(e for _, e in archive.archived_events(stores.lake._folder(), "0", None)) == event
    assert json.loads((await stores.lake.read("events"))["data"][0].as_py()) == event.data


async def test_a_log_is_archived_by_one_at_a_time(
    stores: TenantStores, config: StoreConfig, tenant: str
):
    await async_redis(config.online).set(keys.lease(tenant, "archive"), "another", px=5000)
    with pytest.raises(Conflict):
        await RedisEventLog(config).archive(tenant)


async def test_archiving_nothing_is_allowed(stores: TenantStores, config: StoreConfig, tenant: str):
    assert await RedisEventLog(config).archive(tenant) == 0


def test_archiving_works_in_one_event_loop_after_another(config: StoreConfig, tenant: str):
    async def once() -> int:
        try:
            return await RedisEventLog(config).archive(tenant)
        finally:
            await close_connections()

    assert [asyncio.run(once()) for _ in range(2)] == [0, 0]
