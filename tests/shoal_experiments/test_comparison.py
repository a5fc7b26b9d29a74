"""Tests and intervals of the difference between two arms."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import binomtest, ttest_ind

from shoal_experiments.comparison import (
    compare,
    fieller,
    own_interval,
    proportion_z,
    proportions_z,
)
from shoal_experiments.proportions import constrained_difference
from shoal_experiments.summaries import Estimate, Mean, Pair, Proportion, Quantile, Ratio, Undefined


@st.composite
def proportions(draw: st.DrawFn, most: int = 300) -> Proportion:
    n = draw(st.integers(1, most))
    return Proportion(n, draw(st.integers(0, n)))


means = st.builds(
    Mean,
    n=st.integers(2, 10_000),
    mean=st.floats(-1e3, 1e3).map(lambda x: round(x, 4)),
    variance=st.floats(0.01, 1e4),
)


def test_the_documented_example_has_the_documented_result() -> None:
    control, treatment = Proportion(5234, 644), Proportion(5189, 732)
    absolute, relative = compare(control, treatment), compare(control, treatment, effect="relative")
    assert absolute.effect == pytest.approx(0.018, abs=0.0001)
    assert absolute.interval == pytest.approx((0.0050, 0.0310), abs=0.0001)
    assert absolute.p_value == relative.p_value == pytest.approx(0.0066, abs=0.00005)
    assert relative.effect == pytest.approx(0.1465, abs=0.00005)
    assert relative.interval == pytest.approx((0.039, 0.265), abs=0.0005)


def test_two_proportions_agree_with_statsmodels(shared: Path) -> None:
    two, one = json.loads((shared / "ab/statsmodels_reference.json").read_text())[
        "proportions_ztest"
    ]
    z, p = proportions_z(
        Proportion(two["nobs"][1], two["count"][1]), Proportion(two["nobs"][0], two["count"][0])
    )
    assert (z, p) == pytest.approx((two["z"], two["p"]), abs=1e-12)
    z, p = proportion_z(Proportion(one["nobs"], one["count"]), one["value"])
    assert (z, p) == pytest.approx((one["z"], one["p"]), abs=1e-11)


@given(proportions(), proportions(), st.sampled_from([0.01, 0.05, 0.2]))
def test_the_interval_excludes_zero_exactly_when_the_test_rejects(
    control: Proportion, treatment: Proportion, alpha: float
) -> None:
    for effect in ("absolute", "relative") if control.successes else ("absolute",):
        found = compare(control, treatment, effect=effect, alpha=alpha)
        low, high = found.interval or (-math.inf, math.inf)
        assert -1 <= low <= found.effect + 1e-12 and found.effect - 1e-12 <= high
        if abs(found.p_value - alpha) > 1e-9:
            assert (low > 0 or high < 0) == found.significant


@given(proportions(), proportions(), st.floats(-0.95, 0.95))
def test_the_constrained_rates_are_the_most_likely_ones(
    c: Proportion, t: Proportion, d: float
) -> None:
    low, high = max(0.0, -d) + 1e-9, min(1.0, 1 - d) - 1e-9

    def surprise(p: float) -> float:
        return -(
            c.successes * math.log(p)
            + (c.n - c.successes) * math.log(1 - p)
            + t.successes * math.log(p + d)
            + (t.n - t.successes) * math.log(1 - p - d)
        )

    best = minimize_scalar(surprise, bounds=(low, high), method="bounded", options={"xatol": 1e-9})
    rate = float(constrained_difference(c.successes, c.n, t.successes, t.n, d))
    assert surprise(min(max(rate, low), high)) <= best.fun + 1e-5


@pytest.mark.parametrize(
    ("control", "treatment"),
    [((10, 10), (10, 10)), ((10, 0), (10, 0)), ((1, 1), (1, 1)), ((1, 0), (1, 0))],
)
def test_identical_extreme_rates_are_neither_significant_nor_certain(
    control: tuple[int, int], treatment: tuple[int, int]
) -> None:
    found = compare(Proportion(*control), Proportion(*treatment))
    assert (found.effect, found.p_value) == (0, 1)
    assert found.interval is not None and found.interval[0] < -0.2 and found.interval[1] > 0.2


@pytest.mark.parametrize(("successes", "n"), [(51, 235), (0, 7), (7, 7), (1, 1), (3, 10**6)])
def test_the_interval_of_a_rate_is_clopper_pearson(successes: int, n: int) -> None:
    theirs = binomtest(successes, n).proportion_ci(method="exact")
    assert own_interval(Proportion(n, successes)) == pytest.approx(
        (theirs.low, theirs.high), abs=1e-12
    )


def test_the_interval_of_a_mean_is_students_t() -> None:
    assert own_interval(Mean(16, 10.0, 4.0)) == pytest.approx(
        (10 - 2.1314 * 0.5, 10 + 2.1314 * 0.5), abs=1e-4
    )


def test_a_relative_effect_needs_successes_in_the_control() -> None:
    with pytest.raises(Undefined, match="no unit of the control"):
        compare(Proportion(10, 0), Proportion(10, 3), effect="relative")


def test_welch_test_agrees_with_scipy() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(10, 3, 40), rng.normal(11, 6, 25)
    ours = compare(Mean.of(a), Mean.of(b))
    theirs = ttest_ind(b, a, equal_var=False)
    interval = theirs.confidence_interval()
    assert (ours.statistic, ours.p_value) == pytest.approx(
        (theirs.statistic, theirs.pvalue), rel=1e-12
    )
    assert ours.interval == pytest.approx((interval.low, interval.high), rel=1e-12)


@given(means, means)
def test_the_relative_interval_of_a_mean_agrees_with_its_test(
    control: Mean, treatment: Mean
) -> None:
    if control.mean <= 0:
        with pytest.raises(Undefined, match="not above zero"):  # from -10 to -5 would be -50 %
            compare(control, treatment, effect="relative")
        return
    found = compare(control, treatment, effect="relative")
    assert math.isfinite(found.p_value) and math.isfinite(found.effect)
    if found.interval is not None and abs(found.p_value - 0.05) > 1e-6:
        assert (found.interval[0] > 0 or found.interval[1] < 0) == found.significant


def test_fieller_tends_to_the_delta_method_for_precise_controls() -> None:
    control, treatment = Estimate(100.0, 1e-8), Estimate(110.0, 1.0)
    assert fieller(control, treatment, 1.96) == pytest.approx(
        (0.1 - 0.0196, 0.1 + 0.0196), abs=1e-6
    )


def test_a_control_near_zero_does_not_bound_the_relative_effect() -> None:
    found = compare(Mean(10, 0.1, 4.0), Mean(10, 1.0, 4.0), effect="relative")
    assert found.interval is None and found.effect == pytest.approx(9)


@pytest.mark.parametrize("effect", ["absolute", "relative"])
def test_arms_that_do_not_vary_cannot_be_tested(effect: str) -> None:
    with pytest.raises(Undefined, match="neither arm varies"):
        compare(Mean(10, 1.0, 0.0), Mean(10, 2.0, 0.0), effect=effect)  # type: ignore[arg-type]


def test_one_arm_without_variance_is_enough_to_test() -> None:
    assert compare(Mean(10, 1.0, 0.0), Mean(10, 2.0, 1.0)).p_value == pytest.approx(
        0.0115, abs=0.0005
    )


def test_the_variance_of_a_ratio_matches_the_bootstrap() -> None:
    rng = np.random.default_rng(2)
    searches = rng.poisson(5, 2000) + 1
    clicks = rng.binomial(searches, rng.beta(2, 8, 2000))
    estimate = Ratio(Pair.of(clicks, searches)).estimate()
    picks = rng.integers(0, 2000, (2000, 2000))
    resampled = clicks[picks].sum(1) / searches[picks].sum(1)
    assert estimate.value == pytest.approx(clicks.sum() / searches.sum())
    assert estimate.error == pytest.approx(resampled.std(), rel=0.05)


def test_a_ratio_with_denominator_zero_is_undefined() -> None:
    with pytest.raises(Undefined, match="denominator is zero"):
        Ratio(Pair.of([1, 2], [0, 0])).estimate()


def test_the_error_of_a_quantile_matches_the_bootstrap() -> None:
    rng = np.random.default_rng(3)
    values = rng.lognormal(0, 1, 4000)
    estimate = Quantile.of(values, 0.9).estimate()
    resampled = np.quantile(values[rng.integers(0, 4000, (1000, 4000))], 0.9, axis=1)
    assert estimate.value == pytest.approx(np.quantile(values, 0.9))
    assert estimate.error == pytest.approx(resampled.std(), rel=0.2)


def test_too_few_units_for_a_quantile_are_refused() -> None:
    with pytest.raises(Undefined, match="too few"):
        Quantile.of([1, 2, 3], 0.99)


@pytest.mark.parametrize(
    "bad",
    [
        lambda: Proportion(0, 0),
        lambda: Proportion(5, 6),
        lambda: Proportion(5, -1),
        lambda: Mean(1, 0, 0),
        lambda: Mean(5, math.nan, 1),
        lambda: Mean(5, 1, -1),
        lambda: Mean.of([1]),
    ],
)
def test_impossible_summaries_are_refused(bad: object) -> None:
    with pytest.raises(Undefined):
        bad()  # type: ignore[operator]
