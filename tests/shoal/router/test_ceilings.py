"""Limits on all capabilities together: never exceeded, whichever replica is asked."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from shoal import LimitExceeded
from shoal.router import ceilings
from shoal.router.ceilings import Ceiling, Ceilings
from shoal.tenants.directory import Directory
from shoal.tenants.keyspace import ceiling_key
from shoal.tenants.records import Limits
from shoal.testing.servers import RedisServer

from ..conftest import World, problem

pytestmark = pytest.mark.anyio


@pytest.fixture
async def replicas(directory: Directory) -> AsyncIterator[list[Ceilings]]:
    made = [Ceilings(directory) for _ in range(6)]
    for replica in made:
        replica.start()
    yield made
    for replica in made:
        await replica.stop()


def ceilings_of(replicas: list[Ceilings], **limits: Any) -> list[Ceiling]:
    found = [replica.get("acme", Limits(**limits)) for replica in replicas]
    return [ceiling for ceiling in found if ceiling is not None]


async def is_admitted(ceiling: Ceiling) -> bool:
    try:
        await ceiling.acquire()
    except LimitExceeded:
        return False
    return True


@pytest.mark.parametrize("spread", [1, 2, 6])
@pytest.mark.parametrize(("rps", "burst"), [(5, 12), (50, None), (400, 100)])
async def test_all_replicas_together_admit_no_more(
    replicas: list[Ceilings], spread: int, rps: float, burst: float | None
) -> None:
    """However many of them are asked, and at least nearly as much by one of them."""
    asked = ceilings_of(replicas, rps=rps, burst=burst)[:spread]
    first, began = burst or 2 * rps, monotonic()
    admitted = 0
    for _ in range(60):
        answers = await asyncio.gather(*(is_admitted(c) for c in asked for _ in range(20)))
        for n, answer in enumerate(answers):
            if answer:
                asked[n // 20].release()
        admitted += sum(answers)
        await asyncio.sleep(0.01)
    seconds = monotonic() - began
    assert admitted <= first + rps * seconds + 1
    in_advance = spread * max(1, rps / ceilings.BLOCKS_PER_SECOND)
    assert admitted >= first - in_advance


async def test_concurrent_requests_are_counted_over_replicas(replicas: list[Ceilings]) -> None:
    asked = ceilings_of(replicas, concurrency=10)
    answers = await asyncio.gather(*(is_admitted(c) for c in asked for _ in range(10)))
    assert sum(answers) == 10
    held = [c for n, c in enumerate(c for c in asked for _ in range(10)) if answers[n]]
    held.pop().release()
    # The others may have what one replica no longer uses, once that renews its share.
    for ceiling in asked:
        await ceiling.renew()
        await ceiling.renew()
    assert await is_admitted(asked[-1])
    assert not await is_admitted(asked[0])


async def test_a_dead_replicas_share_expires(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ceilings, "EXPIRY_SECONDS", 1)
    monkeypatch.setattr(ceilings, "RENEW_SECONDS", 0.5)
    dead, other = ceilings_of([Ceilings(directory), Ceilings(directory)], concurrency=1)
    assert await is_admitted(dead)
    assert not await is_admitted(other)
    await asyncio.sleep(1.1)
    assert await is_admitted(other)


async def test_a_request_seldom_asks_redis(
    replicas: list[Ceilings], redis_server: RedisServer
) -> None:
    [ceiling] = ceilings_of(replicas[:1], rps=1000, concurrency=8)

    def scripts_run() -> int:
        found: Any = redis_server.client.info("commandstats")
        return int(found.get("cmdstat_evalsha", {}).get("calls", 0))

    assert await is_admitted(ceiling)
    ceiling.release()
    before = scripts_run()
    for _ in range(500):
        await ceiling.acquire()
        ceiling.release()
        await asyncio.sleep(0)
    assert scripts_run() - before <= 500 / (1000 / ceilings.BLOCKS_PER_SECOND / 2) + 1


async def test_without_redis_requests_are_admitted(tmp_path: Path) -> None:
    [ceiling] = ceilings_of([Ceilings(Directory("redis://127.0.0.1:1/0"))], rps=1, concurrency=1)
    assert all([await is_admitted(ceiling) for _ in range(5)])


async def test_one_limit_holds_for_several_capabilities(
    world: World, new_world: Callable[..., Any]
) -> None:
    await world.directory.set_limits("acme", "*", Limits(rps=0.001, burst=6))
    other = world.new_router()
    other.capability = "other"
    await other.start()
    await world.router.snapshot.catch_up()
    headers = {"authorization": f"Bearer {world.keys['acme-editor']}"}
    async with world.connect(other) as client:
        statuses = []
        for _ in range(5):
            statuses.append((await client.get("/who", headers=headers)).status_code)
            statuses.append((await world.get("/who")).status_code)
        assert statuses == [200] * 6 + [429] * 4
        detail = problem(await client.get("/who", headers=headers), 429)["detail"]
    assert detail == "too many requests per second, on all capabilities together"
    assert (await world.get("/who", "globex-editor")).status_code == 200
    await other.stop()


async def test_an_erased_tenants_bucket_is_gone(directory: Directory) -> None:
    await directory.create_tenant("acme")
    [ceiling] = ceilings_of([Ceilings(directory)], rps=10)
    await ceiling.acquire()
    assert await directory.redis.exists(ceiling_key("acme"))
    await directory.delete_tenant("acme")
    assert not await directory.redis.exists(ceiling_key("acme"))
