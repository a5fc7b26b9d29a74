"""Broken state of one thing stops nothing else of its tenant."""

from datetime import UTC, datetime, timedelta

import numpy as np
import orjson
import pytest

from shoal import Event
from shoal_anomalies import keys, recent_points
from shoal_anomalies.alert_state import read_alert_state
from shoal_anomalies.points import series_id
from shoal_anomalies.series_state import SeriesState
from shoal_anomalies.stored_rules import load_alerts, load_rules, load_windows
from shoal_anomalies.stored_series import load_series
from shoal_anomalies.stream_processor import StreamProcessor

pytestmark = pytest.mark.anyio

BROKEN = [b"", b"{", b"[]", b"\xff", b'{"version": 99}', b'{"metric": 1}', b"7", b'"text"']
PLACES = {
    "series": keys.SERIES,
    "state": keys.STATES,
    "season": keys.SEASONS,
    "rule": keys.RULES,
    "window": keys.WINDOWS,
}


def processor() -> StreamProcessor:
    found = StreamProcessor()
    found.notifier.schedule_delivery = lambda ctx: None  # type: ignore[method-assign]
    return found


def events(values, metric, until, **data):
    first = until - timedelta(minutes=len(values) - 1)
    return [
        Event(
            type="metric",
            time=first + timedelta(minutes=i),
            data={"metric": metric, "value": float(value), **data},
        )
        for i, value in enumerate(values)
    ]


async def points_of(ctx, *series):
    packed = await ctx.stores.online.get(keys.recent_points(series_id(*series)))
    return recent_points.merge_records(recent_points.unpack(packed))


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
async def test_one_broken_record_stops_no_batch(ctx, place):
    now = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=9)
    await processor().handle(ctx, [*events([0.01] * 20, "a", now), *events([1.0] * 20, "b", now)])
    for minute, stored in enumerate(BROKEN, 1):
        await ctx.stores.online.hset(place, series_id("a", {}), stored)
        at = now + timedelta(minutes=minute)
        both = [*events([0.01], "a", at), *events([1.0], "b", at)]
        await processor().handle(ctx, both)
        assert (
            len(await points_of(ctx, "a", {})) == len(await points_of(ctx, "b", {})) == 20 + minute
        )


@pytest.mark.parametrize("stored", BROKEN)
def test_unreadable_rules_and_windows_leave_the_others(stored):
    good = orjson.dumps({"priority": "P3", "condition": "above", "limit": 1})
    rules = load_rules({b"error-rate": stored, b"mine": good, b"unusual": b"null"})
    assert rules["error-rate"].priority == "P1" and rules["mine"].limit == 1
    assert "unusual" not in rules
    assert load_windows({b"w": stored}) == {} and load_alerts(stored).alerts == {}
    assert load_series("s", stored) is None


async def test_unreadable_alerts_fire_again(ctx):
    now = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=5)
    await processor().handle(ctx, events([0.01] * 20 + [0.5] * 3, "error_rate", now))
    await ctx.stores.online.hset(keys.ALERT_STATE, "alerts", b'{"alerts": 7}')
    await processor().handle(ctx, events([0.5] * 3, "error_rate", now + timedelta(minutes=3)))
    assert len((await read_alert_state(ctx)).manager.alerts) == 1


def test_a_series_that_cannot_be_scored_begins_anew(caplog):
    from shoal_anomalies.detector import Detector

    state = SeriesState("s", "s", {}, Detector())
    for i in range(200):
        state.score(60.0 * i, float(i % 7))
    state.band_tail = None
    state.model = object()
    assert state.score(60.0 * 200, 3.0).score == 0.0
    assert "begins anew" in caplog.text
    assert state.score(60.0 * 201, 4.0).score == 0.0 and len(state.detector.values) == 2


async def test_a_gauge_and_a_counter_of_one_name_are_two_series(ctx):
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    total, labels = np.cumsum(np.full(30, 120.0)), {"host": "a"}
    mixed = [
        *events(np.full(30, 5.0), "load", now, labels=labels),
        *events(total, "load", now, labels=labels, kind="counter"),
    ]
    await processor().handle(ctx, mixed)
    gauge, counter = (
        (await points_of(ctx, "load", labels)),
        (await points_of(ctx, "load", labels, "counter")),
    )
    assert gauge.values.tolist() == [5.0] * 30 and counter.values.tolist() == [2.0] * 29
    stored = await ctx.stores.online.hgetall(keys.SERIES)
    assert sorted(orjson.loads(info)["kind"] for info in stored.values()) == ["counter", "gauge"]
