"""The stream side behind a stream worker: failures, crashes and wrong clocks."""

import asyncio
import subprocess
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import orjson
import pytest

from shoal import Event, Unavailable
from shoal.eventlog.consumer import Consumer
from shoal.eventlog.redis_log import RedisEventLog
from shoal.eventlog.subscription import Subscription
from shoal.stores.configuration import StoreConfig
from shoal.stores.connections import close_connections
from shoal.tenants.tenant_stores import open_stores
from shoal.testing.servers import free_port
from shoal_features import ingest
from shoal_features.freshness import view_freshness
from shoal_features.ingest import GRACE, LATE_RUNS, ingest_events, publish_late_runs
from shoal_features.online import ReadPlan, read_values

from .shared import REGISTRY

pytestmark = pytest.mark.anyio

NOW = 1_763_900_000_000_000
S = 1_000_000


def event(n: int, seconds_ago: float = 1, now: int | None = None, **data) -> Event:
    at = datetime.now(UTC) if now is None else datetime.fromtimestamp(now / 1e6, UTC)
    return Event(
        id=f"e{n}",
        type="item.viewed",
        time=at - timedelta(seconds=seconds_ago),
        data={"user_id": "1", "board_id": f"b{n}", **data},
    )


async def served(online, now: int | None = None, user: str = "1") -> dict:
    names = ["actions_5min", "actions", "last_action_type", "current_board"]
    plan = ReadPlan("user", REGISTRY.resolve("user", names))
    now = now or time.time_ns() // 1000
    answers = (await read_values(online, plan, [user], now))[0]
    return {n: orjson.loads(a.json) for n, a in zip(names, answers, strict=True)}


@asynccontextmanager
async def worker(stores, handler, name: str = "w1", **options):
    async def known():
        return [stores.online._tenant]

    subscription = Subscription(
        "features.windows", handler, batch_size=options.pop("batch_size", 256), deliveries=3
    )
    consumer = Consumer(
        stores.online._config, subscription, name, tenants=known, backoff=0.01, **options
    )
    task = asyncio.create_task(consumer.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def until(condition, seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.01)


async def test_a_worker_that_dies_before_acknowledging_changes_no_count(stores):
    handled = asyncio.Event()

    async def dies(tenant: str, events: list[Event]) -> None:
        await ingest_events(stores.online, REGISTRY, events)
        handled.set()
        await asyncio.sleep(3600)

    async def works(tenant: str, events: list[Event]) -> None:
        await ingest_events(stores.online, REGISTRY, events)

    await stores.events.append([event(n) for n in range(50)])
    async with worker(stores, dies, lease=0.3) as first:
        await asyncio.wait_for(handled.wait(), 60)
        first.cancel()
    assert (await served(stores.online))["actions"] == 50
    await stores.events.append([event(n) for n in range(40, 60)])
    async with worker(stores, works, "w2", lease=0.3):

        async def done() -> bool:
            return (await served(stores.online))["actions"] == 60 and not (
                await RedisEventLog(stores.online._config).groups(stores.online._tenant)
            )[0].lag

        await until(done)
    assert (await served(stores.online))["actions"] == 60


async def test_a_poison_event_is_dead_lettered_and_others_are_handled(stores):
    async def works(tenant: str, events: list[Event]) -> None:
        if any(e.id == "e3" for e in events):
            raise ValueError("poison")
        await ingest_events(stores.online, REGISTRY, events)

    await stores.events.append([event(n) for n in range(10)])
    async with worker(stores, works):

        async def done() -> bool:
            return (await served(stores.online))["actions"] == 9

        await until(done)
    letters = await RedisEventLog(stores.online._config).dead_letters(stores.online._tenant)
    assert [x.event.id for x in letters] == ["e3"]


HOSTILE = [
    None,
    [],
    "text",
    7,
    {"user_id": {}},
    {"user_id": "x" * 5000},
    {"user_id": "1", "board_id": {"a": [1]}},
    {"user_id": "1", "board_id": 2**63},
    {"user_id": "1", "board_id": 1e308},
    {"user_id": "1", "board_id": "\x00"},
    {"user_id": "é:{}%", "board_id": "é"},
    {"user_id": True},
    {"user": 12, "board_id": False},
]


@pytest.mark.parametrize("at", [NOW / S, 0, -5_000_000_000, 9_000_000_000, 253_000_000_000])
async def test_no_event_makes_the_windows_fail(stores, at):
    times = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=at)
    events = [
        Event(id=f"h{n}", type="item.viewed", time=times, data=data)
        for n, data in enumerate(HOSTILE)
    ]
    await ingest_events(stores.online, REGISTRY, events)
    await ingest_events(stores.online, REGISTRY, [event(1)])
    assert (await served(stores.online))["actions_5min"] == 1


async def test_an_event_ahead_of_the_clock_waits_until_due(stores):
    online = stores.online
    await ingest_events(online, REGISTRY, [event(1, 0, NOW), event(2, -3600, NOW)], NOW)
    assert await served(online, NOW) == {
        "actions_5min": 1,
        "actions": 1,
        "last_action_type": "item.viewed",
        "current_board": "b1",
    }
    views = {v["view"]: v for v in await view_freshness(online, REGISTRY, NOW)}
    assert (views["user_activity"]["ahead_of_time"], views["user_place"]["ahead_of_time"]) == (1, 1)
    later = NOW + 3600 * S
    await ingest_events(online, REGISTRY, [], later)
    assert await served(online, later) == {
        "actions_5min": 1,
        "actions": 2,
        "last_action_type": "item.viewed",
        "current_board": "b2",
    }
    views = {v["view"]: v for v in await view_freshness(online, REGISTRY, later)}
    assert views["user_activity"]["ahead_of_time"] == 0


async def test_older_events_do_not_change_the_newest_time(stores):
    await ingest_events(stores.online, REGISTRY, [event(1, 10, NOW)], NOW)
    await ingest_events(stores.online, REGISTRY, [event(2, 400, NOW)], NOW + 2 * S)
    view = next(
        v
        for v in await view_freshness(stores.online, REGISTRY, NOW + 5 * S)
        if v["view"] == "user_activity"
    )
    assert view["age_seconds"] == 15
    assert view["lag_seconds"] == 402


async def test_an_event_too_late_is_counted_once(stores):
    retention = REGISTRY.view("user_activity").retention
    late = [event(1, retention + GRACE + 1, NOW)] * 2
    for _ in range(2):
        await ingest_events(stores.online, REGISTRY, late, NOW)
    view = next(
        v
        for v in await view_freshness(stores.online, REGISTRY, NOW)
        if v["view"] == "user_activity"
    )
    assert view["too_late"] == 1


async def test_a_run_past_its_deadline_is_published_as_a_metric(stores):
    def late(job: str) -> Event:
        return Event(
            id=f"late/{job}",
            source="shoal/jobs",
            type="shoal.job.late",
            subject=job,
            data={"job": job},
        )

    await publish_late_runs(
        stores.events, [late("features.materialize"), late("search.load"), event(1)]
    )
    points = [e async for _, e in stores.events.read(types=["metric"])]
    assert [(p.id, p.data["metric"], p.data["value"]) for p in points] == [
        ("late/features.materialize", LATE_RUNS, 1)
    ]


async def test_no_accepted_event_is_lost_when_redis_restarts(tmp_path):
    port = free_port()
    command = [
        "redis-server",
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--dir",
        str(tmp_path),
        "--loglevel",
        "warning",
    ]
    command += ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]

    def start() -> subprocess.Popen:
        return subprocess.Popen(command, stdout=subprocess.DEVNULL)

    stores = open_stores(
        StoreConfig(
            online=f"redis://127.0.0.1:{port}/0",
            vectors="http://127.0.0.1:1",
            lake=str(tmp_path / "lake"),
        ),
        "acme",
        "features",
    )
    redis = start()
    try:

        async def up() -> bool:
            try:
                return bool(await stores.online.set("up", 1))
            except Unavailable:
                return False

        await until(up)

        async def works(tenant: str, events: list[Event]) -> None:
            await ingest_events(stores.online, REGISTRY, events)

        await stores.events.append([event(n) for n in range(20)])
        async with worker(stores, works):
            redis.kill()
            redis.wait()
            with pytest.raises(Unavailable):
                await served(stores.online)
            redis = start()
            await until(up)
            await stores.events.append([event(n) for n in range(20, 30)])

            async def done() -> bool:
                try:
                    return (await served(stores.online))["actions"] == 30
                except Unavailable:
                    return False

            await until(done)
    finally:
        redis.kill()
        redis.wait()
        await close_connections()


def test_a_stored_future_event_is_unchanged():
    (row,) = ingest.event_rows(REGISTRY.view("user_place"), [event(1)])
    assert ingest._decode_row(ingest._encode_row(row)) == row
