"""Quantiles of every kind of data: with ties, atoms and gaps."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from shoal_experiments.comparison import compare, own_interval
from shoal_experiments.non_inferiority import non_inferiority
from shoal_experiments.summaries import Quantile, Undefined

Generator = np.random.Generator

KINDS: dict[str, Callable[[Generator, int], np.ndarray]] = {
    "normal": lambda rng, n: rng.normal(size=n),
    "heavy tail": lambda rng, n: rng.pareto(1.5, n),
    "rounded to tens": lambda rng, n: np.round(rng.normal(50, 20, n), -1),
    "waits rounded to tens": lambda rng, n: np.round(rng.exponential(30, n), -1),
    "one event a unit": lambda rng, n: rng.poisson(1, n),
    "five events a unit": lambda rng, n: rng.poisson(5, n),
    "visits until one buys": lambda rng, n: rng.geometric(0.2, n),
    "stars": lambda rng, n: rng.choice(5, n, p=[0.1, 0.15, 0.3, 0.25, 0.2]),
    "half without revenue": lambda rng, n: np.where(rng.random(n) < 0.5, 0, rng.lognormal(0, 1, n)),
    "prices and amounts": lambda rng, n: np.where(
        rng.random(n) < 0.7, np.floor(rng.lognormal(2, 0.5, n)), rng.lognormal(2, 0.5, n)
    ),
}

tied = arrays.arrays(
    np.float64, st.integers(20, 80), elements=st.integers(0, 8).map(float), fill=st.nothing()
)


def test_equal_arms_rarely_differ_whatever_the_ties() -> None:
    """Of 5 % false positives, 40 or more of 400 have a chance of 3e-5; all ten kinds
    together, 280 or more of 4,000 one of 1e-8.
    """
    counts = {}
    for name, draw in KINDS.items():
        rng = np.random.default_rng(11)
        counts[name] = sum(
            compare(Quantile.of(draw(rng, 600), 0.5), Quantile.of(draw(rng, 400), 0.5)).significant
            for _ in range(400)
        )
    assert max(counts.values()) < 40, counts
    assert 100 < sum(counts.values()) < 280, counts


def test_a_shifted_arm_is_found_whatever_the_ties() -> None:
    """The shift is at least six standard errors."""
    for name, draw in KINDS.items():
        rng = np.random.default_rng(12)
        arms = [Quantile.of(draw(rng, 4000) + shift, 0.5) for shift in (0, 2)]
        found = compare(*arms)
        assert found.significant and found.interval is not None, name
        assert found.interval[0] <= found.effect <= found.interval[1], name


def test_without_ties_the_quantile_is_numpys() -> None:
    values = np.random.default_rng(13).lognormal(0, 1, 501)
    for q in (0.1, 0.25, 0.5, 0.9):
        assert Quantile.of(values, q).estimate().value == pytest.approx(
            np.quantile(values, q), rel=1e-12
        )


def test_the_interval_without_ties_is_of_binomial_ranks() -> None:
    """Ranks n q ± z √(n q (1 - q)), as David & Nagaraja."""
    n, q = 10_000, 0.5
    low, high = own_interval(Quantile.of(np.arange(n, dtype=float), q))
    assert (low, high) == pytest.approx(
        (n * q - 1.96 * math.sqrt(n) / 2, n * q + 1.96 * math.sqrt(n) / 2), abs=1
    )


def test_the_error_with_ties_matches_the_bootstrap_of_mid_quantiles() -> None:
    """The mid-quantile by hand: levels of half a tie, interpolated."""
    rng = np.random.default_rng(14)
    values = rng.poisson(1, 4000)

    def by_hand(counts: np.ndarray) -> float:
        share = counts / counts.sum()
        level = np.cumsum(share) - share / 2
        return float(np.interp(0.5, level, np.arange(share.size)))

    counts = np.bincount(values)
    estimate = Quantile.of(values, 0.5).estimate()
    resampled = [by_hand(rng.multinomial(4000, counts / 4000)) for _ in range(2000)]
    assert estimate.value == pytest.approx(by_hand(counts), abs=1e-3)
    assert estimate.error == pytest.approx(np.std(resampled), rel=0.1)


@given(tied, tied, st.sampled_from([0.25, 0.5, 0.7]), st.sampled_from([0.01, 0.05, 0.3]))
def test_interval_and_p_value_of_quantiles_agree(
    a: np.ndarray, b: np.ndarray, q: float, alpha: float
) -> None:
    try:
        arms = Quantile.of(a, q), Quantile.of(b, q)
        found = compare(*arms, alpha=alpha)
    except Undefined:
        return
    assert found.interval is not None
    low, high = found.interval
    assert low <= found.effect <= high and 0 <= found.p_value <= 1
    if abs(found.p_value - alpha) > 1e-6:
        assert (low > 0 or high < 0) == found.significant
    swapped = compare(*reversed(arms), alpha=alpha)
    assert swapped.effect == pytest.approx(-found.effect)
    assert swapped.interval == pytest.approx((-high, -low))
    assert swapped.p_value == pytest.approx(found.p_value)


@given(tied, tied, st.floats(0.05, 0.5))
def test_relative_quantiles_agree_with_their_test(
    a: np.ndarray, b: np.ndarray, margin: float
) -> None:
    try:
        arms = Quantile.of(a + 1, 0.5), Quantile.of(b + 1, 0.5)
        found, absolute = compare(*arms, effect="relative"), compare(*arms)
    except Undefined:
        return
    assert found.p_value == absolute.p_value
    if found.interval is not None and abs(found.p_value - 0.05) > 1e-6:
        assert (found.interval[0] > 0 or found.interval[1] < 0) == found.significant
    kept = non_inferiority(*arms, margin=margin)
    if kept.worst is not None and abs(kept.p_value - 0.05) > 1e-6:
        assert kept.ruled_out == (kept.worst < margin)


def test_the_relative_interval_is_movers_of_ratios() -> None:
    """Donner & Zou 2012, in their own form."""
    rng = np.random.default_rng(15)
    arms = Quantile.of(rng.gamma(2, 5, 900), 0.5), Quantile.of(rng.gamma(2, 6, 700), 0.5)
    (l2, u2), (l1, u1) = (own_interval(arm) for arm in arms)
    t2, t1 = (arm.estimate().value for arm in arms)
    low = (t1 * t2 - math.sqrt((t1 * t2) ** 2 - l1 * u2 * (2 * t1 - l1) * (2 * t2 - u2))) / (
        u2 * (2 * t2 - u2)
    )
    high = (t1 * t2 + math.sqrt((t1 * t2) ** 2 - u1 * l2 * (2 * t1 - u1) * (2 * t2 - l2))) / (
        l2 * (2 * t2 - l2)
    )
    found = compare(*arms, effect="relative")
    assert found.interval == pytest.approx((low - 1, high - 1), rel=0.02)


def test_a_quantile_within_a_tie_of_everyone_cannot_be_tested() -> None:
    zeros = Quantile.of([0.0] * 100 + [1.0] * 20, 0.25)
    with pytest.raises(Undefined, match=r"neither arm varies around its 0\.25-quantile"):
        compare(zeros, zeros)


def test_a_tail_beyond_the_data_has_no_bound() -> None:
    arm = Quantile.of(np.arange(120, dtype=float), 0.94)
    assert own_interval(arm, 0.001)[1] == math.inf
