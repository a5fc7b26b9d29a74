"""Following the event log: groups, retries, dead letters, replay."""

import asyncio
import collections
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from shoal import Event, NotFound, Unavailable
from shoal.eventlog.consumer import Consumer
from shoal.eventlog.redis_log import RedisEventLog
from shoal.eventlog.subscription import Subscription
from shoal.stores.configuration import StoreConfig
from shoal.stores.redis_client import async_redis
from shoal.tenants.tenant_stores import TenantStores, open_stores

pytestmark = pytest.mark.anyio


def made(start: int, stop: int, type: str = "item.created") -> list[Event]:
    return [Event(id=str(i), type=type) for i in range(start, stop)]


class Recorder:
    """A handler that notes what it got."""

    def __init__(self, fault: Callable[[str, Event], Exception | None] = lambda *_: None) -> None:
        self.seen: dict[str, list[int]] = collections.defaultdict(list)
        self.positions: list[str | None] = []
        self.batches: list[int] = []
        self.fault = fault
        self.calls = 0

    async def __call__(self, tenant: str, events: list[Event]) -> None:
        self.calls += 1
        self.batches.append(len(events))
        for event in events:
            if error := self.fault(tenant, event):
                raise error
            self.seen[tenant].append(int(event.id))
            self.positions.append(event.position)

    async def until(self, tenant: str, count: int, seconds: float = 60) -> list[int]:
        async with asyncio.timeout(seconds):
            while len(set(self.seen[tenant])) < count:
                await asyncio.sleep(0.005)
        return self.seen[tenant]


@asynccontextmanager
async def following(
    config: StoreConfig,
    handler: Recorder,
    *tenants: str,
    group: str = "search",
    worker: str = "w1",
    **options: Any,
) -> AsyncIterator[None]:
    async def known() -> list[str]:
        return list(tenants)

    subscription = Subscription(
        group,
        handler,
        **{k: options.pop(k) for k in ("types", "batch_size", "deliveries") if k in options},
    )
    consumer = Consumer(config, subscription, worker, tenants=known, backoff=0.01, **options)
    task = asyncio.create_task(consumer.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_a_group_gets_old_and_new_events_in_order(
    stores: TenantStores, config: StoreConfig, tenant: str
):
    await stores.events.append(made(0, 1000))
    recorder = Recorder()
    async with following(config, recorder, tenant):
        await recorder.until(tenant, 1000)
        await stores.events.append(made(1000, 1500))
        assert await recorder.until(tenant, 1500) == list(range(1500))
    assert max(recorder.batches) == 256


async def test_each_group_gets_everything_and_only_its_types(
    stores: TenantStores, config: StoreConfig, tenant: str
):
    every, items = Recorder(), Recorder()
    async with (
        following(config, every, tenant, group="all"),
        following(config, items, tenant, group="items", types=("item.*",)),
    ):
        await stores.events.append([*made(0, 2), *made(2, 4, "metric"), *made(4, 5)])
        assert await every.until(tenant, 5) == [0, 1, 2, 3, 4]
        assert await items.until(tenant, 3) == [0, 1, 4]


async def test_a_group_continues_where_it_stopped(
    stores: TenantStores, config: StoreConfig, tenant: str
):
    for start in (0, 5):
        await stores.events.append(made(start, start + 5))
        recorder = Recorder()
        async with following(config, recorder, tenant):
            assert await recorder.until(tenant, 5) == list(range(start, start + 5))
            async with asyncio.timeout(60):
                while (await RedisEventLog(config).groups(tenant))[0].lag:
                    await asyncio.sleep(0.01)


async def test_an_event_that_fails_once_is_delivered_again_in_order(
    stores: TenantStores, config: StoreConfig, tenant: str
):
    left = [3]

    def fault(_: str, event: Event) -> Exception | None:
        left[0] -= event.id == "4"
        return ValueError("not yet") if event.id == "4" and left[0] >= 0 else None

    recorder = Recorder(fault)
    await stores.events.append(made(0, 8))
    async with following(config, recorder, tenant):
        seen = await recorder.until(tenant, 8)
    assert list(dict.fromkeys(seen)) == list(range(8))
    assert await RedisEventLog(config).dead_letters(tenant) == []


async def test_only_an_event_that_always_fails_becomes_a_dead_letter(
    stores: TenantStores, config: StoreConfig, tenant: str
):
    recorder = Recorder(
        lambda _, event: ValueError("bad ünïts") if event.id in ("2", "3") else None
    )
    positions = await stores.events.append(made(0, 6))
    async with following(config, recorder, tenant, deliveries=3):
        assert list(dict.fromkeys(await recorder.until(tenant, 4))) == [0, 1, 4, 5]
    letters = await RedisEventLog(config).dead_letters(tenant)
    assert [(x.event.id, x.group, x.position, x.deliveries) for x in letters] == [
        ("2", "search", positions[2], 3),
        ("3", "search", positions[3], 3),
    ]
    assert letters[0].error == "ValueError: bad ünïts"
    assert await RedisEventLog(config).dead_letters(tenant, group="other") == []
    assert len(await RedisEventLog(config).dead_letters(tenant, limit=1)) == 1
    assert [
        x.event.id for x in await RedisEventLog(config).dead_letters(tenant, after=letters[0].id)
    ] == ["3"]


async def test_dead_letters_are_replayed_first_to_their_group_alone(
    stores: TenantStores, config: StoreConfig, tenant: str
):
    log, broken = RedisEventLog(config), [True]
    recorder, other = Recorder(lambda *_: ValueError("broken") if broken[0] else None), Recorder()
    await stores.events.append(made(0, 3))
    async with (
        following(config, recorder, tenant, deliveries=1),
        following(config, other, tenant, group="other"),
    ):
        async with asyncio.timeout(60):
            while len(await log.dead_letters(tenant)) < 3:
                await asyncio.sleep(0.01)
    letters = await log.dead_letters(tenant)
    await stores.events.append(made(3, 5))
    broken[0] = False
    with pytest.raises(NotFound):
        await log.replay(tenant, "other", ids=[letters[0].id])
    assert await log.replay(tenant, "search", ids=[letters[2].id, letters[0].id]) == 2
    places = [position async for position, _ in stores.events.read()]
    async with following(config, recorder, tenant), following(config, other, tenant, group="other"):
        assert await recorder.until(tenant, 4) == [0, 2, 3, 4]
        assert recorder.positions == [places[n] for n in (0, 2, 3, 4)]
        assert await other.until(tenant, 5) == [0, 1, 2, 3, 4]
    assert [x.event.id for x in await log.dead_letters(tenant)] == ["1"]
    assert await log.delete_dead_letters(tenant, [letters[1].id]) == 1
    assert await log.dead_letters(tenant) == []


async def test_an_unavailable_store_makes_no_dead_letters(
    stores: TenantStores, config: StoreConfig, tenant: str
):
    left = [7]

    def fault(_: str, event: Event) -> Exception | None:
        left[0] -= 1
        return Unavailable("Milvus is unavailable") if left[0] > 0 else None

    recorder = Recorder(fault)
    await stores.events.append(made(0, 3))
    async with following(config, recorder, tenant, deliveries=2):
        assert await recorder.until(tenant, 3, 30) == [0, 1, 2]
    assert await RedisEventLog(config).dead_letters(tenant) == []


async def test_a_failing_tenant_does_not_delay_another(
    stores: TenantStores, config: StoreConfig, tenant: str
):
    other = open_stores(config, f"{tenant}-2", "notes")
    recorder = Recorder(lambda t, _: Unavailable("unavailable") if t == tenant else None)
    await stores.events.append(made(0, 3))
    async with following(config, recorder, tenant, f"{tenant}-2", concurrency=1):
        await other.events.append(made(0, 3))
        assert await recorder.until(f"{tenant}-2", 3) == [0, 1, 2]


async def test_a_log_is_replayed_from_a_position(
    stores: TenantStores, config: StoreConfig, tenant: str
):
    positions = await stores.events.append(made(0, 6))
    recorder = Recorder()
    async with following(config, recorder, tenant):
        await recorder.until(tenant, 6)
        assert await RedisEventLog(config).replay(tenant, "search", after=positions[3]) == 2
        async with asyncio.timeout(60):
            while len(recorder.seen[tenant]) < 8:
                await asyncio.sleep(0.01)
    assert recorder.seen[tenant] == [0, 1, 2, 3, 4, 5, 4, 5]


async def test_a_missed_announcement_is_found_by_the_scan(
    stores: TenantStores, config: StoreConfig, tenant: str, monkeypatch
):
    async def deaf(self: Consumer) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr(Consumer, "_listen", deaf)
    recorder = Recorder()
    async with following(config, recorder, tenant, poll=0.1):
        await asyncio.sleep(0.3)
        await stores.events.append(made(0, 3))
        assert await recorder.until(tenant, 3) == [0, 1, 2]


async def test_workers_share_the_tenants_and_replace_each_other(
    stores: TenantStores, config: StoreConfig, tenant: str
):
    tenants = [f"{tenant}-{n}" for n in range(16)]
    one, two = Recorder(), Recorder()

    async def append(start: int, stop: int) -> None:
        await asyncio.gather(
            *(open_stores(config, t, "notes").events.append(made(start, stop)) for t in tenants)
        )

    async with following(config, one, *tenants, worker="one", lease=0.6):
        async with following(config, two, *tenants, worker="two", lease=0.6):
            await asyncio.sleep(0.5)
            await append(0, 3)
            async with asyncio.timeout(60):
                while sum(len(set(one.seen[t]) | set(two.seen[t])) for t in tenants) < 48:
                    await asyncio.sleep(0.01)
            assert one.seen and two.seen
        await append(3, 5)
        for t in tenants:
            async with asyncio.timeout(60):
                while set(one.seen[t]) | set(two.seen[t]) != set(range(5)):
                    await asyncio.sleep(0.01)


async def test_no_worker_takes_the_tenant_of_a_living_one(
    stores: TenantStores, config: StoreConfig, tenant: str
):
    running, most = [0], [0]

    async def slow(_: str, events: list[Event]) -> None:
        running[0] += 1
        most[0] = max(most[0], running[0])
        await asyncio.sleep(1.5)  # longer than the lease, which is renewed
        running[0] -= 1

    await stores.events.append(made(0, 4))
    async with (
        following(config, slow, tenant, worker="one", lease=1, batch_size=2),
        following(config, slow, tenant, worker="two", lease=1, batch_size=2),
    ):
        async with asyncio.timeout(60):
            while not (groups := await RedisEventLog(config).groups(tenant)) or groups[0].lag:
                await asyncio.sleep(0.05)
    assert most[0] == 1


async def test_consume_stops_on_request_and_releases_its_tenants(
    stores: TenantStores, config: StoreConfig, tenant: str
):
    stop, recorder = asyncio.Event(), Recorder()

    async def tenants() -> list[str]:
        return [tenant]

    task = asyncio.create_task(
        RedisEventLog(config).consume("search", "w1", recorder, tenants=tenants, stop=stop)
    )
    await stores.events.append(made(0, 3))
    await recorder.until(tenant, 3)
    stop.set()
    await asyncio.wait_for(task, 60)
    assert [
        key async for key in async_redis(config.online).scan_iter(f"@events:{{{tenant}}}:lease:*")
    ] == []
    assert not await async_redis(config.online).zscore("@workers:search", "w1")


async def test_a_group_reports_its_lag(stores: TenantStores, config: StoreConfig, tenant: str):
    log = RedisEventLog(config)
    assert await log.groups(tenant) == []
    positions = await stores.events.append(made(0, 4))
    await log.replay(tenant, "search", after=positions[1])
    (state,) = await log.groups(tenant)
    assert (state.group, state.position, state.lag) == ("search", positions[1], 2)
    assert state.behind >= 0
    await log.forget_group(tenant, "search")
    assert await log.groups(tenant) == []


WORKER = """
import asyncio, json, os, sys
from shoal.eventlog.redis_log import RedisEventLog
from shoal.stores.configuration import StoreConfig
config = StoreConfig(**json.loads(sys.argv[1]))
group, worker, out = sys.argv[2:5]
tenants, poison, deliveries = sys.argv[5].split(","), sys.argv[6], int(sys.argv[7])
note = os.open(out, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
async def handle(tenant, events):
    for event in events:
        if event.id == poison:
            os._exit(9)
        os.write(note, f"{tenant} {event.id} {worker}\\n".encode())
        await asyncio.sleep(0.0005)
async def known():
    return tenants
options = dict(tenants=known, batch_size=50, lease=0.6, deliveries=deliveries)
asyncio.run(RedisEventLog(config).consume(group, worker, handle, **options))
"""


def spawn(
    nursery: Any,
    config: StoreConfig,
    worker: str,
    out: Path,
    tenants: list[str],
    poison: str = "",
    deliveries: int = 5,
) -> int:
    arguments = [
        config.model_dump_json(),
        "kill",
        worker,
        str(out),
        ",".join(tenants),
        poison,
        str(deliveries),
    ]
    return nursery.start(WORKER, *arguments)


def noted(out: Path, tenant: str) -> list[int]:
    lines = [line.split() for line in out.read_text().splitlines()] if out.exists() else []
    return [int(line[1]) for line in lines if line[0] == tenant]


async def test_killing_workers_loses_no_event_and_keeps_the_order(
    config: StoreConfig, stores: TenantStores, tenant: str, tmp_path: Path, nursery: Any
):
    tenants, out, total = [f"{tenant}-{n}" for n in range(4)], tmp_path / "out", 600
    children = {
        name: spawn(nursery, config, name, out, tenants) for name in ("one", "two", "three")
    }
    killed = ""
    try:
        async with asyncio.timeout(60):
            for start in range(0, total, 100):
                for name in tenants:
                    await open_stores(config, name, "notes").events.append(made(start, start + 100))
                while not killed and not (out.exists() and out.read_text().endswith("\n")):
                    await asyncio.sleep(0.005)
                if not killed:  # one that is at work, while there is more to come
                    killed = out.read_text().splitlines()[-1].split()[2]
                    nursery.kill(children[killed])
            while any(len(set(noted(out, name))) < total for name in tenants):
                await asyncio.sleep(0.05)
    finally:
        for child in children.values():
            nursery.kill(child)
    for name in tenants:
        assert list(dict.fromkeys(noted(out, name))) == list(range(total))
    workers = {line.split()[2] for line in out.read_text().splitlines()}
    assert killed in workers
    assert len(workers) >= 2


async def test_an_event_that_kills_its_workers_becomes_a_dead_letter(
    config: StoreConfig, stores: TenantStores, tenant: str, tmp_path: Path, nursery: Any
):
    out, deaths = tmp_path / "out", 0
    await stores.events.append(made(0, 6))
    start = time.monotonic()
    while len(set(noted(out, tenant))) < 5 and time.monotonic() - start < 200:
        child = spawn(nursery, config, f"w{deaths}", out, [tenant], poison="3", deliveries=2)
        while nursery.alive(child) and len(set(noted(out, tenant))) < 5:
            await asyncio.sleep(0.02)
        deaths += not nursery.alive(child)
        nursery.kill(child)
    assert list(dict.fromkeys(noted(out, tenant))) == [0, 1, 2, 4, 5]
    assert deaths == 3  # once in the batch, twice alone
    (letter,) = await RedisEventLog(config).dead_letters(tenant)
    assert letter.event.id == "3"
    assert "died" in letter.error


def test_a_config_travels_as_json(config: StoreConfig):
    assert StoreConfig(**json.loads(config.model_dump_json())) == config
