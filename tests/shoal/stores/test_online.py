"""A tenant's online store, on a real Redis."""

import asyncio
import contextlib
import pickle
import secrets

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from shoal import Invalid, Unavailable
from shoal.contract.names import CAPABILITY, TENANT
from shoal.stores.configuration import StoreConfig
from shoal.stores.online import COMMANDS, OnlineStore, address
from shoal.stores.redis_client import async_redis
from shoal.tenants.tenant_stores import TenantStores, open_stores

pytestmark = pytest.mark.anyio

HOSTILE = [
    "a:b",
    "{x}",
    "%3A",
    "a\nb",
    "../globex",
    "\x00",
    "globex:user",
    "}",
    "{}",
    "*",
    "ключ",
    " ",
]


@pytest.mark.parametrize("part", HOSTILE)
async def test_a_hostile_key_part_stays_within_the_tenant(
    stores: TenantStores, tenant: str, part: str
):
    for key in [
        part,
        ("user", part),
        (part, "user"),
        ("{}", "user", part),
        ("{}", "user", part, "{}", "clicks"),
    ]:
        place = f"{tenant}:notes:"
        assert stores.online.key(key).startswith((place, f"{{{place}"))
    assert stores.online.key(("user", part)).count(":") == 3
    await stores.online.hset(("user", part), "name", part)
    assert await stores.online.hget(("user", part), "name") == part.encode()


parts = st.lists(st.text(st.characters(codec="utf-8"), min_size=1), min_size=1, max_size=4)


@settings(max_examples=50)
@given(parts, parts)
def test_different_parts_are_different_keys(one: list[str], other: list[str]):
    plain = [p for p in (one, other) if p[0] != "{}"]
    assert len({address("acme", tuple(p)) for p in plain}) == len({tuple(p) for p in plain})


NOWHERE = StoreConfig(online="redis://127.0.0.1:1", vectors="http://127.0.0.1:1", lake="/nowhere")
owners = st.tuples(
    st.from_regex(TENANT, fullmatch=True),
    st.from_regex(CAPABILITY, fullmatch=True) | st.sampled_from(HOSTILE),
)


@settings(max_examples=50)
@given(owners, parts, owners, parts, st.booleans())
def test_no_two_tenants_or_capabilities_share_a_key(
    a: tuple[str, str], one: list[str], b: tuple[str, str], other: list[str], is_near: bool
):
    if is_near:  # the same text, divided elsewhere
        b, other = (a[0], one[0]), [a[1], *one[1:]]
    assume(all(list(key[:2]) != ["{}", "{}"] for key in (one, other)))  # nothing is named
    key, other_key = (
        OnlineStore(NOWHERE, *owner).key(tuple(parts)) for owner, parts in ((a, one), (b, other))
    )
    assert a == b or key != other_key


async def test_capabilities_have_keys_of_their_own(
    stores: TenantStores, config: StoreConfig, tenant: str
):
    other = open_stores(config, tenant, "search").online
    for key in ["n", ("search", "n"), ("..", "search", "n"), ("{}", "n"), ("{}", "n", "{}", "n")]:
        await stores.online.set(key, "mine")
        pipe = other.pipeline()
        pipe.get(key)
        assert [await other.get(key), *await pipe.execute()] == [None, None]
        assert await other.eval("return redis.call('get', KEYS[1])", [key]) is None
    await other.set("n", "theirs")
    assert await stores.online.get("n") == b"mine"
    assert [key async for key in other.scan("n")] == ["n"]


def test_keys_have_the_documented_addresses():
    place = "acme:notes"
    assert address(place, ("user", "123", "boards_30d")) == "acme:notes:user:123:boards_30d"
    assert address(place, ("{}", "user", "123")) == "{acme:notes:user:123}"
    key = ("{}", "user", "1:2", "{}", "clicks")
    assert address(place, key) == "{acme:notes:user:1%3A2}:clicks"
    assert address(place, "user:123") == "acme:notes:user%3A123"


@pytest.mark.parametrize(
    "key", ["", (), ("user", ""), ("user", 7), ("user", None), ("user", "\ud800"), ("{}",)]
)
async def test_an_invalid_key_is_refused(stores: TenantStores, key: object):
    with pytest.raises(Invalid):
        await stores.online.get(key)


@pytest.mark.parametrize(
    "command",
    [
        "keys",
        "flushall",
        "flushdb",
        "config_set",
        "rename",
        "copy",
        "smove",
        "sort",
        "mget",
        "eval_ro",
        "execute_command",
        "scan_iter",
    ],
)
async def test_commands_that_could_leave_the_tenant_are_unavailable(
    stores: TenantStores, command: str
):
    assert not hasattr(stores.online, command)
    with pytest.raises(AttributeError):
        await stores.online.execute(command, "a")
    with pytest.raises(AttributeError):
        stores.online.pipeline().queue(command, "a")


@pytest.mark.parametrize("command", ["delete", "unlink", "exists", "pfcount"])
async def test_commands_of_many_keys_take_one(stores: TenantStores, command: str):
    with pytest.raises(TypeError):
        await getattr(stores.online, command)("a", "globex:b")
    with pytest.raises(TypeError):
        getattr(stores.online.pipeline(), command)("a", "globex:b")


def test_a_store_cannot_change_its_tenant(config: StoreConfig):
    online = open_stores(config, "acme", "notes").online
    for change in [
        lambda: setattr(online, "_tenant", "globex"),
        lambda: setattr(online, "_place", "globex:notes"),
        lambda: setattr(online, "x", 1),
        lambda: delattr(online, "_tenant"),
    ]:
        with pytest.raises(AttributeError):
            change()

    class Own(OnlineStore):
        pass

    with pytest.raises(ValueError, match="tenant"):
        Own(config, "globex:user", "notes")


@pytest.mark.parametrize("name", ["", "Acme", "a:b", "../x", "a\n", "a b", "%00", "_x", "a" * 64])
def test_an_invalid_tenant_id_is_refused(config: StoreConfig, name: str):
    with pytest.raises(ValueError, match="tenant"):
        open_stores(config, name, "notes")


async def test_a_pickled_store_is_the_same_store(stores: TenantStores):
    await stores.online.set("a", "1")
    again = pickle.loads(pickle.dumps(stores))
    assert again.online.key("a") == stores.online.key("a")
    assert await again.online.get("a") == b"1"
    assert await pickle.loads(pickle.dumps(stores.online)).get("a") == b"1"


async def test_every_command_exists_in_redis(config: StoreConfig, stores: TenantStores):
    client = async_redis(config.online)
    assert not [command for command in COMMANDS if not hasattr(client, command)]


async def test_a_pipeline_returns_its_results_in_order(stores: TenantStores):
    pipe = stores.online.pipeline()
    pipe.hset(("user", "1"), "n", 1)
    pipe.hincrby(("user", "1"), "n", 4)
    pipe.queue("hget", ("user", "1"), "n")
    assert await pipe.execute() == [1, 5, b"5"]
    assert await pipe.execute() == []


async def test_a_script_runs_alone_and_in_a_pipeline(stores: TenantStores):
    script = f"return redis.call('incrby', KEYS[1], ARGV[1]) -- {id(stores)}"
    assert await stores.online.eval(script, ["n"], [2]) == 2
    pipe = stores.online.pipeline()
    for _ in range(3):
        pipe.eval(script, ["n"], [1])
    other = "return redis.call('get', KEYS[1]) -- not seen before"
    pipe.eval(other, ["n"])
    pipe.eval(other, ["n"])
    assert await pipe.execute() == [3, 4, 5, b"5", b"5"]


async def test_scan_finds_only_keys_below_a_prefix(
    stores: TenantStores, config: StoreConfig, tenant: str
):
    for key in [
        ("user", "1"),
        ("user", "2"),
        ("users", "3"),
        ("user*", "4"),
        ("{}", "user", "1", "{}", "clicks"),
    ]:
        await stores.online.set(key, "x")
    await open_stores(config, f"{tenant}x", "notes").online.set(("user", "9"), "x")
    assert sorted([k async for k in stores.online.scan("user")]) == ["user:1", "user:2"]
    assert [k async for k in stores.online.scan("user*")] == ["user*:4"]
    assert [k async for k in stores.online.scan(("{}", "user"))] == ["{user:1}:clicks"]


async def test_iterators_walk_a_large_hash(stores: TenantStores):
    await stores.online.hset("h", mapping={str(i): i for i in range(1000)})
    assert len({field async for field, _ in stores.online.hscan_iter("h")}) == 1000


async def test_an_unreachable_redis_is_unavailable(unreachable: StoreConfig):
    online = open_stores(unreachable, "acme", "notes").online
    for call in [
        lambda: online.get("a"),
        lambda: online.eval("return 1", ["a"]),
        lambda: online.pipeline().get("a").execute(),
    ]:
        with pytest.raises(Unavailable) as caught:
            await call()
        assert caught.value.retry_after == 1
    with pytest.raises(Unavailable):
        [key async for key in online.scan("a")]


async def test_a_wrong_password_is_unavailable(config: StoreConfig):
    wrong = config.model_copy(update={"online": config.online.replace("//:", "//:x")})
    with pytest.raises(Unavailable, match="password"):
        await open_stores(wrong, "acme", "notes").online.get("a")


async def test_concurrent_commands_share_a_few_connections(
    stores: TenantStores, config: StoreConfig
):
    await asyncio.gather(*(stores.online.incrby("n") for _ in range(2000)))
    assert await stores.online.get("n") == b"2000"
    assert len(async_redis(config.online).connection_pool._available_connections) <= 64


async def test_a_failed_command_releases_its_connection(stores: TenantStores):
    await stores.online.set("text", "x")
    for _ in range(200):
        with pytest.raises(ResponseError):
            await stores.online.incrby("text")
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(
            stores.online.eval("local x = 0 for i = 1, 3e7 do x = x + i end return x", ["n"]), 0.01
        )
    assert await stores.online.get("text") == b"x"


def test_a_store_works_in_one_event_loop_after_another(config: StoreConfig, tenant: str):
    online = open_stores(config, tenant, "notes").online
    for n in range(1, 4):
        assert asyncio.run(online.incrby("loops")) == n


async def test_a_value_larger_than_the_socket_buffer_arrives_whole(stores: TenantStores):
    value = secrets.token_bytes(32_000_000)
    await stores.online.set("large", value)
    assert await stores.online.get("large") == value


async def test_a_connection_cut_while_idle_is_replaced(stores: TenantStores, config: StoreConfig):
    await stores.online.set("text", "x")
    other = Redis.from_url(config.online)
    await other.client_kill_filter(_type="normal", skipme=True)
    await other.aclose()
    await asyncio.sleep(0.05)
    assert await stores.online.get("text") == b"x"


async def test_a_connection_cut_during_a_command_is_unavailable(
    stores: TenantStores, config: StoreConfig
):
    waiting = asyncio.create_task(
        stores.online.eval("local x = 0 for i = 1, 1e8 do x = x + i end return x", ["n"])
    )
    await asyncio.sleep(0.2)
    for connection in async_redis(config.online).connection_pool._in_use_connections:
        connection._writer.transport.abort()
    with pytest.raises(Unavailable):
        await waiting
    assert len(async_redis(config.online).connection_pool._in_use_connections) == 0
