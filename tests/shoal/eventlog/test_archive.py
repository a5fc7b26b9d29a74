"""Archiving the event log to the lake."""

import asyncio
import contextlib
import json
import secrets
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal import Conflict, Event
from shoal.eventlog import archive, keys
from shoal.eventlog.archive import SCHEMA
from shoal.eventlog.redis_log import RedisEventLog
from shoal.stores import lake_table
from shoal.stores.configuration import StoreConfig
from shoal.stores.connections import close_connections
from shoal.stores.lake_table import LakeTable
from shoal.stores.redis_client import async_redis
from shoal.tenants.tenant_stores import TenantStores, open_stores

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
        made(0, 1, time="0001-01-01T14:00:00+14:00") + made(1, 2, time="9999-12-31T11:59:59-12:00")
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


STEPS = ["marks", "append", "hset"]
"""What an archiving does to the lake and to Redis, in that order."""


class Crash(Exception):
    pass


@contextlib.contextmanager
def crashing(step: str, after: bool) -> Iterator[None]:
    """Have archivings end at a step, before or after it took effect."""
    owner: Any = type(async_redis("redis://h")) if step == "hset" else LakeTable
    act = getattr(owner, step)

    def crash(*given: Any, **named: Any) -> Any:
        if after:
            act(*given, **named)
        raise Crash

    async def crash_later(*given: Any, **named: Any) -> Any:
        if after:
            await act(*given, **named)
        raise Crash

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, step, crash_later if step == "hset" else crash)
        yield


histories = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 8)),
        st.tuples(st.just("archive"), st.booleans()),
        st.tuples(st.just("crash"), st.sampled_from(STEPS), st.booleans()),
        st.tuples(st.just("compact"), st.booleans()),
        st.tuples(st.just("archive twice at once")),
        st.tuples(st.just("forget"), st.sampled_from(["done", "archived"])),
    ),
    max_size=12,
)


@given(history=histories)
@settings(max_examples=25)
def test_any_history_archives_each_event_once(config: StoreConfig, history: list[Any]):
    tenant, written = f"acme-{secrets.token_hex(4)}", 0
    log, stores = RedisEventLog(config), open_stores(config, tenant, "notes")

    async def play(step: tuple[Any, ...]) -> None:
        nonlocal written
        match step:
            case ("append", count):
                # Of three days, so that one chunk is of several files.
                for n in range(written, written + count):
                    day = f"2026-03-0{n % 3 + 1}T00:00:00Z"
                    await stores.events.append(made(n, n + 1, time=day))
                written += count
            case ("archive", trim):
                await log.archive(tenant, NOW if trim else timedelta(hours=1))
            case ("crash", where, after):
                with crashing(where, after), contextlib.suppress(Crash):
                    await log.archive(tenant, NOW)
            case ("compact", an_hour_later):
                with pytest.MonkeyPatch.context() as patch:
                    if an_hour_later:
                        patch.setattr(lake_table, "RETENTION_HOURS", 0)
                    await stores.lake.compact("events", 2)
            case ("archive twice at once",):
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(archive, "acquire_lease", no_lease)
                    await asyncio.gather(
                        *(log.archive(tenant, NOW) for _ in range(2)), return_exceptions=True
                    )
            case ("forget", field):
                await async_redis(config.events).hdel(keys.archive(tenant), field)

    async def whole() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(archive, "CHUNK", 5)
            for step in history:
                await play(step)
                tail = [int(e.id) async for _, e in stores.events.read()]
                assert set(range(written)) == {*tail, *await ids(stores)}
            await log.archive(tenant)
            assert await ids(stores) == list(range(written))
        await close_connections()

    asyncio.run(whole())


async def no_lease(*_: Any) -> bool:
    return True


async def test_a_busy_log_is_archived_up_to_where_it_was(
    stores: TenantStores, config: StoreConfig, tenant: str, monkeypatch
):
    monkeypatch.setattr(archive, "CHUNK", 10)
    await stores.events.append(made(0, 25))
    rows, appended = archive._rows, 25

    def busy(entries: Any) -> Any:
        """A hundred more events for each chunk that is written."""
        nonlocal appended

        async def more() -> None:
            await open_stores(config, tenant, "notes").events.append(made(appended, appended + 100))
            await close_connections()

        asyncio.run(more())
        appended += 100
        return rows(entries)

    monkeypatch.setattr(archive, "_rows", busy)
    assert await RedisEventLog(config).archive(tenant) == 25
    assert await ids(stores) == list(range(25))


async def test_few_events_wait_for_others(
    stores: TenantStores, config: StoreConfig, tenant: str, monkeypatch
):
    log, wait = RedisEventLog(config), timedelta(seconds=0.3)
    await stores.events.append(made(0, 5))
    assert await log.archive(tenant, wait=timedelta(minutes=5)) == 0
    await asyncio.sleep(0.35)
    assert await log.archive(tenant, wait=wait) == 5
    monkeypatch.setattr(archive, "CHUNK", 10)
    await stores.events.append(made(5, 14))
    assert await log.archive(tenant, wait=timedelta(minutes=5)) == 0
    await stores.events.append(made(14, 15))
    assert await log.archive(tenant, wait=timedelta(minutes=5)) == 10


async def test_events_of_very_many_days_are_archived(
    stores: TenantStores, config: StoreConfig, tenant: str, monkeypatch
):
    monkeypatch.setattr(archive, "CHUNK_DAYS", 7)
    start = datetime(2000, 1, 1, tzinfo=UTC)
    await stores.events.append(
        [Event(id=str(n), type="x", time=start + timedelta(days=n)) for n in range(20)]
    )
    assert await RedisEventLog(config).archive(tenant) == 20
    assert len(await stores.lake.days("events")) == 20
    assert await ids(stores) == list(range(20))


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


async def test_a_long_log_is_trimmed_in_steps(
    stores: TenantStores, config: StoreConfig, tenant: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("shoal.eventlog.archive.TRIMMED_AT_ONCE", 150)
    await stores.events.append(made(0, 1234))
    await RedisEventLog(config).archive(tenant, NOW)
    assert await stores.events.length() <= 1
    assert await ids(stores) == list(range(1234))


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
    live = [position async for position, _ in stores.events.read()]
    assert recorder.positions == positions[2:] + live[-5:]


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
    assert (
        next(e for _, e in archive.archived_events(stores.lake._table("events"), "0", None))
        == event
    )
    assert json.loads((await stores.lake.read("events"))["data"][0].as_py()) == event.data


async def test_a_log_is_archived_by_one_at_a_time(
    stores: TenantStores, config: StoreConfig, tenant: str
):
    await stores.events.append(made(0, 1))
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
