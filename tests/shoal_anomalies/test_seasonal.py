import json

import numpy as np
import pytest

from shoal_anomalies import seasonal
from shoal_anomalies.detector import Detector
from shoal_anomalies.rules import DEFAULT_RULES, Condition, Observation
from shoal_anomalies.seasonal import TooShort, fit
from shoal_anomalies.seasonal_model import DAY, WEEK, SeasonalModel
from shoal_anomalies.series_state import SeriesState
from shoal_anomalies.timestamps import to_datetime

START = 1_772_409_600.0  # a Monday, 00:00 UTC


def truth(times):
    """High by day, and higher on weekdays."""
    weekday = (times - START) // DAY % 7 < 5
    return 100 + 30 * np.sin(times / DAY * 2 * np.pi) + 20 * weekday


def history(days, step=900, noise=2.0, seed=0):
    times = START + np.arange(0, days * DAY, step)
    return times, truth(times) + np.random.default_rng(seed).normal(0, noise, len(times))


@pytest.fixture(scope="module")
def model():
    return fit(*history(42))


def ahead(days=7, after=42):
    return START + after * DAY + np.arange(0, days * DAY, 900.0)


def test_the_season_of_the_week_is_fitted(model):
    expected, low, high = model.band(ahead())
    assert np.abs(expected - truth(ahead())).mean() < 2
    assert ((low < truth(ahead())) & (truth(ahead()) < high)).mean() > 0.97


def test_few_ordinary_points_are_outside_the_band(model):
    _, low, high = model.band(ahead())
    seen = truth(ahead()) + np.random.default_rng(1).normal(0, 2, len(ahead()))
    assert ((seen < low) | (seen > high)).mean() < 0.02


def test_a_value_usual_at_noon_is_unusual_at_night(model):
    noon, night = START + 42 * DAY + 6 * 3600, START + 42 * DAY + 18 * 3600
    assert abs(model.z(noon, 150.0)) < 3 < model.z(night, 150.0)


def test_short_histories_give_a_daily_season_or_none():
    times, values = history(5)
    assert len(fit(times, values).expected) == DAY / 900
    with pytest.raises(TooShort, match="two days"):
        fit(*history(1))


def test_gaps_disorder_and_nan_are_accepted(model):
    times, values = history(42)
    keep = np.random.default_rng(2).random(len(times)) > 0.3
    values[::50] = np.nan
    order = np.random.default_rng(3).permutation(int(keep.sum()))
    other = fit(times[keep][order], values[keep][order])
    assert np.abs(other.band(ahead())[0] - model.band(ahead())[0]).mean() < 2


def test_the_band_of_a_constant_series_is_not_empty():
    times, values = history(20)
    fitted = fit(times, np.full_like(values, 45.0))
    expected, low, high = fitted.band(ahead())
    assert expected == pytest.approx(45.0) and (low < 45).all() and (high > 45).all()


def test_only_the_last_ninety_days_count():
    times, values = history(100, step=3600)
    values[: 9 * 24] = 1e6
    assert np.abs(fit(times, values).band(ahead(after=100))[0] - truth(ahead(after=100))).mean() < 4


def test_a_model_survives_a_round_trip_through_json(model):
    copy = SeasonalModel.from_dict(json.loads(json.dumps(model.to_dict())))
    assert copy.band(ahead())[0] == pytest.approx(model.band(ahead())[0], rel=1e-5)


def test_hourly_points_are_expected_at_their_own_times():
    times, values = history(21, step=3600, noise=0.1)
    fitted = fit(times, values)
    later = START + 21 * DAY + np.arange(0, WEEK, 3600.0)
    assert np.abs(fitted.band(later)[0] - truth(later)).mean() < 3


@pytest.mark.parametrize(
    "days_ago, hours", [(3, 3), (5, 10), (3 / 24, 3)], ids=["short", "long", "still on"]
)
@pytest.mark.parametrize("days", [15, 42])
def test_an_outage_is_not_expected_again(days, days_ago, hours):
    times, values = history(days)
    began = times[-1] - days_ago * DAY
    values[(times >= began) & (times < began + hours * 3600)] = 0
    expected, low, high = fit(times, values).band(ahead(after=days))
    assert np.abs(expected - truth(ahead(after=days))).max() < 20  # it was 140 at noon
    assert (high - low).mean() < 30


def test_a_lasting_shift_is_expected_to_stay():
    times, values = history(42)
    values[times >= times[-1] - 10 * DAY] *= 1.4
    expected, _, _ = fit(times, values).band(ahead())
    assert np.median(expected / truth(ahead())) == pytest.approx(1.4, abs=0.1)


def test_prophet_does_not_expect_holidays_to_recur():
    times, values = history(42, step=3600)
    easter = [1_775_174_400.0, 1_775_433_600.0]  # Good Friday and Easter Monday 2026
    for day in easter:
        values[(times >= day) & (times < day + DAY)] -= 80
    expected = fit(times, values, "prophet", holidays="DE").band(ahead(after=42))[0]
    assert np.abs(expected - truth(ahead(after=42))).mean() < 8


def test_a_table_of_prophet_ends():
    fitted = fit(*history(21, step=3600), "prophet")
    assert np.abs(fitted.band(ahead(after=21))[0] - truth(ahead(after=21))).mean() < 8
    assert fitted.z(START + 60 * DAY, 100.0) is None
    assert seasonal.HORIZON_DAYS == 8


@pytest.mark.parametrize("step", [60.0, 300.0])
@pytest.mark.parametrize("weeks", [2, 3])
def test_office_hours_are_no_drop_in_a_young_season(step, weeks):
    """Ordinary working days of traffic that begins and ends on the hour."""
    rng, rule = np.random.default_rng(0), DEFAULT_RULES["request-drop"]
    times = START + step * np.arange((weeks + 1) * 7 * DAY / step)
    hours, days = times % DAY / 3600, (times - START) // DAY % 7
    is_office = (hours >= 9) & (hours < 17) & (days < 5)
    values = rng.poisson(np.where(is_office, 1000, 50)).astype(float)
    past = times < START + weeks * 7 * DAY
    model = fit(times[past], values[past])
    state = SeriesState("s", "requests", {}, Detector(), model=model)
    condition, fired = Condition(), []
    for time, value in zip(times[~past].tolist(), values[~past].tolist(), strict=True):
        seen = Observation(
            "requests", {}, "s", to_datetime(time), value, state.expected_value(time, value)
        )
        if condition.update(rule, seen) == "fired":
            fired.append(time)
    assert fired == []
    noon = START + weeks * 7 * DAY + DAY / 2
    assert rule.is_met(
        Observation("requests", {}, "s", to_datetime(noon), 400, state.expected_value(noon, 400))
    )
