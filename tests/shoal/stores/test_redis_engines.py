"""Everything that stands on Redis, on each engine that may be behind its URI."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme
from redis.exceptions import ReadOnlyError

from shoal import Event, Unavailable
from shoal.contract.experiments import ExperimentRecord, Variant
from shoal.eventlog import redis_log
from shoal.eventlog.redis_log import RedisEventLog
from shoal.runtime import job_runs
from shoal.runtime.job_runs import JobRuns
from shoal.stores import online as online_store
from shoal.stores.configuration import StoreConfig
from shoal.stores.connections import close_connections
from shoal.stores.redis_client import async_redis, run_atomically, translate_errors
from shoal.stores.redis_files import rewrite_files
from shoal.tenants import usage_ledger
from shoal.tenants.directory import Directory
from shoal.tenants.keyspace import active_key, exposed_key
from shoal.tenants.snapshot import Snapshot
from shoal.tenants.storage_size import _key_sizes
from shoal.tenants.tenant_stores import TenantStores, open_stores
from shoal.testing.app import CapabilityApp

from ...redis_engines import ENGINES, PASSWORD, Engine, Engines
from ..api.samples import SAMPLES
from ..api.test_rights import CAPABILITIES, Matrix
from ..conftest import World

pytestmark = pytest.mark.anyio
SENTINEL = "redis+sentinel://127.0.0.1:1,127.0.0.1:2/0?service=shoal"
OTHERS = [pytest.param(name, marks=pytest.mark.engines) for name in ENGINES if name != "cluster"]


@pytest.fixture(params=["cluster", *OTHERS])
def engine(request: pytest.FixtureRequest, redis_engines: Engines) -> Engine:
    """Each engine; those but the cluster in `make test-engines` only."""
    found = redis_engines[request.param]
    for server in found.servers:
        with suppress(ReadOnlyError):
            server.client.flushall()
    return found


@pytest.fixture
def stores_config(engine: Engine, tmp_path: Path) -> StoreConfig:
    lake = str(tmp_path / "lake")
    return StoreConfig(online=engine.uri, vectors="http://127.0.0.1:1", lake=lake)


@pytest.fixture
async def stores(stores_config: StoreConfig, tenant: str) -> AsyncIterator[TenantStores]:
    yield open_stores(stores_config, tenant, "notes")
    await close_connections()


async def test_the_online_store_works(stores: TenantStores, stores_config: StoreConfig):
    online = stores.online
    await online.hset(("user", "1"), mapping={"a": 1, "b": 2})
    assert await online.hmget(("user", "1"), ["a", "b"]) == [b"1", b"2"]
    pipe = online.pipeline()
    for n in range(20):
        pipe.set(("n", str(n)), n)
        pipe.eval("return redis.call('get', KEYS[1])", [("n", str(n))])
    assert (await pipe.execute())[1::2] == [str(n).encode() for n in range(20)]
    pipe = online.pipeline().exists(("n", "1")).delete(("n", "1")).exists(("n", "1"))
    assert await pipe.execute() == [1, 1, 0]
    assert len([key async for key in online.scan("n")]) == 19
    keys = [("{}", "user", "1", "{}", "x"), ("{}", "user", "1", "{}", "y")]
    script = "redis.call('set', KEYS[1], 7) return redis.call('exists', KEYS[2])"
    assert await online.eval(script, keys) == 0
    assert await online_store.erase(stores_config, stores._tenant) == 21


@pytest.mark.parametrize("engine", ENGINES, indirect=True)  # one case of each engine
async def test_the_event_log_works(stores: TenantStores, stores_config: StoreConfig, tenant: str):
    log, got, stop = RedisEventLog(stores_config), list[str](), asyncio.Event()
    fails = True

    async def handle(_: str, events: list[Event]) -> None:
        if fails and any(event.id == "3" for event in events):
            raise ValueError("no")
        got.extend(event.id for event in events)

    task = asyncio.create_task(log.consume("search", "w1", handle, stop=stop, deliveries=1))
    positions = await stores.events.append([Event(id=str(i), type="x") for i in range(5)])
    positions += await stores.events.append([Event(id=str(i), type="x") for i in range(5, 8)])
    assert len(set(positions)) == 8
    async with asyncio.timeout(20):
        while len(got) < 7 and not task.done():
            await asyncio.sleep(0.01)
        [letter] = await log.dead_letters(tenant)
        fails = False
        assert await log.replay(tenant, "search", ids=[letter.id]) == 1
        while "3" not in got and not task.done():
            await asyncio.sleep(0.01)
    stop.set()
    await task
    assert await log.archive(tenant) == 8
    assert await log.replay(tenant, "search", after="0") == 8
    assert await log.dead_letters(tenant) == []
    assert await redis_log.erase(stores_config, tenant) == 8


def test_job_runs_work(stores_config: StoreConfig, monkeypatch: pytest.MonkeyPatch):
    runs = JobRuns(stores_config.online)
    run = runs.add("search.load", tenant="acme", arguments={"path": "x"})
    claimed = runs.claim()
    assert claimed is not None
    assert (claimed.id, claimed.state, claimed.arguments) == (run.id, "running", {"path": "x"})
    runs.finish(run.id, "succeeded", result={"rows": 3})
    assert runs.get(run.id).result == {"rows": 3}
    queued = runs.add("search.load", tenant="acme")
    assert runs.cancel(queued.id).state == "cancelled"
    lost = runs.add("search.load", tenant="globex")
    assert runs.claim() is not None
    assert not runs.heartbeat(lost.id)
    assert [r.id for r in runs.unfinished()] == [lost.id]
    monkeypatch.setattr(job_runs, "LOST_SECONDS", -1.0)
    assert [r.id for r in runs.requeue_lost()] == [lost.id]
    assert runs.get(lost.id).state == "queued"
    assert [r.id for r in runs.recent()] == [lost.id, queued.id, run.id]
    assert [r.id for r in runs.recent(tenant="globex")] == [lost.id]
    assert runs.count_unfinished("globex") == 1
    assert not runs.schedule("a.b", datetime(2026, 11, 22, 3, tzinfo=UTC))
    assert runs.schedule("a.b", datetime(2026, 11, 23, 3, tzinfo=UTC))
    assert runs.forget_tenant("acme") == 2


async def test_the_router_counts_and_logs_exposures(engine: Engine, tmp_path: Path):
    directory = Directory(engine.uri)
    arms = (
        Variant(name="control", allocation=50),
        Variant(name="treatment", allocation=50, parameters={"warmth": 0.9}),
    )
    record = ExperimentRecord(
        id="warmer", tenant="acme", capability="greeting", status="running", variants=arms
    )
    async with World(directory, tmp_path) as world:
        await directory.put_experiment(record)
        await world.router.snapshot.catch_up()
        for user in ("ana", "bob"):  # each flush is a script of its own
            response = await world.get("/warmth", headers={"shoal-user": user})
            assert response.status_code == 200
            await world.router.metrics.flush()
    events = [e for e in world.logs["acme"].events if e.type == "experiment.exposure"]
    assert {event.subject for event in events} == {"ana", "bob"}
    assert await directory.redis.scard(exposed_key("acme", "warmer")) == 2
    assert await directory.redis.zscore(active_key("greeting"), "acme") is not None
    minute = int(await directory.redis.zscore(active_key("greeting"), "acme"))
    for of in (minute - 1, minute):
        await world.router.metrics._close_tenant(of, "acme")
    metrics = [e.data or {} for e in world.logs["acme"].events if e.type == "metric"]
    assert sum(m["value"] for m in metrics if m["metric"] == "shoal.requests") == 2
    [of_today] = await world.usage.ledger.read("acme", [usage_ledger.today()])
    assert of_today.counts == {"requests": 2}
    await close_connections()


async def test_commands_run_atomically(stores_config: StoreConfig):
    client = async_redis(stores_config.online)
    for _ in range(2):
        replies = await run_atomically(client, [("SET", "{a}:1", "x"), ("GET", "{a}:1")])
        assert replies == [b"OK", b"x"]
    await close_connections()


async def test_more_commands_than_connections_wait(stores: TenantStores):
    await stores.online.set("n", 0)
    await asyncio.gather(*(stores.online.incr("n") for _ in range(1_000)))
    assert await stores.online.get("n") == b"1000"


async def test_keys_of_all_servers_are_found_and_erased(
    stores: TenantStores, stores_config: StoreConfig, tenant: str
):
    for number in range(300):
        await stores.online.set(("k", str(number)), number)
    assert len([key async for key in stores.online.scan("k")]) == 300
    assert await online_store.erase(stores_config, tenant) == 300
    assert not await online_store.has_data(stores_config, tenant)


async def test_the_directory_is_followed(engine: Engine):
    directory = Directory(engine.uri)
    await directory.create_tenant("acme")
    _, key = await directory.create_key("acme", "editor")
    await directory.boards.replace("acme", "b1", ["ana"])
    snapshot = Snapshot(directory, poll_seconds=30)  # so that messages alone tell
    await snapshot.start()
    assert key.split("_")[1].encode() in snapshot.keys
    for number in range(5):  # published by one server, heard from any
        await directory.create_tenant(f"globex-{number}")
        async with asyncio.timeout(25):
            while f"globex-{number}" not in snapshot.tenants:
                await asyncio.sleep(0.01)
    await snapshot.stop()
    assert (await directory.delete_tenant("acme"))["memberships"] == 1
    await close_connections()


async def test_files_are_rewritten_and_sizes_measured(
    stores: TenantStores, stores_config: StoreConfig, tenant: str
):
    await stores.online.set("k", "x" * 1_000)
    assert (await rewrite_files(stores_config.online)) == ""
    client = async_redis(stores_config.online)
    sizes = [size async for owner, size in _key_sizes(stores_config.online) if owner == tenant]
    assert client is async_redis(stores_config.online)
    assert len(sizes) == 1 and sizes[0] > 1_000


@pytest.mark.parametrize(
    "uri", ["redis+cluster://127.0.0.1:1,127.0.0.1:2", SENTINEL, "redis://:x@h"]
)
async def test_an_unreachable_server_is_unavailable(uri: str):
    uri = uri.replace("@h", "@127.0.0.1:1")
    with pytest.raises(Unavailable, match="Redis"):
        JobRuns(uri).add("a.b")
    with pytest.raises(Unavailable, match="Redis"), translate_errors():
        await async_redis(uri).get("x")
    await close_connections()


async def says(uri: str) -> str:
    """What a command and a job run say of a URI; they must say the same."""
    with pytest.raises(Unavailable) as blocking:
        JobRuns(uri).add("a.b")
    with pytest.raises(Unavailable) as error, translate_errors():
        await async_redis(uri).get("x")
    await close_connections()
    assert str(error.value) == str(blocking.value)
    return str(error.value)


async def test_faults_of_tls_name_the_file_or_the_reason(redis_engines: Engines, tmp_path: Path):
    uri, missing, text = redis_engines["tls"].uri, tmp_path / "none.pem", tmp_path / "text.pem"
    address = uri.partition("?")[0]
    text.write_text("no certificate")
    for path in (missing, text):
        said = await says(f"{address}?ssl_ca_certs={path}")
        assert "ssl_ca_certs" in said and str(path) in said
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(other)
    for trusted in (f"?ssl_ca_certs={other}", ""):
        assert "certificate of Redis is not trusted" in await says(address + trusted)
    wrong = uri.replace(PASSWORD, "wrong")
    assert await says(wrong) == "Redis refuses the password"


async def test_a_wrong_password_of_a_cluster_is_said(redis_engines: Engines):
    wrong = redis_engines["cluster"].uri.replace(PASSWORD, "wrong")
    assert await says(wrong) == "Redis refuses the password"


@pytest.mark.engines
async def test_a_wrong_master_of_sentinels_is_said(redis_engines: Engines):
    uri = redis_engines["sentinel"].uri
    assert "No Sentinel" in await says(uri.replace("service=shoal", "service=other"))


@pytest.mark.parametrize("name", ["cluster", *OTHERS])
@pytest.mark.timeout(280)
def test_every_operation_answers_on_each_engine(
    name: str, redis_engines: Engines, shoal_servers: StoreConfig
):
    uri = redis_engines[name].uri
    config = shoal_servers.model_copy(update={"online": uri, "events": uri})
    app = CapabilityApp(config, CAPABILITIES[1:])
    try:
        matrix = Matrix(app)
        matrix.seen["tenant"] = tenant = f"matrix-{name}"
        matrix.app.client(tenant).anomalies.put_rule(**SAMPLES["anomalies.put_rule"])
        point = Event(type="metric", source="test", data={"metric": "m", "value": 1.0})
        app.stream("anomalies.points", [point], tenant)
        matrix.run_samples(lambda _: True)
        assert matrix.faults == {}
    finally:
        app.close()  # erases the tenant, and fails where anything remains
