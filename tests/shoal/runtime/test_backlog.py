"""What waits is measured as it is, over all tenants."""

import secrets
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shoal.eventlog import keys
from shoal.eventlog.dead_letters import add_dead_letter
from shoal.runtime.backlog import Backlog, BacklogExporter, measure_backlog, measure_index
from shoal.stores.redis_client import async_redis
from shoal.testing import CapabilityApp, wait_until

EVENT = b'{"specversion":"1.0","id":"1","source":"test","type":"item.created","data":{}}'


@pytest.fixture(scope="module")
def app(shoal_app: Callable[..., CapabilityApp]) -> Iterator[CapabilityApp]:
    yield shoal_app("optimizer", "search")


def test_the_backlog_is_what_was_left_waiting(app: CapabilityApp) -> None:
    """No worker runs, so everything that is appended waits."""
    names = [f"t-{secrets.token_hex(4)}" for _ in range(3)]
    for events, name in zip((3, 8, 0), names, strict=True):
        client = app.client(name, "admin")
        sent = [
            {"id": str(n), "source": "test", "type": "item.created", "data": {}}
            for n in range(events)
        ]
        if sent:
            client.platform.append_events(body=sent)
    runs = app.platform.job_runs
    due = datetime.now(UTC) - timedelta(minutes=10)
    late = runs.add("platform.compact", due=due)
    runs.update(late.id, late=True)
    started = runs.add("platform.compact")
    waiting = runs.add("platform.compact", due=datetime.now(UTC))
    assert {runs.claim().id for _ in range(2)} == {late.id, started.id}  # type: ignore[union-attr]

    async def measure() -> Backlog:
        redis = async_redis(app.platform.stores.events)
        for name in names:  # two groups that have begun: one handled all
            last = await redis.xrevrange(keys.log(name), count=1)
            ended = last[0][0] if last else b"0-0"
            await redis.hset(
                keys.groups(name), mapping={"search.index": "0-0", "optimizer.records": ended}
            )
        for group, letters in (("search.index", 2), ("optimizer.records", 1)):
            for n in range(letters):
                entry = (b"1-%d" % n, {b"t": b"item.created", b"e": EVENT})
                await add_dead_letter(redis, names[2], group, entry, "no", 5)
        return await measure_backlog(app.platform, names)

    found = app.run(measure())
    assert dict(found.dead_letters) == {"search.index": 2, "optimizer.records": 1}
    assert dict(found.job_runs) == {"running": 2, "queued": 1, "late": 1}
    assert 0 <= found.job_wait_seconds < 300
    assert found.lag_events == {"search.index": 8, "optimizer.records": 0}
    assert 0 <= found.lag_seconds["search.index"] < 300
    for run in (late, started, waiting):
        runs.finish(run.id, "cancelled")


def test_the_index_is_counted_over_tenants(app: CapabilityApp) -> None:
    names = [f"t-{secrets.token_hex(4)}" for _ in range(2)]
    item = {"board_id": "b", "type": "item", "title": "", "text": "plan"}
    item["updated_at"] = "2026-11-20T10:00:00Z"
    for rows, name in zip((1, 2), names, strict=True):
        app.client(name).search.add_items(body=[{**item, "id": str(n)} for n in range(rows)])
    wait_until(lambda: app.run(measure_index(app.platform, names)) == 3)


class RecordingGauge:
    """Ray's Gauge, with its values."""

    values: dict[tuple[str, ...], float] = {}  # noqa: RUF012

    def __init__(self, name: str, description: str, tag_keys: tuple[str, ...]) -> None:
        self.name, self.tag_keys = name, tag_keys

    def set(self, value: float, tags: dict[str, str] | None = None) -> None:
        self.values[(self.name, *((tags or {})[key] for key in self.tag_keys))] = value


def test_a_stream_that_caught_up_is_zero_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.util.metrics.Gauge", RecordingGauge)
    exporter = BacklogExporter(["search.index", "features.windows"])
    behind: Any = Backlog()
    behind.lag_events["search.index"] = 7
    behind.lag_seconds["search.index"] = 1.5
    behind.job_runs["late"] = 2
    exporter.export(behind)
    values = RecordingGauge.values
    assert values["shoal_stream_lag_events", "search", "index"] == 7
    assert values["shoal_stream_lag_events", "features", "windows"] == 0
    assert values["shoal_stream_lag_seconds", "search", "index"] == 1.5
    assert values["shoal_job_runs", "late"] == 2
    exporter.export(Backlog())
    exporter.export_index(5)
    assert values["shoal_stream_lag_events", "search", "index"] == 0
    assert values["shoal_job_runs", "late"] == 0 and values["shoal_index_rows",] == 5
