"""What is expected of a series that has no season yet."""

import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal_anomalies.alarm_policy import DetectorSettings
from shoal_anomalies.detector import Detector
from shoal_anomalies.series_state import SeriesState
from shoal_anomalies.usual_range import DAY, usual_ranges


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([20, 90, 200]), st.sampled_from([300, 10_800]))
def test_a_graph_shows_the_band_that_anomalies_quote(seed, count, step):
    random = np.random.default_rng(seed)
    times = 1.7e9 + step * np.arange(count) + random.uniform(0, step / 2, count)
    values = random.normal(5, 2, count)
    shown = usual_ranges(times, values, count // 2)
    state = SeriesState("0" * 16, "m", {}, Detector(DetectorSettings()))
    for i, (time, value) in enumerate(zip(times.tolist(), values.tolist(), strict=True)):
        state.score(time, value)
        if i >= count // 2:
            quoted = state.expected_range(time) or (np.nan,) * 3
            assert quoted == pytest.approx(tuple(shown[:, i - count // 2]), nan_ok=True)


def test_of_new_series_the_points_before_count():
    values = np.random.default_rng(1).normal(100, 3, 140)
    expected, lower, upper = usual_ranges(60.0 * np.arange(140), values)
    assert np.isnan(expected[:12]).all() and np.isfinite(expected[12:]).all()
    before = values[60:120].tolist()
    centre = statistics.median(before)
    reach = 3 * 1.4826 * statistics.median(abs(value - centre) for value in before)
    found = [row[120] for row in (expected, lower, upper)]
    assert found == pytest.approx([centre, centre - reach, centre + reach])


def test_the_same_hour_of_the_days_before_is_expected():
    hours = np.arange(24 * 6)
    values = np.where((hours % 24 >= 8) & (hours % 24 < 18), 1000.0 + hours % 7, 20.0)
    expected, lower, upper = usual_ranges(3600.0 * hours, values, 24 * 4)
    noon = 12
    assert lower[noon] < values[24 * 4 + noon] < upper[noon] and expected[noon] > 900
    assert expected[3] == 20.0 and (lower >= 0).all()
    below = usual_ranges(3600.0 * hours, values - 500, 24 * 4)
    assert (below[1] < 0).any()


def test_ranges_depend_on_the_past_only():
    times, values = DAY / 8 * np.arange(80), np.random.default_rng(2).normal(0, 1, 80)
    changed = np.where(np.arange(80) >= 50, -1e6, values)
    whole = usual_ranges(times, values)[:, :51]
    assert np.array_equal(whole, usual_ranges(times, changed)[:, :51], equal_nan=True)
    assert usual_ranges(times[:0], values[:0]).shape == (3, 0)
