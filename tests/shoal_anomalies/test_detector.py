import doctest
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import shoal_anomalies
from shoal_anomalies import (
    DEFAULT_THRESHOLD,
    detector,
    score_series,
    seasonal,
    statistical,
    tail_probability,
)
from shoal_anomalies.detector import Detector, alarm_scores, rarity
from shoal_anomalies.series_state import SeriesState

FIVE_MINUTES = 300.0


def alarms(values, step=FIVE_MINUTES):
    return np.flatnonzero(
        score_series(1.7e9 + step * np.arange(len(values)), values) >= DEFAULT_THRESHOLD
    )


@pytest.mark.parametrize("module", [detector, tail_probability, statistical])
def test_the_examples_in_docstrings_are_correct(module):
    assert doctest.testmod(module).failed == 0


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    length=st.integers(2, 400),
    cut=st.floats(0, 1),
    extremes=st.lists(st.sampled_from([0.0, 1e9, -1e9, np.nan, np.inf, 1e-300, 1e300]), max_size=5),
)
def test_a_prefix_has_the_same_scores_as_the_whole(seed, length, cut, extremes):
    random = np.random.default_rng(seed)
    values = random.normal(50, random.choice([0, 1e-6, 1, 100]), length)
    values[random.integers(0, length, len(extremes))] = extremes
    times = 1.7e9 + np.cumsum(random.exponential(FIVE_MINUTES, length))
    whole = score_series(times, values)
    end = int(cut * length)
    assert np.array_equal(whole[:end], score_series(times[:end], values[:end]))
    assert np.isfinite(whole).all() and (whole >= 0).all() and (whole <= 1).all()


def test_later_points_change_no_scores_beyond_the_history():
    values = np.random.default_rng(0).normal(0, 1, 5_000)
    times = FIVE_MINUTES * np.arange(5_000)
    assert np.array_equal(
        score_series(times, values)[:4_500], score_series(times[:4_500], values[:4_500])
    )


def test_a_spike_and_a_drop_alarm_at_once():
    values = np.random.default_rng(1).normal(100, 2, 1_000)
    values[600], values[900] = 160, 30
    found = alarms(values)
    assert 600 in found and 900 in found and len(found) <= 4


def test_a_level_shift_alarms_once_and_becomes_normal():
    random = np.random.default_rng(2)
    values = np.concatenate([random.normal(100, 2, 800), random.normal(200, 2, 1_200)])
    found = alarms(values)
    assert 800 in found
    assert ((found > 800) & (found < 1_900)).sum() <= 1


def test_a_missing_daily_peak_of_usual_values_alarms():
    at = np.arange(288 * 10)
    values = np.where((at % 288 > 100) & (at % 288 < 200), 80.0, 20.0) + np.random.default_rng(
        3
    ).normal(0, 1, len(at))
    quiet = slice(288 * 8 + 101, 288 * 8 + 200)
    values[quiet] = 20 + np.random.default_rng(4).normal(0, 1, 99)
    found = alarms(values)
    assert any(quiet.start <= i < quiet.stop for i in found)


@pytest.mark.parametrize("level", [0.0, 45.0, -3e8])
def test_a_constant_with_rounding_noise_never_alarms(level):
    values = np.full(1_000, level)
    values[500:] += 1e-4 * abs(level) * np.random.default_rng(5).random(500)
    assert not len(alarms(values))


def test_a_change_after_a_long_constant_alarms():
    values = np.full(500, 45.0)
    values[400] = 60.0
    assert 400 in alarms(values)


def test_there_are_no_alarms_during_the_cold_start():
    assert not len(alarms(np.random.default_rng(6).normal(0, 1, 100) * np.r_[np.ones(99), 1e6]))


def test_values_that_are_not_finite_are_ignored():
    values = np.random.default_rng(7).normal(0, 1, 300)
    broken = np.insert(values, 150, [np.nan, np.inf])
    times = FIVE_MINUTES * np.arange(300)
    scores = score_series(np.insert(times, 150, [times[150]] * 2), broken)
    assert (scores[150:152] == 0).all()
    assert np.array_equal(np.delete(scores, [150, 151]), score_series(times, values))


def test_times_are_read_in_all_forms():
    start = datetime(2026, 1, 5, tzinfo=UTC)
    stamps = [start + timedelta(minutes=5 * i) for i in range(150)]
    values = np.random.default_rng(8).normal(0, 1, 150)
    expected = score_series([t.timestamp() for t in stamps], values)
    naive = [t.replace(tzinfo=None) for t in stamps]
    for times in (
        stamps,
        naive,
        np.array(naive, dtype="datetime64[s]"),
        [t.isoformat() for t in stamps],
        [str(t) for t in naive],
    ):
        assert np.array_equal(score_series(times, values), expected)


def test_unequal_lengths_and_unreadable_times_are_rejected():
    with pytest.raises(ValueError, match="equally long"):
        score_series([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="Invalid isoformat"):
        score_series(["yesterday"], [1.0])


def test_an_empty_series_has_no_scores():
    assert score_series([], []).shape == (0,)


def test_the_verdict_names_each_signal():
    subject = Detector()
    for i in range(200):
        verdict = subject.update(FIVE_MINUTES * i, float(i % 5))
    assert set(verdict.signals) <= set(detector.SIGNALS) and "value" in verdict.signals


def test_importing_the_package_loads_none_of_the_heavy_libraries():
    import subprocess
    import sys

    heavy = ["pandas", "prophet", "pyod", "ray", "statsmodels"]
    code = f"import sys, shoal_anomalies; print([m for m in {heavy} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout.strip() == "[]"
    assert shoal_anomalies.DEFAULT_THRESHOLD == 0.5


@pytest.mark.parametrize("cut", [3, 150, 2_600])
def test_a_restored_detector_continues_with_the_same_scores(cut):
    import json

    values = np.random.default_rng(9).normal(10, 1, cut + 60).cumsum()
    times = FIVE_MINUTES * np.arange(len(values))
    one = Detector()
    for t, v in zip(times[:cut].tolist(), values[:cut].tolist(), strict=True):
        one.update(t, v)
    kept = slice(max(0, cut - detector.HISTORY - 12), cut)
    two = Detector.from_state(json.loads(json.dumps(one.state())), times[kept], values[kept])
    for t, v in zip(times[cut:].tolist(), values[cut:].tolist(), strict=True):
        assert one.update(t, v) == two.update(t, v)


def test_another_method_with_high_surprisal_alarms_alone():
    subject = Detector()
    for i in range(300):
        subject.update(FIVE_MINUTES * i, float(i % 7))
    assert subject.update(FIVE_MINUTES * 300, 300.0 % 7, {"band": 20.0}).score >= DEFAULT_THRESHOLD


def test_a_method_alone_needs_more_surprisal_against_others():
    def score(value, **others):
        subject = Detector()
        for i in range(300):
            subject.update(FIVE_MINUTES * i, float(i % 7), dict.fromkeys(others, 0.0))
        return subject.update(FIVE_MINUTES * 300, value, others).score

    assert score(8.0) >= DEFAULT_THRESHOLD > score(8.0, band=0.0, combination=0.0)
    assert score(8.0, band=7.0, combination=7.0) >= DEFAULT_THRESHOLD
    assert score(1e9, band=0.0, combination=0.0) >= DEFAULT_THRESHOLD


def test_scores_follow_from_rarity():
    times, values = FIVE_MINUTES * np.arange(400), np.random.default_rng(1).normal(size=400)
    values[[150, 390]] = np.nan, 30.0
    found = rarity(times, values)
    assert (
        np.isnan(found.surprisals[150])
        and alarm_scores(found).tolist() == score_series(times, values).tolist()
    )


def test_only_spikes_alarm_among_gaps_and_irregular_times():
    random = np.random.default_rng(2)
    times = np.cumsum(random.exponential(FIVE_MINUTES, 900))
    times[400:] += 26 * 3600  # a day and more of silence
    values = 50 + 10 * np.sin(times / 86_400 * 2 * np.pi) + random.normal(0, 1, 900)
    values[700] += 60
    alarms = np.flatnonzero(score_series(times, values) >= DEFAULT_THRESHOLD)
    assert 700 in alarms and not np.isin(alarms, np.arange(395, 470)).any() and len(alarms) <= 4


def test_a_level_shift_is_accepted_with_nightly_fits():
    times = 1_772_409_600.0 + 3600.0 * np.arange(35 * 24)
    values = (
        100
        + 30 * np.sin(times / 86_400 * 2 * np.pi)
        + np.random.default_rng(0).normal(0, 3, len(times))
    )
    shift = 21 * 24 + 9
    values[shift:] *= 1.4
    subject, flagged = SeriesState("s", "s", {}, Detector()), []
    for i, (time, value) in enumerate(zip(times.tolist(), values.tolist(), strict=True)):
        if i % 24 == 2 and i > 14 * 24:
            subject.model = seasonal.fit(times[:i], values[:i])
        if subject.score(time, value).score >= DEFAULT_THRESHOLD and i > shift - 48:
            flagged.append(i - shift)
    assert flagged and flagged[0] < 24 and len(flagged) <= 2
    assert subject.band(times[-1] + 3600)[0] > 1.25 * (
        100 + 30 * np.sin(times[-1] / 86_400 * 2 * np.pi)
    )


def test_the_second_weekend_is_compared_with_the_first():
    times = 1_772_409_600.0 + 3600.0 * np.arange(
        12 * 24 + 4
    )  # from a Monday into the second Saturday
    weekend = (times - times[0]) // 86_400 % 7 >= 5
    values = np.where(weekend, 20.0, 100.0) + np.random.default_rng(0).normal(0, 1, len(times))
    subject = SeriesState("s", "s", {}, Detector(), model=seasonal.fit(times[:-4], values[:-4]))
    for time, value in zip(times.tolist(), values.tolist(), strict=True):
        subject.score(time, value)
    assert not subject.model.weekly and subject.band(times[-1])[0] > 50
    assert subject.expected_value(times[-1], 0.0) == pytest.approx(20, abs=5)
