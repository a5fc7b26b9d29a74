"""Corrections, guardrails, sample ratio, CUPED, sample size and the Bayesian view."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestIndPower

from shoal_experiments import cuped
from shoal_experiments import sample_size as size
from shoal_experiments.bayes import summarize_posteriors
from shoal_experiments.comparison import compare
from shoal_experiments.correction import adjust, interval_alpha
from shoal_experiments.mismatch import sample_ratio_p_value
from shoal_experiments.non_inferiority import non_inferiority
from shoal_experiments.summaries import Mean, Pair, Proportion, Undefined


@pytest.mark.parametrize(
    "p_values",
    [[0.3], [0.01, 0.04, 0.03, 0.2, 0.0], [0.049, 0.049, 0.051, 1.0, 0.0009, 0.012, 0.012]],
)
def test_corrections_agree_with_statsmodels(p_values: list[float]) -> None:
    for ours, theirs in (
        ("bonferroni", "bonferroni"),
        ("holm", "holm"),
        ("benjamini-hochberg", "fdr_bh"),
    ):
        assert adjust(p_values, ours) == pytest.approx(
            list(multipletests(p_values, method=theirs)[1])
        )  # type: ignore[arg-type]


def test_bonferroni_intervals_match_its_decisions() -> None:
    control, arms = Proportion(1000, 100), [Proportion(1000, s) for s in range(100, 160, 4)]
    alpha = interval_alpha(0.05, len(arms), "bonferroni")
    found = [compare(control, arm, alpha=alpha) for arm in arms]
    adjusted = adjust([c.p_value for c in found], "bonferroni")
    for c, p in zip(found, adjusted, strict=True):
        assert c.interval is not None and (c.interval[0] > 0) == (p < 0.05)


def test_a_guardrail_rules_out_harm_only_with_enough_evidence() -> None:
    control = Proportion(10_000, 2000)
    same = non_inferiority(control, Proportion(10_000, 2000), margin=0.05)
    worse = non_inferiority(control, Proportion(10_000, 1850), margin=0.05)
    assert same.ruled_out and not worse.ruled_out
    assert same.worst is not None and worse.worst is not None and same.worst < 0.05 < worse.worst
    assert not non_inferiority(
        Proportion(50, 10), Proportion(50, 10), margin=0.05
    ).ruled_out  # too little is known


@given(
    st.integers(100, 5000),
    st.floats(0.05, 0.95),
    st.floats(0.05, 0.95),
    st.sampled_from(["increase", "decrease"]),
    st.sampled_from(["absolute", "relative"]),
)
def test_harm_is_ruled_out_exactly_when_its_bound_is_below(
    n: int, a: float, b: float, better: str, scale: str
) -> None:
    c, t = Mean(n, 10 * a, 4.0), Mean(n, 10 * b, 4.0)
    found = non_inferiority(c, t, margin=0.1, better=better, scale=scale)  # type: ignore[arg-type]
    if found.worst is not None and abs(found.p_value - 0.05) > 0.002:
        assert found.ruled_out == (found.worst < 0.1)


def test_a_guardrail_may_be_better_when_it_decreases() -> None:
    control, slower = Mean(5000, 100.0, 400.0), Mean(5000, 112.0, 400.0)
    assert not non_inferiority(control, slower, margin=0.1, better="decrease").ruled_out
    assert non_inferiority(slower, control, margin=0.1, better="decrease").ruled_out


def test_identical_perfect_rates_rule_out_harm_with_enough_units() -> None:
    assert not non_inferiority(Proportion(20, 20), Proportion(20, 20), margin=0.02).ruled_out
    assert non_inferiority(Proportion(2000, 2000), Proportion(2000, 2000), margin=0.02).ruled_out


def test_sample_ratio_agrees_with_scipy() -> None:
    counts = {"a": 5234, "b": 5189, "c": 9000}
    expected = np.array([0.25, 0.25, 0.5]) * sum(counts.values())
    theirs = chisquare(list(counts.values()), expected).pvalue
    assert sample_ratio_p_value(counts, {"a": 25, "b": 25, "c": 50}) == pytest.approx(theirs)


def test_sample_ratio_of_empty_and_of_unexpected_arms() -> None:
    assert sample_ratio_p_value({"a": 0, "b": 0}) == 1
    assert sample_ratio_p_value({"a": 5, "b": 1}, {"a": 1, "b": 0}) == 0
    assert sample_ratio_p_value({"a": 5000, "b": 5500}) < 0.001


def test_cuped_narrows_intervals_as_theory_says_without_bias() -> None:
    rng = np.random.default_rng(4)
    past = rng.normal(10, 2, 20_000)
    now = past + rng.normal(0, 1, 20_000)
    now[10_000:] += 0.1
    arms = {"a": Pair.of(now[:10_000], past[:10_000]), "b": Pair.of(now[10_000:], past[10_000:])}
    adjusted = cuped.adjust(arms)
    plain = compare(Mean.of(now[:10_000]), Mean.of(now[10_000:]))
    better = compare(adjusted["a"], adjusted["b"])
    assert cuped.narrowing(arms) == pytest.approx(math.sqrt(1 - 4 / 5), rel=0.02)
    assert plain.interval is not None and better.interval is not None
    ratio = (better.interval[1] - better.interval[0]) / (plain.interval[1] - plain.interval[0])
    assert ratio == pytest.approx(cuped.narrowing(arms), rel=0.01)
    assert better.effect == pytest.approx(0.1, abs=0.04)


def test_cuped_without_a_past_changes_nothing() -> None:
    arms = {"a": Pair.of([1, 2, 3], [0, 0, 0]), "b": Pair.of([2, 3, 4], [0, 0, 0])}
    assert cuped.adjust(arms)["b"] == Mean(3, 3.0, 1.0)
    assert cuped.narrowing(arms) == 1


def test_sample_sizes_agree_with_statsmodels(shared: Path) -> None:
    for case in json.loads((shared / "ab/statsmodels_reference.json").read_text())[
        "two_prop_sample_size"
    ]:
        sided = 1 if case.get("alternative") == "larger" else 2
        baseline, ratio = case["prop2"], case.get("ratio", 1)
        effect = case["diff"]
        if "n1" in case:  # there, the arm counted is the other one
            baseline, effect = baseline + effect, -effect
        expected = case.get("n_per_arm", case.get("n1"))
        n = size.proportion_sample_size(
            baseline, effect, power=case["power"], sided=sided, ratio=ratio
        )  # type: ignore[arg-type]
        assert n == pytest.approx(expected, rel=2e-7)
        assert size.proportion_power(
            expected, baseline, effect, sided=sided, ratio=ratio
        ) == pytest.approx(  # type: ignore[arg-type]
            case["power"], abs=5e-8
        )


@pytest.mark.parametrize(
    ("effect", "power", "ratio"), [(0.5, 0.8, 1), (0.3, 0.9, 3), (0.05, 0.95, 1), (2.0, 0.8, 0.5)]
)
def test_sample_sizes_for_means_follow_the_noncentral_t(
    effect: float, power: float, ratio: float
) -> None:
    theirs = TTestIndPower().solve_power(effect, power=power, alpha=0.05, ratio=ratio)
    assert size.mean_sample_size(effect, 1.0, power=power, ratio=ratio) == pytest.approx(
        theirs, rel=1e-4
    )


def test_large_samples_for_means_continue_the_small_ones() -> None:
    theirs = TTestIndPower().solve_power(0.015, power=0.8, alpha=0.05)
    assert size.mean_sample_size(0.015, 1.0) == pytest.approx(theirs, abs=0.2)


@given(st.floats(0.01, 0.99), st.floats(-0.5, 0.5), st.floats(0.5, 0.99))
def test_the_sample_size_has_the_requested_power(
    baseline: float, effect: float, power: float
) -> None:
    if abs(effect) < 1e-3 or not 0 < baseline + effect < 1:
        return
    n = size.proportion_sample_size(baseline, effect, power=power)
    if n > 1.01:
        assert size.proportion_power(n, baseline, effect) == pytest.approx(power, abs=1e-6)


@pytest.mark.parametrize(
    "bad",
    [
        lambda: size.proportion_sample_size(0.1, 0),
        lambda: size.proportion_sample_size(0, 0.1),
        lambda: size.proportion_sample_size(0.9, 0.2),
        lambda: size.proportion_sample_size(0.1, 0.1, power=1),
        lambda: size.proportion_sample_size(0.1, 0.1, power=0.01),
        lambda: size.mean_sample_size(0, 1),
        lambda: size.mean_sample_size(1, 0),
        lambda: size.mean_sample_size(1, 1, ratio=0),
        lambda: size.days_to_fill(10, 0.5, 0),
    ],
)
def test_impossible_plans_are_refused(bad: object) -> None:
    with pytest.raises(ValueError):
        bad()  # type: ignore[operator]


def test_days_until_the_smallest_arm_is_full() -> None:
    assert size.days_to_fill(1000, 0.1, 500) == 20


def test_posterior_summaries_agree_with_simulation() -> None:
    rng = np.random.default_rng(5)
    arms = {"a": Proportion(200, 20), "b": Proportion(210, 30), "c": Proportion(190, 25)}
    draws = {n: rng.beta(1 + p.successes, 1 + p.n - p.successes, 400_000) for n, p in arms.items()}
    best = np.maximum.reduce(list(draws.values()))
    found = summarize_posteriors(arms, "a")
    assert found["a"].beats_control is None
    for name in arms:
        assert found[name].best == pytest.approx(float((draws[name] == best).mean()), abs=0.003)
        assert found[name].expected_loss == pytest.approx(
            float((best - draws[name]).mean()), abs=0.0003
        )
    assert found["b"].beats_control == pytest.approx(
        float((draws["b"] > draws["a"]).mean()), abs=0.003
    )


def test_posterior_summaries_of_a_metric_that_should_decrease() -> None:
    found = summarize_posteriors(
        {"a": Mean(1000, 10.0, 4.0), "b": Mean(1000, 9.8, 4.0)}, "a", higher_is_better=False
    )
    assert found["b"].beats_control == pytest.approx(0.987, abs=0.001)
    assert sum(b.best for b in found.values()) == pytest.approx(1, abs=1e-6)


def test_an_arm_without_variance_has_no_posterior() -> None:
    with pytest.raises(Undefined):
        summarize_posteriors({"a": Mean(10, 1.0, 0.0), "b": Mean(10, 1.0, 1.0)}, "a")
