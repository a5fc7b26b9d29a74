"""What is held back after an alarm, and what is not."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal_anomalies import DEFAULT_THRESHOLD, score_series
from shoal_anomalies.alarm_policy import DAY, HOUR, AlarmPolicy, DetectorSettings

SETTINGS = DetectorSettings()
LENGTHS = {300: 9 * 288, 3_600: 21 * 24, 86_400: 120}


def alarms(points):
    """Indices of the alarms among (surprisal, time, excursion)."""
    policy = AlarmPolicy(SETTINGS)
    return [i for i, point in enumerate(points) if policy.score(*point) >= DEFAULT_THRESHOLD]


def found(step, first, second, gap, seed):
    """Whether six points times `second` alarm, `gap` points after one times `first`."""
    random = np.random.default_rng(seed)
    times = 1_699_920_000.0 + step * np.arange(LENGTHS[step])
    values = 100 + (30 * np.sin(times / DAY * 2 * np.pi) if step < DAY else 0.0)
    values = values * (1 + 0.03 * random.normal(size=len(times)))
    at = len(values) - 30
    values[at] *= first
    values[at + gap : at + gap + 6] *= second
    scores = score_series(times, values)[at + gap : at + gap + 6]
    return bool((scores >= DEFAULT_THRESHOLD).any())


@pytest.mark.parametrize("step", LENGTHS)
@pytest.mark.parametrize(
    ("first", "second", "gap"), [(0.5, 1.4, 1), (0.5, 1.4, 5), (1.6, 0.6, 1), (0.6, 0.0, 1)]
)
def test_an_alarm_hides_nothing_that_is_new(step, first, second, gap):
    assert found(step, 1.0, second, gap, 0) and found(step, first, second, gap, 0)


def test_more_of_the_same_is_held_for_hours_not_points():
    for step in (60, 600, 3_599):
        count = int(5.9 * HOUR / step)
        assert alarms([(5.0, step * i, 10.0) for i in range(count)]) == [0]
    assert alarms([(5.0, DAY * i, 10.0) for i in range(4)]) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("second", "is_new"),
    [
        ((5.0, 600.0, 10.0), False),
        ((5.0, 600.0, 19.0), False),
        ((5.0, 600.0, 20.0), True),  # twice as far
        ((8.0, 600.0, 10.0), True),  # worse
        ((5.0, 600.0, -5.0), True),  # to the other side
        ((5.0, 600.0, -4.9), False),  # a wobble on the way back
        ((5.0, 600.0, 0.0), False),
    ],
)
def test_worse_farther_and_opposite_points_are_new(second, is_new):
    assert alarms([(5.0, 0.0, 10.0), second]) == ([0, 1] if is_new else [0])


def test_after_a_calm_hour_the_same_is_new():
    calm = [(1.0, 300.0 * i, 0.0) for i in range(1, 14)]
    assert alarms([(5.0, 0.0, 10.0), *calm, (5.0, 4_200.0, 10.0)]) == [0, 14]
    restless = [(2.5 if i == 6 else 1.0, 300.0 * i, 0.0) for i in range(1, 14)]
    assert alarms([(5.0, 0.0, 10.0), *restless, (5.0, 4_200.0, 10.0)]) == [0]


@settings(max_examples=50, deadline=None)
@given(
    points=st.lists(
        st.tuples(st.floats(0, 20), st.floats(0, 20_000), st.floats(-9, 9)), max_size=30
    ),
    cut=st.integers(0, 30),
)
def test_a_restored_policy_continues_as_before(points, cut):
    time, one = 0.0, AlarmPolicy(SETTINGS)
    rows = [(nats, time := time + wait, excursion) for nats, wait, excursion in points]
    for row in rows[:cut]:
        one.score(*row)
    two = AlarmPolicy(SETTINGS)
    two.restore(json.loads(json.dumps(one.state())))
    assert [one.score(*row) for row in rows[cut:]] == [two.score(*row) for row in rows[cut:]]
    assert one.threshold >= SETTINGS.threshold


@pytest.mark.parametrize(("step", "days"), [(3_600, 2), (86_400, 40)])
def test_slow_series_alarm_after_days_not_a_hundred_points(step, days):
    count = days * 86_400 // step
    values = np.random.default_rng(1).normal(100, 3, count)
    values[-1] = 200.0
    scores = score_series(1.7e9 + step * np.arange(count), values)
    assert scores[-1] >= DEFAULT_THRESHOLD and (scores[:-1] >= DEFAULT_THRESHOLD).sum() <= 1
