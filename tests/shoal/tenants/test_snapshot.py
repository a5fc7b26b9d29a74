"""The directory as a process has it in memory."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from shoal.stores.connections import close_connections
from shoal.tenants.directory import Directory
from shoal.tenants.snapshot import Snapshot, TenantState
from shoal.testing.servers import RedisServer

from ..conftest import World, problem

pytestmark = pytest.mark.anyio


async def until(condition: Callable[[], Any], seconds: float = 60) -> None:
    end = monotonic() + seconds
    while not condition():
        assert monotonic() < end, "not in time"
        await asyncio.sleep(0.01)


@pytest.fixture
async def snapshot(directory: Directory) -> AsyncIterator[Snapshot]:
    snapshot = Snapshot(directory)
    yield snapshot
    await snapshot.stop()


async def test_a_snapshot_starts_with_all_tenants(directory: Directory, snapshot: Snapshot) -> None:
    await directory.create_tenant("acme")
    record, _ = await directory.create_key("acme", "editor")
    await snapshot.start()
    assert set(snapshot.tenants) == {"acme", "platform"}
    assert snapshot.keys[record.id.encode()][1].tenant == "acme"


async def test_a_revocation_and_a_removal_are_known_unasked(
    directory: Directory, snapshot: Snapshot
) -> None:
    await snapshot.start()
    await directory.create_tenant("acme")
    record, _ = await directory.create_key("acme", "editor")
    await until(lambda: record.id.encode() in snapshot.keys)
    await directory.revoke_key(record.id)
    await until(lambda: record.id.encode() not in snapshot.keys)
    record, _ = await directory.create_key("acme", "editor")
    await until(lambda: record.id.encode() in snapshot.keys)
    await directory.begin_removal("acme", notice=0)
    await until(lambda: "acme" not in snapshot.tenants and not snapshot.keys)
    await directory.delete_tenant("acme")
    await directory.create_tenant("acme")
    await until(lambda: "acme" in snapshot.tenants)


async def test_polling_finds_changes_without_the_subscription(
    directory: Directory, snapshot: Snapshot, redis_server: RedisServer
) -> None:
    await snapshot.start()
    await asyncio.sleep(0.1)
    redis_server.client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    await directory.create_tenant("acme")
    await until(lambda: "acme" in snapshot.tenants)


async def test_only_changed_tenants_are_read_again(
    directory: Directory, snapshot: Snapshot
) -> None:
    for name in ("acme", "globex"):
        await directory.create_tenant(name)
    await snapshot.start()
    acme, globex = snapshot.tenants["acme"], snapshot.tenants["globex"]
    await directory.create_key("acme", "editor")
    await snapshot.catch_up()
    assert snapshot.tenants["acme"] is not acme
    assert snapshot.tenants["globex"] is globex


async def test_emptying_the_directory_empties_the_snapshot(
    directory: Directory, snapshot: Snapshot, redis_server: RedisServer
) -> None:
    for name in ("acme", "globex"):
        await directory.create_tenant(name)
    await snapshot.start()
    redis_server.client.flushall()
    await until(lambda: set(snapshot.tenants) == {"platform"})


async def test_a_thousand_tenants_that_change_at_once_are_followed(
    directory: Directory, snapshot: Snapshot
) -> None:
    await snapshot.start()
    await asyncio.gather(*(directory.create_tenant(f"t{i}") for i in range(1000)))
    await until(lambda: len(snapshot.tenants) == 1001, 5)


def test_an_unreadable_entry_does_not_hide_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    state = TenantState(
        "acme",
        {
            b"limits/search": b'{"rps": -1}',
            b"limits/*": b'{"rps": 2}',
            b"key/1": b"{",
            b"new/thing": b"?",
        },
    )
    assert list(state.limits) == ["*"]
    assert "limits/search" in caplog.text


@pytest.fixture
async def own_redis(tmp_path: Path) -> AsyncIterator[RedisServer]:
    server = RedisServer(tmp_path)
    yield server
    server.stop()


async def test_requests_are_refused_while_the_directory_is_unavailable(
    own_redis: RedisServer, tmp_path: Path
) -> None:
    directory = Directory(own_redis.url)
    async with World(directory, tmp_path, stale_seconds=3) as world:
        assert (await world.get("/who")).status_code == 200
        own_redis.pause()
        assert (
            await world.get("/who")
        ).status_code == 200  # for stale_seconds, what is known holds
        await until(lambda: not world.router.snapshot.fresh())
        response = await world.get("/who")
        problem(response, 503)
        assert response.headers["retry-after"] == "2"
        own_redis.resume()
        await until(world.router.snapshot.fresh)
        assert (await world.get("/who")).status_code == 200
    await close_connections()


async def test_a_router_starts_without_the_directory_and_recovers(
    tmp_path: Path, directory: Directory, world: World
) -> None:
    unreachable = Directory("redis://127.0.0.1:1/0")
    router = world.new_router(unreachable)
    client = World.connect(router)
    headers = {"authorization": f"Bearer {world.keys['acme-editor']}"}
    problem(await client.get("/who", headers=headers), 503)
    unreachable.url = directory.url  # it comes up
    await until(router.snapshot.fresh)
    assert (await client.get("/who", headers=headers)).status_code == 200
    await router.stop()


async def test_a_key_works_at_once_on_every_replica(
    world: World, new_world: Callable[..., Any]
) -> None:
    other = World.connect(world.new_router())
    for _ in range(3):
        _, key = await world.directory.create_key("acme", "reader")
        assert (
            await other.get("/who", headers={"authorization": f"Bearer {key}"})
        ).status_code == 200
    await other._transport.app.stop()  # type: ignore[attr-defined]


async def test_a_revoked_key_stops_on_every_replica(world: World) -> None:
    replicas = [world.router, world.new_router(), world.new_router()]
    record, key = await world.directory.create_key("acme", "editor")
    clients = [World.connect(replica) for replica in replicas]
    headers = {"authorization": f"Bearer {key}"}
    assert [(await c.get("/who", headers=headers)).status_code for c in clients] == [200, 200, 200]
    await world.directory.revoke_key(record.id)
    await until(lambda: all(record.id.encode() not in r.snapshot.keys for r in replicas))
    assert [(await c.get("/who", headers=headers)).status_code for c in clients] == [401, 401, 401]
    for replica in replicas[1:]:
        await replica.stop()
