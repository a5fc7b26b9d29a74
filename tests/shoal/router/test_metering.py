"""Request metrics, summed over replicas and exported, and the audit log."""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from shoal import Unavailable
from shoal.router.metering import BOUNDS, RequestCounts, RequestMetrics, metric_events, quantile
from shoal.stores.redis_client import run_atomically
from shoal.tenants.directory import Directory
from shoal.tenants.keyspace import minute_keys
from shoal.testing.servers import RedisServer

from ..conftest import Log, World

pytestmark = pytest.mark.anyio


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000 * 60.0

    def __call__(self) -> float:
        return self.now


class Setting:
    """Replicas of one capability with a clock of their own."""

    def __init__(self, directory: Directory, replicas: int = 1) -> None:
        self.clock, self.logs = Clock(), {"acme": Log(), "globex": Log()}
        self.alive = set(self.logs)
        self.replicas = [
            RequestMetrics(
                directory,
                lambda tenant: SimpleNamespace(events=self.logs[tenant]),
                "search",
                self.alive.__contains__,
                clock=self.clock,
            )  # type: ignore[arg-type, return-value]
            for _ in range(replicas)
        ]

    async def end_minute(self) -> None:
        """The minute ends, and every replica flushes."""
        for metrics in self.replicas:
            await metrics.flush()
        self.clock.now += 76
        await asyncio.gather(*(metrics.close_minutes() for metrics in self.replicas))

    def values(self, tenant: str = "acme", **labels: str) -> dict[str, float]:
        want = {"capability": "search", **labels}
        return {
            e.data["metric"]: e.data["value"]
            for e in self.logs[tenant].events
            if e.data["labels"] == want
        }


def test_histogram_quantiles_are_near_the_exact_ones() -> None:
    seconds = np.random.default_rng(1).lognormal(-6, 1, 20_000)
    buckets = np.bincount(np.searchsorted(BOUNDS, seconds), minlength=len(BOUNDS) + 1).tolist()
    for q in (0.05, 0.5, 0.95, 0.999):
        assert quantile(buckets, q) == pytest.approx(np.quantile(seconds, q), rel=0.1)
    assert quantile([0] * 41, 0.5) == 0
    assert quantile([0] * 40 + [3], 0.5) > BOUNDS[-1]


async def test_the_replicas_of_a_minute_become_one_set_of_events(
    directory: Directory,
) -> None:
    setting = Setting(directory, replicas=3)
    for i, metrics in enumerate(setting.replicas):
        for j in range(10):
            metrics.record(
                "acme", "GET /q", 500 if j == 0 else 200, 0.010, f"user{(i * j) % 7}", {}
            )
        metrics.record("globex", "GET /q", 200, 0.001, None, {})
    await setting.end_minute()
    values = setting.values()
    assert values["shoal.requests"] == 30
    assert values["shoal.error_rate"] == 0.1
    assert values["shoal.latency_p50"] == pytest.approx(10, rel=0.3)
    assert values["shoal.latency_p95"] == pytest.approx(10, rel=0.3)
    assert values["shoal.active_users"] == 7
    assert setting.values("globex")["shoal.requests"] == 3
    assert len(setting.logs["acme"].events) == 5
    assert {e.type for e in setting.logs["acme"].events} == {"metric"}
    assert setting.logs["acme"].events[0].time.timestamp() == 1_000_000 * 60


async def test_variants_are_counted_separately(directory: Directory) -> None:
    setting = Setting(directory)
    [metrics] = setting.replicas
    for i in range(10):
        metrics.record(
            "acme",
            "GET /q",
            200 if i else 503,
            0.001,
            None,
            {"ranking": "b" if i % 2 else "a", "other/x": "y"} if i < 8 else {},
        )
    await setting.end_minute()
    assert setting.values(experiment="ranking", variant="a")["shoal.variant.requests"] == 4
    assert setting.values(experiment="ranking", variant="a")["shoal.variant.error_rate"] == 0.25
    assert setting.values(experiment="ranking", variant="b")["shoal.variant.requests"] == 4


async def test_a_tenant_without_requests_gets_zeros_for_a_day(directory: Directory) -> None:
    setting = Setting(directory)
    setting.replicas[0].record("acme", "GET /q", 200, 0.001, None, {})
    await setting.end_minute()
    setting.logs["acme"].events.clear()
    setting.clock.now += 60
    await setting.replicas[0].close_minutes()
    assert [(e.data["metric"], e.data["value"]) for e in setting.logs["acme"].events] == [
        ("shoal.requests", 0)
    ]
    setting.logs["acme"].events.clear()
    setting.clock.now += 86_400 + 600
    await setting.replicas[0].close_minutes()
    assert setting.logs["acme"].events == []


async def test_an_erased_tenant_gets_no_late_metrics(directory: Directory) -> None:
    setting = Setting(directory)
    setting.replicas[0].record("acme", "GET /q", 200, 0.001, None, {})
    setting.alive.discard("acme")
    await setting.end_minute()
    assert setting.logs["acme"].events == []


async def test_an_unavailable_log_gets_the_minute_later(directory: Directory) -> None:
    setting = Setting(directory)
    setting.replicas[0].record("acme", "GET /q", 200, 0.001, None, {})
    setting.logs["acme"].fault = ConnectionError("away")
    with pytest.raises(ConnectionError):
        await setting.end_minute()
    setting.logs["acme"].fault = None
    await setting.replicas[0].close_minutes()
    assert setting.values()["shoal.requests"] == 1


async def test_many_tenants_are_flushed_in_parts(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the parts before a failure added is not added again."""
    setting, names = Setting(directory), [f"t{n}" for n in range(50)]
    setting.alive |= set(names)
    [metrics] = setting.replicas
    for name in names:
        metrics.record(name, "GET /", 200, 0.01, "ana", {})
    sent: list[int] = []

    async def fail_once(client: Any, commands: Any) -> Any:
        sent.append(len(commands))
        if len(sent) == 2:
            raise ConnectionError
        return await run_atomically(client, commands)

    monkeypatch.setattr("shoal.router.metering.run_atomically", fail_once)
    with pytest.raises(Unavailable):
        await metrics.flush()
    await metrics.flush()
    await metrics.flush()
    minute = int(setting.clock() // 60)
    for name in names:
        counts, users = minute_keys("search", minute, name)
        assert await directory.redis.hget(counts, "n/") == b"1"
        assert await directory.redis.pfcount(users) == 1
    assert len(sent) == 4  # one part, a failure, and the rest in two parts


async def test_counts_are_kept_while_redis_is_unavailable(directory: Directory) -> None:
    setting = Setting(directory)
    [metrics] = setting.replicas
    metrics.record("acme", "GET /q", 200, 0.001, "ana", {})
    metrics._directory = Directory("redis://127.0.0.1:1/0")
    with pytest.raises(Exception, match="Redis is unavailable"):
        await metrics.flush()
    metrics.record("acme", "GET /q", 200, 0.001, "bob", {})
    metrics._directory = directory
    await setting.end_minute()
    assert (setting.values()["shoal.requests"], setting.values()["shoal.active_users"]) == (2, 2)


async def test_counts_in_redis_expire(directory: Directory, redis_server: RedisServer) -> None:
    setting = Setting(directory)
    setting.replicas[0].record("acme", "GET /q", 200, 0.001, "ana", {})
    await setting.replicas[0].flush()
    for key in minute_keys("search", 1_000_000, "acme"):
        assert 0 < redis_server.client.ttl(key) <= 900  # type: ignore[operator]


def test_metric_events_have_stable_ids() -> None:
    counts = {b"n/": b"2", b"12/": b"2", b"n/e/v": b"1", b"3/e/v": b"1"}
    once, again = (metric_events("search", 5, counts, 1) for _ in range(2))
    assert [e.id for e in once] == [e.id for e in again]
    assert len({e.id for e in once}) == len(once)


class RecordingExporter:
    """Adds up what it is given."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str, int]] = Counter()
        self.buckets: Counter[int] = Counter()

    def export(self, requests: Mapping[tuple[str, str, int], RequestCounts]) -> None:
        for key, counts in requests.items():
            self.counts[key] += counts.count
            self.buckets.update(dict(enumerate(counts.buckets)))

    def export_replica(self, blocked: float, memory: int) -> None:
        pass


async def test_requests_are_exported_by_route_and_status(world: World) -> None:
    exporter = world.router.metrics._exporter = RecordingExporter()
    await world.call("PUT", "/items/1", json={"text": "x"})
    for path in ("/items/1", "/items/2", "/made-up/1", "/made-up/2"):
        await world.get(path)
    await world.router.metrics.flush()
    await world.get("/who?tenant=globex")
    await world.get("/boom", headers={"shoal-user": "ana"})
    await world.get("/who", "globex-reader")
    for _ in range(2):
        await world.router.metrics.flush()
    assert exporter.counts == {
        ("acme", "PUT /greeting/items/{item}", 200): 1,
        ("acme", "GET /greeting/items/{item}", 200): 1,
        ("acme", "GET /greeting/items/{item}", 404): 1,
        ("acme", "GET -", 404): 2,
        ("acme", "GET -", 403): 1,
        ("acme", "GET /greeting/boom", 500): 1,
        ("globex", "GET /greeting/who", 200): 1,
    }
    assert exporter.buckets.total() == exporter.counts.total()


async def test_a_failing_exporter_does_not_stop_the_flush(directory: Directory) -> None:
    setting = Setting(directory)
    setting.replicas[0]._exporter = SimpleNamespace()  # type: ignore[assignment]
    setting.replicas[0].record("acme", "GET /q", 200, 0.001, None, {})
    await setting.end_minute()
    assert setting.values()["shoal.requests"] == 1


# The audit log


async def entries(world: World, tenant: str = "acme") -> list[Any]:
    await world.router._audit.close()
    return (await world.directory.list_audit(tenant))[0]


async def test_writes_are_audited_and_reads_are_not(world: World) -> None:
    response = await world.call(
        "PUT",
        "/items/7?note=secret-query",
        json={"text": "secret-body"},
        headers={"shoal-user": "ana"},
    )
    await world.call("POST", "/operate")
    await world.call("PUT", "/items/8", "acme-reader", json={"text": "x"})
    await world.get("/who")
    await world.call("POST", "/read", json=["1"])
    await world.call("PUT", "/items/9", "globex-editor", json={"text": "x"})
    found = await entries(world)
    assert [(e.action, e.status, e.role) for e in found] == [
        ("PUT /greeting/items/{item}", 403, "reader"),
        ("POST /greeting/operate", 403, "editor"),
        ("PUT /greeting/items/{item}", 200, "editor"),
    ]
    first = found[-1]
    assert (first.user, first.path, first.request_id) == (
        "ana",
        "/greeting/items/7",
        response.headers["x-request-id"],
    )
    assert first.credential == "key:" + world.keys["acme-editor"].split("_")[1]
    for secret in ("secret-query", "secret-body", world.keys["acme-editor"].split("_")[2]):
        assert secret not in json.dumps([e.model_dump(mode="json") for e in found])
    assert [e.path for e in await entries(world, "globex")] == ["/greeting/items/9"]


async def test_a_key_pasted_as_an_id_is_in_no_answer_and_no_entry(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "httpx")  # the caller's own log has the caller's path
    key = world.keys["globex-admin"]
    id, secret = key.split("_")[1:]
    await world.call("PUT", f"/items/{key}", json={"text": "x"})
    answer = await world.call("PUT", f"/nothing/{key}", json={"text": "x"})
    assert answer.status_code == 404 and id in answer.text and secret not in answer.text
    [entry] = [e for e in await entries(world) if e.status == 200]
    assert entry.path == f"/greeting/items/shoal_{id}_…"


async def test_stopping_loses_no_audit_entry(new_world: Callable[..., Any]) -> None:
    world = await new_world()
    await asyncio.gather(*(world.call("POST", "/bare") for _ in range(50)))
    await world.router.stop()
    assert len((await world.directory.list_audit("acme"))[0]) == 50


async def test_late_writes_do_not_recreate_an_erased_tenant(
    world: World, redis_server: RedisServer
) -> None:
    await world.call("POST", "/bare", headers={"shoal-user": "ana"})
    await world.directory.begin_removal("acme", notice=0)
    await world.router.snapshot.catch_up()
    await world.directory.delete_tenant("acme")
    await world.router.stop()
    keys: Any = redis_server.client.keys()
    assert not [key for key in keys if b"acme" in key]
    assert not redis_server.client.zscore("{%shoal}:active:greeting", "acme")
