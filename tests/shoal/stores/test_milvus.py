"""What is of Milvus alone: shared collections, turns, moves and killed servers."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shoal.contract.errors import Invalid, NotFound, Unavailable
from shoal.contract.names import TENANT
from shoal.contract.vectors import AnyOf, Equals, VectorSchema
from shoal.stores import milvus_move, milvus_places
from shoal.stores.configuration import StoreConfig
from shoal.stores.connections import close_connections
from shoal.stores.milvus_client import split_uri
from shoal.stores.milvus_move import move_tenant
from shoal.stores.milvus_places import Places
from shoal.stores.milvus_rows import entities_of
from shoal.stores.milvus_schema import own_name, own_prefix, partition_of, shared_name
from shoal.stores.milvus_vectors import MilvusVectors, erase, has_data
from shoal.stores.vector_rows import NAME
from shoal.testing.servers import RedisServer

from ...milvus_servers import MilvusServer

pytestmark = [pytest.mark.anyio, pytest.mark.milvus]

SCHEMA = VectorSchema(4, {"board": "string", "labels": "strings", "at": "integer"})
HOSTILE = [
    'x" or tenant != "',
    '"] or tenant in ["t1", "t2',
    "') or ('1' == '1",
    "back\\slash\\",
    "new\nline\r\ttab",
    "nul\x00\x01\x7f",
    "{tenant}",
    "%00",
    "日本\u2028\U0001d11e",
    "\\u0041\\x41\\",
    "",
]
texts = st.sampled_from(HOSTILE) | st.text(st.characters(codec="utf-8"), max_size=20)


def row(key: str, *vectors: Any, **fields: Any) -> dict[str, Any]:
    return {"id": key, "vectors": np.array(vectors or [[1, 0, 0, 0]], np.float32), **fields}


@pytest.fixture(params=["milvus_lite", "milvus"])
async def config(request: pytest.FixtureRequest) -> AsyncIterator[StoreConfig]:
    yield request.getfixturevalue(request.param)
    await close_connections()


@pytest.fixture
async def store(config: StoreConfig, tenant: str) -> AsyncIterator[MilvusVectors]:
    made = MilvusVectors(config, tenant)
    await made.ensure("items", SCHEMA)
    yield made
    await erase(config, tenant)
    assert not await has_data(config, tenant)


def neighbour(tenant: str) -> str:
    """A tenant in the same partition."""
    return next(n for i in range(10_000) if partition_of(n := f"n{i}") == partition_of(tenant))


# --- Isolation ----------------------------------------------------------------


@given(values=st.lists(texts, min_size=1, max_size=6, unique=True), sought=texts)
@settings(
    max_examples=10,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_no_text_reaches_the_rows_of_a_neighbour(
    config: StoreConfig, store: MilvusVectors, tenant: str, values: list[str], sought: str
):
    other = MilvusVectors(config, neighbour(tenant))
    await other.ensure("items", SCHEMA)
    ids = [f"i{v}" for v in values]
    for owner, at in ((store, 1), (other, 2)):
        rows = [row(i, board=v, labels=[v, "x"], at=at) for i, v in zip(ids, values, strict=True)]
        await owner.upsert("items", rows)
    expected = {i for i, v in zip(ids, values, strict=True) if v == sought}
    for filter in (
        [Equals("board", sought)],
        [AnyOf("board", [sought, "\0nothing"])],
        [Equals("labels", sought)],
        [Equals("id", f"i{sought}")],
    ):
        among = [*filter, AnyOf("id", ids)]
        hits = await store.nearest("items", [1, 0, 0, 0], limit=50, filter=among, fields=["at"])
        assert {hit.id for hit in hits} == (
            expected if sought != "x" or filter[0].field != "labels" else set(ids)
        )
        assert all(hit.fields["at"] == 1 for hit in hits)
        assert await store.count("items", filter=among) == len(hits)
    await store.delete("items", ids)
    assert await store.count("items", filter=[AnyOf("id", ids)]) == 0
    assert await other.count("items", filter=[AnyOf("id", ids)]) == len(ids)
    await other.delete("items", ids)


async def test_erasing_a_tenant_leaves_its_neighbour(
    config: StoreConfig, store: MilvusVectors, tenant: str
):
    other = MilvusVectors(config, neighbour(tenant))
    await other.ensure("items", SCHEMA)
    for owner in (store, other):
        await owner.upsert("items", [row("a"), row("b")])
    assert await erase(config, neighbour(tenant)) == 2
    assert not await has_data(config, neighbour(tenant))
    assert await store.count("items") == 2
    with pytest.raises(NotFound):
        await other.count("items")


names = st.from_regex(NAME, fullmatch=True)
tenants = st.from_regex(TENANT, fullmatch=True)


@given(tenants, names, tenants, names)
def test_no_two_collections_of_tenants_share_a_name(a: str, one: str, b: str, other: str):
    assert (a, one) == (b, other) or own_name(a, one) != own_name(b, other)
    assert a == b or not own_name(a, one).startswith(own_prefix(b))
    assert shared_name(one, SCHEMA) != own_name(a, one)


def test_options_of_pymilvus_are_parameters_of_the_uri():
    uri = "https://milvus:19530?ca_pem_path=/etc/ca.pem&db_name=shoal"
    assert split_uri(uri) == (
        "https://milvus:19530",
        {"ca_pem_path": "/etc/ca.pem", "db_name": "shoal"},
    )
    with pytest.raises(Invalid, match="timeout"):
        split_uri("http://milvus:19530?timeout=3")


# --- Turns --------------------------------------------------------------------


async def test_what_was_written_is_found_by_the_next_read(store: MilvusVectors):
    for n in range(8):
        await store.upsert("items", [row("a", at=n), row(f"b{n}", at=n)])
        assert (await store.get("items", ["a"], ["at"]))[0]["at"] == n
        assert await store.count("items") == n + 2
        await store.delete("items", [f"b{n}" for n in range(0, n, 2)])
        await store.upsert("items", [row(f"b{m}", at=m) for m in range(0, n, 2)])
    await store.delete("items", ["a", *(f"b{n}" for n in range(8))])
    assert await store.count("items") == 0


async def test_a_writer_that_lost_its_turn_writes_nothing(
    config: StoreConfig, store: MilvusVectors, tenant: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(milvus_places, "LEASE_SECONDS", 0.05)
    places = Places(config, tenant)
    with pytest.raises(Unavailable, match="another process"):
        async with places.turn("items") as turn:
            await asyncio.sleep(0.2)
            await turn.confirm()
    monkeypatch.undo()
    assert await store.upsert("items", [row("a")]) == []


async def test_writers_wait_for_each_other_only_so_long(
    config: StoreConfig, store: MilvusVectors, tenant: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(milvus_places, "WAIT_SECONDS", 0.2)
    async with Places(config, tenant).turn("items"):
        with pytest.raises(Unavailable, match="try again"):
            await store.upsert("items", [row("a")])
    assert await store.upsert("items", [row("a")]) == []


async def test_a_write_that_broke_off_is_read_by_the_next(
    config: StoreConfig, store: MilvusVectors, tenant: str
):
    """The next writer must see what Milvus has, though nobody was told of it."""
    monkey = row("a", version="2", at=2)
    entities = entities_of(SCHEMA, tenant, {**monkey, "vectors": monkey["vectors"]})
    with pytest.raises(Unavailable):
        async with Places(config, tenant).turn("items") as turn:
            await store.table("items", turn.place, "shared", 0).upsert(entities)
            raise Unavailable("killed")
    assert await store.upsert("items", [row("a", version="1", at=1)]) == ["a"]
    assert (await store.get("items", ["a"], ["at", "version"]))[0] == {
        "id": "a",
        "at": 2,
        "version": "2",
    }


async def test_vectors_of_a_former_write_find_nothing(
    config: StoreConfig, store: MilvusVectors, tenant: str
):
    """As after a writer that was killed before it deleted the surplus."""
    await store.upsert("items", [row("a", [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], at=1)])
    entities = entities_of(SCHEMA, tenant, {**row("a", [1, 0, 0, 0], at=2), "version": None})
    async with Places(config, tenant).turn("items") as turn:
        turn.written = await store.table("items", turn.place, "shared", 0).upsert(entities)
    hits = await store.nearest("items", [0, 0, 1, 0], limit=5, fields=["at", "vectors"])
    assert [(hit.id, hit.score, hit.fields["at"]) for hit in hits] == [("a", 0.0, 2)]
    assert hits[0].fields["vectors"].shape == (1, 4)
    await store.upsert("items", [row("a", [0, 1, 0, 0])])
    place = (await Places(config, tenant).read("items")).place
    assert await store.table("items", place, "shared", 0).count("") == 1


# --- Moves --------------------------------------------------------------------


async def snapshot(store: MilvusVectors) -> dict[str, Any]:
    found, after = {}, None
    while True:
        page = await store.rows("items", limit=500, after=after, fields=["at", "version"])
        found |= {r["id"]: (r["at"], r["version"]) for r in page.rows}
        if (after := page.next) is None:
            return found


async def test_a_tenant_is_moved_while_it_is_written_and_searched(
    config: StoreConfig, store: MilvusVectors, tenant: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(milvus_move, "CHUNK", 20)
    neighbours = MilvusVectors(config, neighbour(tenant))
    await neighbours.ensure("items", SCHEMA)
    await neighbours.upsert("items", [row("a", at=-1)])
    truth = {f"i{n:03}": (n, "1") for n in range(60)}
    random = np.random.default_rng(0)
    vectors = random.normal(size=(90, 2, 4))
    rows = [row(k, *vectors[n], at=n, version="1") for n, k in enumerate(truth)]
    await store.upsert("items", rows)
    await store.retire("items", {"gone": "5"})
    moving = True

    async def write() -> None:
        step = 1
        while moving:
            step += 1
            keys = [f"i{n:03}" for n in random.choice(90, 5, replace=False)]
            wanted = [row(k, *vectors[int(k[1:])], at=step, version=f"2{step:05}") for k in keys]
            await store.upsert("items", wanted[:3])
            truth.update({k: (step, f"2{step:05}") for k in keys[:3]})
            await store.retire("items", {k: f"2{step:05}" for k in keys[3:]})
            for key in keys[3:]:
                truth.pop(key, None)

    async def search() -> int:
        searches = 0
        while moving:
            hits = await store.nearest("items", vectors[searches % 90, 0].tolist(), limit=100)
            ids = [hit.id for hit in hits]
            assert len(set(ids)) == len(ids), "a double hit"
            assert len(ids) > 30
            searches += 1
        return searches

    async def move() -> None:
        nonlocal moving
        try:
            await move_tenant(config, tenant, "own", grace=0.5)
            await move_tenant(config, tenant, "shared", grace=0.5)
        finally:
            moving = False

    _, searches, _ = await asyncio.gather(write(), search(), move())
    assert searches > 0
    place = (await Places(config, tenant).read("items")).place
    assert (place.at, place.to, place.left) == ("shared", None, None)
    assert await snapshot(store) == truth
    assert await store.upsert("items", [row("gone", version="4")]) == ["gone"]
    assert (await neighbours.get("items", ["a"], ["at"]))[0]["at"] == -1
    await erase(config, neighbour(tenant))


@pytest.mark.parametrize("step", ["_begin", "_copy_rows", "_switch", "_finish"])
async def test_a_move_that_was_killed_goes_on(
    config: StoreConfig,
    store: MilvusVectors,
    tenant: str,
    step: str,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(milvus_move, "CHUNK", 10)
    await store.upsert("items", [row(f"i{n}", at=n) for n in range(40)])
    original, calls = getattr(milvus_move._Move, step), 0

    async def killed(self: Any, *arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        result = await original(self, *arguments)
        if calls == 2 or step in ("_begin", "_switch"):
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(milvus_move._Move, step, killed)
    with pytest.raises(KeyboardInterrupt):
        await move_tenant(config, tenant, "own", grace=0)
    monkeypatch.undo()
    await store.upsert("items", [row("i1", at=100), row("new", at=101)])
    await store.delete("items", ["i2"])
    assert await store.count("items") == 40
    await move_tenant(config, tenant, "own", grace=0)
    place = (await Places(config, tenant).read("items")).place
    assert (place.at, place.to, place.left) == ("own", None, None)
    expected = {f"i{n}": (n, None) for n in range(40) if n != 2} | {
        "i1": (100, None),
        "new": (101, None),
    }
    assert await snapshot(store) == expected


async def test_a_move_that_was_begun_is_called_off(
    config: StoreConfig, store: MilvusVectors, tenant: str, monkeypatch: pytest.MonkeyPatch
):
    await store.upsert("items", [row(f"i{n}", at=n) for n in range(10)])

    async def killed(*arguments: Any) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(milvus_move._Move, "_switch", killed)
    with pytest.raises(KeyboardInterrupt):
        await move_tenant(config, tenant, "own", grace=0)
    monkeypatch.undo()
    await move_tenant(config, tenant, "shared", grace=0)
    place = (await Places(config, tenant).read("items")).place
    assert (place.at, place.to, place.left) == ("shared", None, None)
    assert await store.count("items") == 10


# --- Faults -------------------------------------------------------------------


@pytest.fixture(params=["milvus_lite", "milvus"])
def killable(request: pytest.FixtureRequest) -> tuple[StoreConfig, MilvusServer]:
    config: StoreConfig = request.getfixturevalue(request.param)
    server: MilvusServer = request.getfixturevalue(f"{request.param}_server")
    return config, server


async def test_a_killed_server_loses_nothing_acknowledged(
    killable: tuple[StoreConfig, MilvusServer], tenant: str
):
    config, server = killable
    store = MilvusVectors(config, tenant)
    await store.ensure("items", SCHEMA)
    acknowledged: set[str] = set()
    refused: list[Exception] = []
    random = np.random.default_rng(0)

    async def load() -> None:
        for n in range(10_000):
            batch = [row(f"i{n}-{m}", random.normal(size=4), at=n) for m in range(20)]
            try:
                await store.upsert("items", batch)
            except Unavailable as error:
                refused.append(error)
                return
            acknowledged.update(r["id"] for r in batch)

    async def query() -> None:
        while True:
            try:
                await store.nearest("items", [1, 0, 0, 0], limit=10)
            except Unavailable as error:
                refused.append(error)
                return

    async def kill() -> None:
        while len(acknowledged) < 100:
            await asyncio.sleep(0.05)
        server.kill()

    await asyncio.gather(load(), query(), kill())
    assert len(refused) == 2 and all(e.retry_after for e in refused)  # type: ignore[attr-defined]
    await asyncio.to_thread(server.start)
    found = await until_available(store)
    assert acknowledged <= found
    await store.upsert("items", [row("after", at=1)])
    assert [r["id"] for r in await store.get("items", ["after"])] == ["after"]
    await close_connections()


async def until_available(store: MilvusVectors) -> set[str]:
    for _ in range(600):
        try:
            return set(await snapshot(store))
        except Unavailable:
            await asyncio.sleep(0.2)
    raise AssertionError("still unavailable")


async def test_an_unreachable_milvus_is_unavailable(tmp_path: Path):
    redis = RedisServer(tmp_path)
    config = StoreConfig(online=redis.url, vectors="http://127.0.0.1:1", lake="/proc/none")
    with pytest.raises(Unavailable):
        await MilvusVectors(config, "acme").ensure("items", SCHEMA)
    await close_connections()
    redis.stop()
