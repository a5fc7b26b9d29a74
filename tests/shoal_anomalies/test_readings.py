"""A counter's rates, in whatever order its readings come."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal_anomalies.readings import KEPT, NO_START, CounterReadings

READINGS = st.lists(
    st.tuples(
        st.integers(0, 9),
        st.sampled_from([0.0, 5.0, 60.0, 61.5]),
        st.sampled_from([NO_START, 2.5, 4.0, 7.5]),
    ),
    max_size=20,
)


def rates_of(readings):
    """By the book: of the last reading of each time, each against the one before."""
    last = sorted({time: (value, start) for time, value, start in readings}.items())
    found = {}
    for (before, (count, _)), (time, (value, start)) in pairwise(last):
        restarted = value < count or start > before
        found[time] = (value if restarted else value - count) / (time - before)
    return found


@settings(max_examples=100, deadline=None)
@given(READINGS)
def test_rates_do_not_depend_on_the_order_of_arrival(arriving):
    readings, found = CounterReadings(), {}
    for time, value, start in arriving:
        found.update(readings.add(float(time), value, start))
        readings = CounterReadings.from_bytes(readings.to_bytes())
    assert found == rates_of(arriving)
    assert all(readings.add(float(t), v, s) == [] for t, v, s in dict.fromkeys(arriving[-1:]))


def test_readings_before_those_kept_are_let_go():
    readings = CounterReadings()
    for minute in range(2 * KEPT):
        readings.add(60.0 * minute, 60.0 * minute)
    assert readings.add(60.0 * KEPT - 1, 7.0) == []
    late = 60.0 * KEPT + 30
    assert readings.add(late, late) == [(late, 1.0), (60.0 * (KEPT + 1), 1.0)]
    assert len(readings.to_bytes()) == KEPT * 24


def test_a_counter_beyond_all_numbers_has_no_rate():
    readings = CounterReadings()
    assert readings.add(0.0, -1.7e308) == []
    assert readings.add(1e-3, 1.7e308) == []
    assert readings.add(2.0, 0.0) == [(2.0, pytest.approx(0.0))]
