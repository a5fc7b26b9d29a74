"""The calculators."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.special import ndtr, stdtrit
from scipy.stats import chi2
from statsmodels.stats.power import TTestIndPower

from shoal_experiments import calculator
from shoal_experiments.calculator import Power, SampleSize, sample_size
from shoal_experiments.sample_size import ImpossibleSample, mean_power
from shoal_experiments.summaries import Undefined


def analyze(**fields: Any) -> dict[str, Any]:
    arms = {"a": {"n": 5234, "successes": 644}, "b": {"n": 5189, "successes": 732}}
    return calculator.analyze(
        calculator.Analyze.model_validate(
            {"metric": "proportion", "control": "a", "arms": arms, **fields}
        )
    )


def test_the_calculator_agrees_with_the_documented_example() -> None:
    found = analyze()
    assert (
        found["comparisons"]["b"]["p_value"] == pytest.approx(0.0066, abs=5e-5)
        and found["comparisons"]["b"]["significant"]
    )
    assert found["sample_ratio"]["p_value"] == pytest.approx(0.6594, abs=1e-4)


@pytest.mark.parametrize(
    "fields",
    [
        {"control": "z"},
        {"arms": {"a": {"n": 5, "successes": 1}}},
        {"arms": {"a": {"n": 5, "successes": 6}, "b": {"n": 5, "successes": 1}}},
        {"arms": {"a": {"n": 0, "successes": 0}, "b": {"n": 5, "successes": 1}}},
        {"metric": "mean"},
        {"alpha": 1},
        {"alpha": 0},
        {
            "metric": "mean",
            "arms": {
                "a": {"n": 1, "mean": 1, "variance": 0},
                "b": {"n": 5, "mean": 1, "variance": 1},
            },
        },
        {
            "metric": "mean",
            "arms": {
                "a": {"n": 2, "mean": float("inf"), "variance": 0},
                "b": {"n": 5, "mean": 1, "variance": 1},
            },
        },
        {
            "metric": "mean",
            "arms": {
                "a": {"n": 2, "mean": 1, "variance": -1},
                "b": {"n": 5, "mean": 1, "variance": 1},
            },
        },
        {"allocation": {"a": 50}},
        {"allocation": {"a": 0, "b": 0}},
    ],
)
def test_the_calculator_refuses_impossible_input(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        analyze(**fields)


def test_the_calculator_explains_what_cannot_be_tested() -> None:
    with pytest.raises(Undefined, match="neither arm varies"):
        analyze(
            metric="mean",
            arms={"a": {"n": 5, "mean": 1, "variance": 0}, "b": {"n": 5, "mean": 2, "variance": 0}},
        )
    with pytest.raises(Undefined, match="no unit of the control"):
        analyze(
            effect="relative", arms={"a": {"n": 5, "successes": 0}, "b": {"n": 5, "successes": 2}}
        )


@pytest.mark.parametrize("n", [1, 10, 10**6])
@pytest.mark.parametrize("effect", ["absolute", "relative"])
def test_all_successes_give_finite_numbers(n: int, effect: str) -> None:
    json.dumps(
        analyze(effect=effect, arms={"a": {"n": n, "successes": n}, "b": {"n": n, "successes": n}}),
        allow_nan=False,
    )


def test_the_sample_size_calculator_counts_all_arms() -> None:
    ask = calculator.SampleSize.model_validate
    assert (
        calculator.sample_size(
            ask({"metric": "mean", "baseline": 10, "minimum_effect": 0.5, "variance": 1})
        )["per_arm"]
        == 64
    )
    assert (
        calculator.sample_size(
            ask({"metric": "proportion", "baseline": 0.5, "minimum_effect": 0.25, "power": 0.9})
        )["per_arm"]
        == 77
    )
    relative = calculator.sample_size(
        ask(
            {
                "metric": "proportion",
                "baseline": 0.5,
                "minimum_effect": 0.5,
                "effect": "relative",
                "power": 0.9,
            }
        )
    )
    assert relative["per_arm"] == 77
    for bad in (
        {"baseline": 0.5, "minimum_effect": 0},
        {"baseline": 0.5, "minimum_effect": 0.6},
        {"baseline": 1.5, "minimum_effect": 0.1},
        {"baseline": 0.5, "minimum_effect": 1e-9},
        {"baseline": 0.5, "minimum_effect": 0.1, "power": 0.01},
    ):
        with pytest.raises(ValueError):
            calculator.sample_size(ask({"metric": "proportion", **bad}))


SIZES = st.floats(-1e150, 1e150)


@given(
    metric=st.sampled_from(["proportion", "mean"]),
    baseline=SIZES | st.floats(0, 1),
    minimum_effect=SIZES | st.floats(-1, 1),
    effect=st.sampled_from(["absolute", "relative"]),
    variance=st.floats(0, 1e150, exclude_min=True),
    alpha=st.floats(0, 1, exclude_min=True, exclude_max=True),
    power=st.floats(0, 1, exclude_min=True, exclude_max=True),
    ratio=st.floats(0, 1000, exclude_min=True),
)
@settings(max_examples=300)
def test_a_sample_size_is_found_or_its_field_is_named(**plan: Any) -> None:
    if plan["metric"] == "proportion":
        del plan["variance"]
    try:
        found = sample_size(SampleSize.model_validate(plan))
    except ImpossibleSample as error:
        assert error.field in plan and "f(a)" not in str(error)
    else:
        assert 1 <= found["per_arm"] <= 1e11 and found["total"] >= found["per_arm"]


@pytest.mark.parametrize(
    ("plan", "field"),
    [
        ({"baseline": 0}, "baseline"),
        ({"baseline": 0.99}, "minimum_effect"),
        ({"minimum_effect": 0}, "minimum_effect"),
        ({"minimum_effect": 1e-300}, "minimum_effect"),
        ({"minimum_effect": 1e-9}, "minimum_effect"),
        ({"power": 0.05, "alpha": 0.1}, "power"),
        ({"metric": "mean", "variance": 1e150, "minimum_effect": 1e-150}, "minimum_effect"),
    ],
)
def test_an_impossible_sample_names_its_field(plan: dict[str, Any], field: str) -> None:
    usual = {"metric": "proportion", "baseline": 0.1, "minimum_effect": 0.02}
    with pytest.raises(ImpossibleSample) as caught:
        sample_size(SampleSize.model_validate({**usual, **plan}))
    assert caught.value.field == field


def test_power_has_a_value_at_any_size_and_shift() -> None:
    """The far tail against an integral over the variance's distribution."""
    rng = np.random.default_rng(5)
    for _ in range(300):
        dof, shift = 10 ** rng.uniform(1.5, 4), rng.uniform(0, 37)
        alpha = 10 ** rng.uniform(-5, -0.1)
        n = (dof + 2) / 2
        effect = shift * math.sqrt(2 / n)
        two = mean_power(n, effect, 1.0, alpha=alpha)
        one = mean_power(n, effect, 1.0, alpha=alpha / 2, sided=1)
        critical = stdtrit(dof, 1 - alpha / 2)
        u = (np.arange(2000) + 0.5) / 2000
        far = ndtr(-critical * np.sqrt(chi2.ppf(u, dof) / dof) - shift).mean()
        assert one <= two and two - one == pytest.approx(far, rel=0.02, abs=1e-6)


@pytest.mark.parametrize("sided", [1, 2])
@pytest.mark.parametrize("n", [20, 400, 30_000])
def test_power_and_detectable_effect_agree_with_statsmodels(n: int, sided: int) -> None:
    side = "two-sided" if sided == 2 else "larger"
    plan = {"metric": "mean", "baseline": 5, "variance": 4, "n": n, "ratio": 0.5, "sided": sided}
    found = calculator.power(Power.model_validate({**plan, "true_effect": 6 / math.sqrt(n)}))
    theirs = TTestIndPower()
    expected = theirs.power(3 / math.sqrt(n), n, 0.05, 0.5, alternative=side)
    assert found["power"] == pytest.approx(expected, rel=1e-3)
    deviations = theirs.solve_power(None, n, 0.05, 0.8, 0.5, alternative=side)
    assert found["increase"] == pytest.approx(2 * deviations, rel=1e-3)
    assert found["decrease"] == pytest.approx(-found["increase"])


@given(
    rate=st.floats(0.05, 0.95),
    n=st.integers(1000, 10**7),
    scale=st.sampled_from(["absolute", "relative"]),
)
def test_the_detectable_rate_needs_just_these_units(rate: float, n: int, scale: str) -> None:
    plan = {"metric": "proportion", "baseline": rate, "effect": scale}
    found = calculator.power(Power.model_validate({**plan, "n": n}))
    for effect in (found["increase"], found["decrease"]):
        if effect is not None:
            needed = sample_size(SampleSize.model_validate({**plan, "minimum_effect": effect}))
            assert needed["exact"] == pytest.approx(n, rel=1e-3)


@pytest.mark.parametrize(("rate", "ratio"), [(0.002, 1.0), (0.01, 0.05), (0.98, 1.0)])
def test_few_events_are_planned_with_the_exact_power(rate: float, ratio: float) -> None:
    plan = {"metric": "proportion", "baseline": rate, "n": 1000, "ratio": ratio}
    found = calculator.power(Power.model_validate(plan))
    for effect in (found["increase"], found["decrease"]):
        if effect is not None:
            own = calculator.power(Power.model_validate({**plan, "true_effect": effect}))
            assert 0.8 <= own["power"] < 0.84
