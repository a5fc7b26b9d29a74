"""Points in, alerts and notices out, on a real Redis."""

import asyncio
import zlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import orjson
import pytest

from shoal import Event
from shoal.stores.configuration import StoreConfig
from shoal.tenants.tenant_stores import open_stores
from shoal_anomalies import (
    jobs,
    keys,
    model_fitting,
    recent_points,
    series_cache,
    shoal_capabilities,
    stream_processor,
)
from shoal_anomalies.alert_clock import advance_alerts
from shoal_anomalies.alert_state import read_alert_state
from shoal_anomalies.archive import LakeArchive
from shoal_anomalies.batch_scoring import _correlation
from shoal_anomalies.detector import Detector
from shoal_anomalies.notifier import Notifier
from shoal_anomalies.points import series_id
from shoal_anomalies.rules import DEFAULT_RULES
from shoal_anomalies.series_state import SeriesState
from shoal_anomalies.stored_series import load_all_series
from shoal_anomalies.stream_processor import StreamProcessor

pytestmark = pytest.mark.anyio

MINUTE = timedelta(minutes=1)


def without_delivery(processor: StreamProcessor) -> StreamProcessor:
    """A processor that leaves its notices in the outbox."""
    processor.notifier.schedule_delivery = lambda ctx: None  # type: ignore[method-assign]
    return processor


@pytest.fixture
def processor():
    return without_delivery(StreamProcessor())


def events(values, metric="error_rate", *, until=None, step=MINUTE, **data):
    until = until or datetime.now(UTC).replace(second=0, microsecond=0)
    times = [until - step * (len(values) - 1 - i) for i in range(len(values))]
    return [
        Event(
            id=f"{metric}/{t.isoformat()}/{data}",
            type="metric",
            time=t,
            data={"metric": metric, "value": float(v), **data},
        )
        for t, v in zip(times, values, strict=True)
    ]


def changed(event, value):
    return event.model_copy(
        update={"id": f"{event.id}={value}", "data": {**event.data, "value": value}}
    )


def noise(n, level=0.01, spread=0.001, seed=0):
    return level + spread * np.random.default_rng(seed).random(n)


async def at_once(ctx):
    """Let the rule of the error rate wait for nothing."""
    rule = DEFAULT_RULES["error-rate"].model_copy(update={"group_wait": 0})
    await ctx.stores.online.hset(keys.RULES, "error-rate", rule.model_dump_json())


async def outbox(ctx):
    return {
        k.decode(): orjson.loads(v)
        for k, v in (await ctx.stores.online.hgetall(keys.OUTBOX)).items()
    }


async def anomalies(ctx):
    return [orjson.loads(a) for a in await ctx.stores.online.zrange(keys.ANOMALIES, 0, -1)]


async def read_points(ctx, metric="error_rate", labels=None, kind="gauge"):
    series = series_id(metric, labels or {}, kind)
    packed = await ctx.stores.online.get(keys.recent_points(series))
    return recent_points.merge_records(recent_points.unpack(packed))


async def test_a_high_error_rate_sends_one_explained_page(ctx, processor):
    await processor.handle(ctx, events([*noise(200), 0.4, 0.5]))
    box = await outbox(ctx)
    assert [e["channel"] for e in box.values()] == ["page"]
    (alert,) = (await read_alert_state(ctx)).manager.alerts.values()
    assert alert.priority == "P1"
    assert "error_rate is 0.5" in alert.sentence
    found = await anomalies(ctx)
    assert found[-1]["metric"] == "error_rate" and found[-1]["score"] >= 0.5


async def test_the_capabilitys_stream_handler_processes_points(ctx):
    [capability] = shoal_capabilities()
    await capability.streams[0].handle(ctx, events(noise(5)))
    assert len(await read_points(ctx)) == 5


@pytest.mark.parametrize("together", [True, False])
async def test_the_last_value_of_a_time_counts(ctx, processor, together):
    until = datetime.now(UTC).replace(second=0, microsecond=0)
    first, last = (events([value], until=until, labels={}) for value in (2, 99))
    if together:
        await processor.handle(ctx, [*first, *last])
    else:
        await processor.handle(ctx, first)
        await processor.handle(ctx, last)
    assert (await read_points(ctx)).values.tolist() == [99]


@pytest.mark.parametrize("offset", [0, 30])
async def test_series_correlate_by_their_nearest_points(offset):
    rng, start = np.random.default_rng(0), 1.8e9
    common, other = rng.normal(size=80).cumsum(), rng.normal(size=80)
    states = []
    for name, values, late in (("a", common, 0), ("b", common, offset), ("c", other, offset)):
        state = SeriesState(name, name, {}, Detector())
        for minute, value in enumerate(values):
            state.detector.update(start + 60 * minute + late, float(value))
        states.append(state)
    a, b, c = states
    assert _correlation(a, b) > 0.9 and abs(_correlation(a, c)) < 0.6


async def test_repeated_events_change_nothing(ctx, processor):
    await at_once(ctx)
    batch = events([*noise(200), 0.4, 0.5])
    await processor.handle(ctx, batch)
    assert len(await outbox(ctx)) == 1
    before = (await outbox(ctx), await anomalies(ctx), (await read_points(ctx)).times.tolist())
    await processor.handle(ctx, batch)
    await without_delivery(StreamProcessor()).handle(ctx, batch)
    assert (
        await outbox(ctx),
        await anomalies(ctx),
        (await read_points(ctx)).times.tolist(),
    ) == before


async def test_scores_do_not_depend_on_batches_or_restarts(ctx, processor):
    values = np.random.default_rng(1).normal(10, 1, 330)
    batch = events(values, "cpu")
    await processor.handle(ctx, batch)
    whole = (await read_points(ctx, "cpu")).scores
    for first in range(0, 330, 37):
        labelled = events(values, "cpu", labels={"again": "yes"})[first : first + 37]
        await without_delivery(StreamProcessor()).handle(ctx, labelled)
    assert np.array_equal((await read_points(ctx, "cpu", {"again": "yes"})).scores, whole)


async def test_alerts_survive_a_restart_and_resolve_after_it(ctx, processor):
    start = datetime.now(UTC).replace(second=0, microsecond=0) - 10 * MINUTE
    await processor.handle(ctx, events([*noise(200), 0.5, 0.5], until=start))
    await advance_alerts(ctx, datetime.now(UTC) + MINUTE)
    await without_delivery(StreamProcessor()).handle(
        ctx, events(noise(10), until=start + 10 * MINUTE)
    )
    (alert,) = (await read_alert_state(ctx)).manager.alerts.values()
    assert alert.state == "resolved"
    assert sorted(k.split("/")[1] for k in await outbox(ctx)) == ["opened", "resolved"]


async def test_late_points_are_stored_but_not_scored(ctx, processor):
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    await processor.handle(ctx, events(noise(50), until=now))
    await processor.handle(ctx, events([9.0], until=now - 30 * MINUTE + timedelta(seconds=30)))
    kept = await read_points(ctx)
    late = kept.values == 9.0
    assert len(kept) == 51 and late.sum() == 1 and np.isnan(kept.scores[late]).all()


async def test_a_corrected_value_is_stored_with_its_first_score(ctx, processor):
    batch = events(noise(50))
    await processor.handle(ctx, batch)
    await processor.handle(ctx, [changed(batch[10], 5.0)])
    kept = await read_points(ctx)
    assert len(kept) == 50 and kept.values[10] == 5.0 and not np.isnan(kept.scores[10])


async def test_a_counter_is_scored_as_its_rate_across_restarts(ctx, processor):
    now, counted = datetime.now(UTC), [100.0, 160.0, 280.0, 30.0, 90.0]
    await processor.handle(ctx, events(counted[:2], "hits", kind="counter", until=now - 3 * MINUTE))
    await without_delivery(StreamProcessor()).handle(
        ctx, events(counted[2:], "hits", kind="counter", until=now)
    )
    values = (await read_points(ctx, "hits", kind="counter")).values
    assert values == pytest.approx([1.0, 2.0, 0.5, 1.0], rel=1e-3)


@pytest.mark.parametrize("at_once", [True, False])
async def test_late_and_corrected_readings_of_a_counter_count(ctx, processor, at_once):
    minutes = events([0.0, 60.0, 120.0, 180.0, 240.0, 330.0], "hits", kind="counter")
    arriving = [minutes[i] for i in (0, 5, 2, 1, 4, 3)]
    arriving.append(changed(minutes[1], 90.0))
    for batch in [arriving] if at_once else [[event] for event in arriving]:
        await processor.handle(ctx, batch)
        await without_delivery(StreamProcessor()).handle(ctx, batch)  # and again, elsewhere
    values = (await read_points(ctx, "hits", kind="counter")).values
    assert values.tolist() == [1.5, 0.5, 1.0, 1.0, 1.5]


async def test_a_correction_can_be_taken_back(ctx, processor):
    batch = events(noise(20))
    await processor.handle(ctx, batch)
    for value in (5.0, 6.0, batch[3].data["value"]):
        await processor.handle(ctx, [changed(batch[3], value)])
        assert (await read_points(ctx)).values[3] == value
        processor = without_delivery(StreamProcessor())


@pytest.mark.parametrize(
    "data",
    [
        None,
        7,
        {},
        {"metric": "x"},
        {"metric": "a\nb", "value": 1},
        {"metric": "x", "value": "7"},
        {"metric": "x", "value": True},
    ],
)
async def test_an_invalid_event_does_not_block_others(ctx, processor, data):
    await processor.handle(ctx, [Event(type="metric", data=data), *events(noise(5))])
    assert len(await read_points(ctx)) == 5
    assert [rejection.event.data for rejection in ctx.rejections] == [data]


async def test_old_points_notify_nobody(ctx, processor):
    past = datetime.now(UTC) - timedelta(days=10)
    await processor.handle(ctx, events([*noise(200), 0.5, 0.5, *noise(20)], until=past))
    assert await anomalies(ctx) and not await outbox(ctx)


async def test_a_concurrent_acknowledgement_is_not_lost(ctx, processor):
    from shoal_anomalies.alert_state import commit

    start = datetime.now(UTC).replace(second=0, microsecond=0) - 10 * MINUTE
    await processor.handle(ctx, events([*noise(200), 0.5, 0.5], until=start))
    state = await read_alert_state(ctx)
    (alert,) = state.manager.alerts.values()
    state.manager.acknowledge(alert.id, "ana", datetime.now(UTC))
    await processor.handle(ctx, events([0.6, 0.6], until=start + 2 * MINUTE))
    assert not await commit(ctx, state), "the stream wrote first"
    state = await read_alert_state(ctx)
    state.manager.acknowledge(alert.id, "ana", datetime.now(UTC))
    assert await commit(ctx, state)
    await processor.handle(ctx, events([0.6], until=start + 3 * MINUTE))
    assert (await read_alert_state(ctx)).manager.alerts[alert.id].state == "acknowledged"


async def test_a_batch_that_crashed_is_processed_completely_next_time(ctx, processor, monkeypatch):
    await at_once(ctx)
    batch = events([*noise(200), 0.4, 0.5])

    async def dies(*args, **kwargs):
        raise ConnectionError("closed")

    with monkeypatch.context() as patch:
        patch.setattr(stream_processor, "commit", dies)
        with pytest.raises(ConnectionError):
            await processor.handle(ctx, batch)
    assert not await outbox(ctx) and not await anomalies(ctx)
    await processor.handle(ctx, batch)
    assert len(await outbox(ctx)) == 1 and len(await read_points(ctx)) == 202


async def test_related_metrics_are_one_alert_with_its_members(ctx, processor):
    base = np.abs(np.random.default_rng(2).normal(0, 0.001, 200))
    batch = events([*base, 0.5, 0.5], labels={"service": "shop"})
    batch += events([*(100 + 1000 * base), 900, 900], "latency_ms", labels={"service": "shop"})
    batch += events([*noise(200, 5, 1, 3), 500, 500], "queue", labels={"service": "bank"})
    await processor.handle(ctx, batch)
    alerts = (await read_alert_state(ctx)).manager.alerts.values()
    together = next(a for a in alerts if a.priority == "P1")
    assert {m.metric for m in together.members} == {"error_rate", "latency_ms"}
    assert len(alerts) == 2


async def test_new_points_are_archived_and_read_back_once(ctx, processor):
    await processor.handle(ctx, events(noise(100)))
    waiting = await ctx.stores.online.lrange(keys.UNARCHIVED, 0, -1)
    assert await jobs.archive_new_points(ctx) == 100
    await ctx.stores.online.rpush(
        keys.UNARCHIVED, *waiting
    )  # as after a crash between writing and forgetting
    await jobs.archive_new_points(ctx)
    series = series_id("error_rate", {})
    now = datetime.now(UTC).timestamp()
    kept = await LakeArchive(ctx.stores).read(series, now - 86_400, now + 60)
    assert len(kept) == 100
    assert np.array_equal(kept.scores, (await read_points(ctx)).scores)
    everything = await LakeArchive(ctx.stores).read_all(now - 86_400, now + 60)
    assert list(everything) == [series] and len(everything[series]) == 100


async def test_selected_series_are_read_across_all_days(ctx, processor):
    await processor.handle(
        ctx, events(noise(72), step=60 * MINUTE) + events(noise(72), "other", step=60 * MINUTE)
    )
    await jobs.archive_new_points(ctx)
    now, series = datetime.now(UTC).timestamp(), series_id("other", {})
    some = await LakeArchive(ctx.stores).read_all(now - 10 * 86_400, now + 60, [series, "0" * 16])
    assert list(some) == [series] and len(some[series]) == 72
    assert len(await LakeArchive(ctx.stores).read(series, now - 86_400, now + 60)) in (24, 25)
    assert not await LakeArchive(ctx.stores).read_all(now - 10 * 86_400, now + 60, [])


async def test_series_without_recent_points_are_deleted(ctx, processor):
    old = datetime.now(UTC) - timedelta(days=89)
    await processor.handle(ctx, events(noise(10), "old", until=old))
    await jobs.archive_new_points(ctx)
    series = series_id("old", {})
    stale = recent_points.pack((datetime.now(UTC) - timedelta(days=100)).timestamp(), 1.0, 0.0)
    await ctx.stores.online.set(keys.recent_points(series), stale)
    await jobs.delete_expired(ctx)
    assert not await ctx.stores.online.hexists(keys.SERIES, series)


async def test_recent_points_are_trimmed_to_the_detectors_history(ctx, processor):
    past = datetime.now(UTC) - timedelta(days=20)
    values = noise(recent_points.MAX_LENGTH + 10)
    await processor.handle(ctx, events(values, until=past))
    await jobs.delete_expired(ctx)
    assert len(await read_points(ctx)) == recent_points.TRIMMED_LENGTH
    other = without_delivery(StreamProcessor())
    await other.handle(ctx, events([0.01], until=past + MINUTE))
    assert len(await read_points(ctx)) == recent_points.TRIMMED_LENGTH + 1


async def test_no_point_is_lost_when_series_are_evicted(
    ctx, processor, monkeypatch, redis_port, tmp_path
):

    monkeypatch.setattr(series_cache, "MAX_CACHED", 20)
    config = StoreConfig(
        online=f"redis://127.0.0.1:{redis_port}/0", vectors="http://127.0.0.1:1", lake=str(tmp_path)
    )
    names = [f"{ctx.tenant}-{k}" for k in range(4)]
    others = [
        replace(ctx, tenant=name, stores=open_stores(config, name, "anomalies")) for name in names
    ]
    now = datetime.now(UTC)
    for minute in (2, 1, 0):
        batch = [e for k in range(15) for e in events([1.0], f"m{k}", until=now - minute * MINUTE)]
        await asyncio.gather(*(processor.handle(other, batch) for other in others))
    for other in others:
        assert [len(await read_points(other, f"m{k}")) for k in range(15)] == [3] * 15
        assert await other.stores.online.hlen(keys.SERIES) == 15
    assert len(processor.cache) <= 20


async def test_a_tenant_created_again_has_its_series_listed(ctx, processor):
    now = datetime.now(UTC)
    await processor.handle(ctx, events(noise(30), until=now - MINUTE))
    await processor.handle(ctx, events([1.0], "old", until=now - MINUTE))
    for place in (
        keys.SERIES,
        keys.UNARCHIVED,
        keys.STATES,
        keys.recent_points(series_id("error_rate", {})),
        keys.recent_points(series_id("old", {})),
    ):
        await ctx.stores.online.unlink(place)
    await processor.handle(ctx, [*events([0.5], until=now), *events([1.0], "fresh", until=now)])
    listed = (await ctx.stores.online.hgetall(keys.SERIES)).values()
    assert {orjson.loads(about)["metric"] for about in listed} == {"error_rate", "fresh"}
    assert len(await read_points(ctx)) == 1 and {*processor.cache.of_tenant(ctx.tenant)} == {
        series_id(metric, {}) for metric in ("error_rate", "fresh")
    }


async def test_a_fitted_season_finds_values_unusual_for_the_hour(ctx, processor):
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    hours = np.arange(24 * 21)
    values = (
        100
        + 50 * np.sin(hours / 24 * 2 * np.pi)
        + np.random.default_rng(5).normal(0, 2, len(hours))
    )
    await processor.handle(
        ctx, events(values, "visits", until=now - timedelta(hours=1), step=timedelta(hours=1))
    )
    await jobs.archive_new_points(ctx)
    history = await jobs.read_history(ctx)
    batch = {
        "series": list(history),
        "times": [r.times for r in history.values()],
        "values": [r.values for r in history.values()],
    }
    fitted = model_fitting.fit_season_batch(batch, "stl", None)
    assert fitted["fault"] == [""]
    await ctx.stores.online.hset(
        keys.SEASONS, mapping=dict(zip(fitted["series"], fitted["model"], strict=True))
    )
    await ctx.stores.online.set(keys.FITTED_AT, "1")
    expected = 100 + 50 * np.sin(len(hours) / 24 * 2 * np.pi)
    await processor.handle(
        ctx, events([expected + 45], "visits", until=now, step=timedelta(hours=1))
    )
    found = (await anomalies(ctx))[-1]
    assert found["value"] == expected + 45
    assert "seasonal" in found["methods"] and found["lower"] < expected < found["upper"]
    assert found["expected"] == pytest.approx(expected, abs=10)


async def fitted_forest(ctx, processor, labels, until):
    """Three metrics that follow each other, and the forest of them."""
    random = np.random.default_rng(6)
    n = 600
    load = random.normal(1000, 100, n)
    latency, cpu = load / 10 + random.normal(0, 1, n), load / 20 + random.normal(0, 0.5, n)
    for metric, values in (("load", load), ("latency", latency), ("cpu", cpu)):
        await processor.handle(ctx, events(values, metric, labels=labels, until=until))
    await jobs.archive_new_points(ctx)
    about = load_all_series(await ctx.stores.online.hgetall(keys.SERIES))
    forests = model_fitting.fit_forests(await jobs.read_history(ctx), about)
    await jobs.store_forests(ctx, forests)
    await ctx.stores.online.set(keys.FITTED_AT, "1")


@pytest.mark.parametrize("together", [True, False], ids=["in one batch", "one by one"])
async def test_an_unusual_combination_is_explained_by_its_drivers(ctx, processor, together):
    labels, until = {"service": "shop"}, datetime.now(UTC).replace(second=0, microsecond=0) - MINUTE
    await fitted_forest(ctx, processor, labels, until)
    batch = [
        e
        for m, v in (("load", 1000.0), ("latency", 160.0), ("cpu", 80.0))
        for e in events([v], m, labels=labels, until=until + MINUTE)
    ]
    for part in [batch] if together else [[e] for e in batch]:
        await processor.handle(ctx, part)
    unusual = [a for a in await anomalies(ctx) if a["drivers"]]
    assert unusual and "multivariate" in unusual[0]["methods"]
    assert {d["metric"] for d in unusual[0]["drivers"][:2]} == {"latency", "cpu"}


async def test_the_job_sends_notices_of_a_dead_worker(ctx, processor, webhook):
    channel = orjson.dumps(webhook.channel)
    await ctx.stores.online.hset(keys.CHANNELS, "page", channel)
    await at_once(ctx)
    await processor.handle(ctx, events([*noise(200), 0.4, 0.5]))
    assert len(await outbox(ctx)) == 1 and not webhook.received
    job = SimpleNamespace(tenants=[ctx], arguments={}, progress=lambda *_: None)
    result = await jobs.keep(job)  # type: ignore[arg-type]
    assert result["tenants"] == {ctx.tenant: {"P1": 1, "P2": 0, "P3": 0}}
    assert len(webhook.received) == 1 and not await outbox(ctx)
    await jobs.keep(job)  # type: ignore[arg-type]
    assert len(webhook.received) == 1


async def test_a_webhook_gets_the_alert_as_data(ctx, processor, webhook):
    ctx.services.section = {"public_url": "https://shoal.example.com"}
    await ctx.stores.online.hset(keys.CHANNELS, "page", orjson.dumps(webhook.channel))
    await at_once(ctx)
    now = datetime.now(UTC).replace(second=0, microsecond=0) - 10 * MINUTE
    for n, values in enumerate(([*noise(200), 0.4, 0.5], [0.75], noise(9))):
        labels = {"service": "shop"}
        until = (now, now + MINUTE, now + 10 * MINUTE)[n]
        await processor.handle(ctx, events(values, until=until, labels=labels))
        await Notifier().deliver(ctx)
    opened, resolved = webhook.received
    (alert,) = (await read_alert_state(ctx)).manager.alerts.values()
    assert opened["alert"] == resolved["alert"] == alert.id
    assert opened["link"] == f"https://shoal.example.com/console/anomalies?alert={alert.id}"
    assert (opened["state"], resolved["state"]) == ("open", "resolved")
    series = opened["series"][0]  # the most urgent
    expected = {
        "labels": {"service": "shop"},
        "rule": "error-rate",
        "rule_name": "Error rate above 10 %",
        "condition": "above",
        "limit": 0.1,
        "value": 0.5,
        "state": "firing",
    }
    assert expected.items() <= series.items()
    assert opened["labels"] == {"service": "shop"} and opened["resolved"] is None
    assert resolved["resolved"] is not None and resolved["series"][0]["value"] < 0.1
    text = "error_rate (service=shop): firing since"
    assert text in opened["text"] and "(error-rate), above 0.1." in opened["text"]


async def test_five_points_with_days_between_them_do_not_fire(ctx, processor):
    rule = DEFAULT_RULES["error-rate"].model_copy(update={"points": 5})
    await ctx.stores.online.hset(keys.RULES, "error-rate", rule.model_dump_json())
    now = datetime.now(UTC)
    await processor.handle(ctx, events([0.5] * 3, until=now - timedelta(days=3)))
    await processor.handle(ctx, events([0.5] * 2, until=now))
    assert not (await read_alert_state(ctx)).manager.alerts
    await processor.handle(ctx, events([0.5] * 3, until=now + 3 * MINUTE))
    assert len((await read_alert_state(ctx)).manager.alerts) == 1


async def test_points_are_replayed_over_a_state_of_another_version(ctx, processor):
    await processor.handle(ctx, events(noise(150), until=datetime.now(UTC) - MINUTE))
    await ctx.stores.online.hset(
        keys.STATES, series_id("error_rate", {}), zlib.compress(b'{"version": 0}')
    )
    await without_delivery(StreamProcessor()).handle(ctx, events([0.9]))
    assert (await anomalies(ctx))[-1]["value"] == 0.9


async def test_a_waiting_notice_is_sent_without_new_points(ctx, webhook):
    await ctx.stores.online.hset(keys.CHANNELS, "page", orjson.dumps(webhook.channel))
    rule = DEFAULT_RULES["error-rate"].model_copy(update={"group_wait": 0.02})
    await ctx.stores.online.hset(keys.RULES, "error-rate", rule.model_dump_json())
    processor = StreamProcessor()
    await processor.handle(ctx, events([*noise(200), 0.4, 0.5]))
    assert not await outbox(ctx) and not webhook.received
    for _ in range(1_000):
        if webhook.received and not await outbox(ctx):
            break
        await asyncio.sleep(0.02)
    assert [m["title"].split(" (")[0] for m in webhook.received] == ["[P1] error_rate"]
    assert isinstance(processor.notifier, Notifier)
