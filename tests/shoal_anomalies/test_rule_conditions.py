"""Rules on counts, and on several metrics with the same labels."""

from datetime import UTC, datetime, timedelta

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from pydantic import ValidationError
from scipy import stats

from shoal import Event
from shoal_anomalies import keys
from shoal_anomalies.alert_manager import AlertManager
from shoal_anomalies.alert_state import read_alert_state
from shoal_anomalies.counts import CHANCE, Tally
from shoal_anomalies.maintenance import Match
from shoal_anomalies.rules import DEFAULT_RULES, Observation, Rule
from shoal_anomalies.stream_processor import StreamProcessor

pytestmark = pytest.mark.anyio

START = datetime(2026, 3, 2, tzinfo=UTC)
WEEK = 7 * 24 * 60  # minutes


def seen(minute, metric, value, expected=None, **others):
    time = START + timedelta(minutes=minute)
    known = {m: Observation(m, {}, m, time, v) for m, v in others.items() if v is not None}
    return Observation(metric, {}, metric, time, value, expected, interval=60.0, others=known)


def firing_minutes(rule, observations):
    """The minutes at which the rule fires."""
    manager, rules, firing, found = AlertManager(), {"r": rule}, False, []
    for minute, observation in enumerate(observations):
        manager.observe(observation, rules, observation.time)
        is_firing = any(alert.active_members for alert in manager.alerts.values())
        if is_firing and not firing:
            found.append(minute)
        firing = is_firing
    return found


def errors_of(rng, share, minutes, a_minute=5):
    """Points of an error rate and its requests, generated with NumPy alone."""
    requests = rng.poisson(a_minute, minutes)
    errors = rng.binomial(requests, share)
    return [
        seen(i, "error_rate", errors[i] / requests[i], requests=float(requests[i]))
        for i in range(minutes)
        if requests[i]
    ]


@given(of=st.integers(0, 400), share=st.floats(0, 1), limit=st.floats(0.01, 0.99))
@settings(max_examples=60, deadline=None)
def test_shares_are_compared_as_binomial_counts(of, share, limit):
    events = round(of * share)
    above = stats.binom.sf(events - 1, of, limit)
    below = stats.binom.cdf(events, of, limit)
    for condition, probability in (("above", above), ("below", below)):
        if not np.isclose(probability, CHANCE, rtol=1e-6):
            is_exceeded = Tally(events, of).exceeds(condition, limit)
            assert is_exceeded == (probability < CHANCE)


@given(expected=st.floats(0.1, 500), events=st.integers(0, 900), limit=st.floats(0.05, 1))
@settings(max_examples=60, deadline=None)
def test_drops_and_rises_are_compared_as_poisson_counts(expected, events, limit):
    rise = stats.poisson.sf(events - 1, (1 + limit) * expected)
    drop = stats.poisson.cdf(events, (1 - limit) * expected)
    for condition, probability in (("rise", rise), ("drop", drop)):
        if not np.isclose(probability, CHANCE, rtol=1e-6):
            is_exceeded = Tally(events, expected).exceeds(condition, limit)
            assert is_exceeded == (probability < CHANCE)


def test_few_errors_of_few_requests_page_nobody():
    rule = DEFAULT_RULES["error-rate"]
    points = errors_of(np.random.default_rng(1), 0.01, 2 * WEEK)
    assert firing_minutes(rule, points) == []
    uncounted = rule.model_copy(update={"volume": None})
    assert len(firing_minutes(uncounted, points)) > 20


@pytest.mark.parametrize(
    ("share", "a_minute", "within"), [(1, 5, 3), (0.5, 5, 20), (0.5, 100, 1), (0.2, 100, 3)]
)
def test_a_real_trouble_is_found_in_few_requests(share, a_minute, within):
    rng = np.random.default_rng(2)
    for _ in range(20):
        calm, trouble = errors_of(rng, 0.01, 5, a_minute), errors_of(rng, share, 60, a_minute)
        fired = firing_minutes(DEFAULT_RULES["error-rate"], trouble)
        assert fired and fired[0] <= within
        assert firing_minutes(DEFAULT_RULES["error-rate"], calm) == []


@pytest.mark.parametrize("expected", [1.0, 3.0, 10.0])
def test_small_counts_do_not_drop_by_chance(expected):
    rule = DEFAULT_RULES["request-drop"]
    counts = np.random.default_rng(3).poisson(expected, WEEK)
    points = [seen(i, "requests", float(n), expected) for i, n in enumerate(counts)]
    assert firing_minutes(rule, points) == []
    stopped = [seen(i, "requests", 0.0, expected) for i in range(60)]
    assert firing_minutes(rule, stopped) == [max(int(np.ceil(13.8 / expected)) - 1, 2)]


def test_a_rule_waits_for_its_minimum_volume():
    rule = Rule(
        priority="P1",
        condition="above",
        limit=0.1,
        match=Match(metric="error_rate"),
        volume="requests",
        min_volume=100,
    )
    points = [seen(i, "error_rate", 1.0, requests=30.0) for i in range(9)]
    assert firing_minutes(rule, points) == [3]
    unknown = [seen(i, "error_rate", 1.0) for i in range(9)]
    assert firing_minutes(rule, unknown) == [0]


VALUES = st.one_of(st.none(), st.sampled_from([0.0, 1.0, 2.0]))


@given(
    value=st.sampled_from([0.0, 1.0, 2.0]),
    others=st.fixed_dictionaries({"b": VALUES, "c": VALUES}),
    combine=st.sampled_from(["all", "any"]),
)
@settings(max_examples=60, deadline=None)
def test_conditions_of_several_metrics_are_combined(value, others, combine):
    rule = Rule(
        priority="P2",
        condition="above",
        limit=1,
        match=Match(metric="a"),
        also=[
            {"metric": "b", "condition": "above", "limit": 1},
            {"metric": "c", "condition": "below", "limit": 1},
        ],
        combine=combine,
        margin=0,
    )
    holds = [value > 1, others["b"] == 2.0, others["c"] == 0.0]
    point = seen(0, "a", value, **others)
    assert rule.is_met(point) == (all(holds) if combine == "all" else any(holds))
    assert rule.has_recovered(point) != rule.is_met(point)


@pytest.mark.parametrize(
    ("glob", "metric", "other"),
    [
        ("*error_rate", "shop.error_rate", "shop.requests"),
        ("*error_rate", "error_rate", "requests"),
        ("*error_rate", "http_error_rate", "http_requests"),
        ("shop.error_rate", "shop.error_rate", "shop.requests"),
        ("*.error*", "a.b.errors", "a.b.requests"),
        ("error?[a-z]ate", "error_rate", "requests"),
    ],
)
def test_a_star_names_the_other_metric(glob, metric, other):
    rule = DEFAULT_RULES["error-rate"].model_copy(update={"match": Match(metric=glob)})
    assert rule.applies_to(metric, {}) and rule.other_metrics(metric) == [other]


@pytest.mark.parametrize(
    "wrong",
    [
        {"volume": "requests", "limit": 3},
        {"volume": "requests", "condition": "drop"},
        {"counts": True},
        {"min_volume": 5},
        {
            "volume": "n",
            "combine": "any",
            "also": [{"metric": "m", "condition": "above", "limit": 1}],
        },
        {"also": [{"metric": "m", "condition": "drop", "limit": 2}]},
    ],
)
def test_rules_that_cannot_be_counted_are_refused(wrong):
    with pytest.raises(ValidationError):
        Rule.model_validate({"priority": "P1", "condition": "above", "limit": 0.5} | wrong)


def event(metric, minute, value, labels, start):
    data = {"metric": metric, "value": value, "labels": labels}
    id = f"{metric}/{minute}/{labels}"
    return Event(
        id=id, source="t", type="metric", time=start + timedelta(minutes=minute), data=data
    )


@pytest.mark.parametrize("together", [True, False])
async def test_points_of_several_metrics_meet_in_one_rule(ctx, together):
    rule = Rule(
        priority="P2",
        condition="above",
        limit=1,
        match=Match(metric="latency"),
        also=[{"metric": "load", "condition": "above", "limit": 5}],
    )
    await ctx.stores.online.hset(keys.RULES, "slow", rule.model_dump_json())
    start = datetime.now(UTC) - timedelta(minutes=30)
    for minute in range(10):
        latencies = [event("latency", minute, 2.0, {"host": host}, start) for host in "abc"]
        loads = [
            event("load", minute, load, {"host": host}, start)
            for host, load in (("a", 9.0), ("b", 1.0))
        ]
        processor = StreamProcessor()  # nothing in memory
        if together:
            await processor.handle(ctx, latencies + loads)
        else:
            await processor.handle(ctx, loads)
            await processor.handle(ctx, latencies)
    state = await read_alert_state(ctx)
    members = [m for alert in state.manager.alerts.values() for m in alert.members]
    firing = [(m.labels["host"], m.others) for m in members if m.rule == "slow"]
    assert firing == [("a", {"load": 9.0})]
