"""Calculators of sample size, comparisons and bounds, which need no experiment."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shoal import Number, Text

from . import group_sequential as gs
from .clusters import cluster_variance
from .comparison import compare, estimate_of, interval_ends, own_interval
from .contrast import Effect
from .correction import Correction, adjust, interval_alpha
from .exact_power import detectable_difference, rates_power, rates_sample_size
from .mismatch import THRESHOLD, sample_ratio_p_value
from .sample_size import (
    MIN_SPACING,
    ImpossibleSample,
    has_close_looks,
    mean_power,
    mean_sample_size,
    proportion_sample_size,
    rates_variance,
)
from .summaries import Mean, Proportion, Summary, Undefined


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ClusterSizes(_Model):
    """People per cluster, and how alike they are (intra-cluster correlation)."""

    mean_size: float = Field(ge=1, le=1e12)
    size_cv: float = Field(0, ge=0, le=100, description="Standard deviation over the mean.")
    icc: float = Field(ge=0, le=1)


class _Test(_Model):
    """What a test compares, and with which error rate."""

    metric: Literal["proportion", "mean"]
    baseline: Number
    effect: Effect = "absolute"
    alpha: float = Field(0.05, gt=0, lt=1)
    power: float = Field(0.8, gt=0, lt=1)
    variance: Number | None = Field(None, gt=0, description="Of one unit; needed for a mean.")
    sided: Literal[1, 2] = 2
    ratio: float = Field(1, gt=0, le=1000, description="Treatment units per control unit.")
    comparisons: int = Field(
        1,
        ge=1,
        le=100,
        description="Treatments compared with the control: alpha is divided by it (Bonferroni).",
    )
    clusters: ClusterSizes | None = Field(
        None, description="Where units are companies or boards, and people are observed."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.metric == "mean" and self.variance is None:
            raise ValueError("a mean needs `variance`, that of one unit")
        if self.metric == "proportion" and self.variance is not None:
            raise ValueError("`variance` is for means; a proportion's follows from its baseline")
        return self

    def absolute(self, effect: float) -> float:
        """An effect on the scale of the metric."""
        return effect * (self.baseline if self.effect == "relative" else 1)

    def options(self) -> dict[str, Any]:
        return {"alpha": self.alpha / self.comparisons, "sided": self.sided, "ratio": self.ratio}

    def side(self) -> dict[str, Any]:
        """The error rate of one side, and whether it is the only one."""
        return {
            "tail": self.alpha / self.comparisons / self.sided,
            "one_sided": self.sided == 1,
        }

    def unit_variance(self, effect: float) -> float | None:
        """Variance of one unit for the t test; None where rates are compared.

        Args:
            effect: The absolute effect, with which a rate's variance changes.
        """
        if self.clusters is None:
            return self.variance
        rates = self.baseline, self.baseline + effect
        person = self.variance or rates_variance(rates, self.ratio)
        return cluster_variance(
            person, self.clusters.mean_size, self.clusters.size_cv, self.clusters.icc
        )


class SampleSize(_Test):
    """The effect to detect, and with which error rates.

    `minimum_effect` is absolute, or a share of the baseline when `effect` is relative.
    """

    minimum_effect: Number


class Power(_Test):
    """The units that there are, and the effect if its power is asked for."""

    n: int = Field(ge=2, le=10**12, description="Control units, or clusters where these are.")
    true_effect: Number | None = None


def sample_size(plan: SampleSize) -> dict[str, Any]:
    """Units needed: `per_arm` are the control's, rounded up; clusters where these are.

    Raises:
        ImpossibleSample: No sample can detect the effect.
    """
    effect = plan.absolute(plan.minimum_effect)
    n = _control_units(plan, effect)
    if plan.unit_variance(effect) is None:
        rates = plan.baseline, plan.baseline + effect
        n = rates_sample_size(rates, power=plan.power, ratio=plan.ratio, **plan.side())
    if n > 1e11:
        raise ImpossibleSample(
            "minimum_effect",
            f"the effect is too small: more than {1e11:.0g} units per arm would be needed",
        )
    per_arm = _round_up(n)
    treatment = _round_up(n * plan.ratio)
    return {
        "per_arm": per_arm,
        "treatment": treatment,
        "total": per_arm + plan.comparisons * treatment,
        "exact": n,
    }


def _control_units(plan: _Test, effect: float) -> float:
    n, spread, options = 0.0, plan.unit_variance(effect), plan.options()
    if plan.metric == "proportion":
        n = proportion_sample_size(plan.baseline, effect, power=plan.power, **options)
    if spread is not None:
        n = mean_sample_size(effect, spread, power=plan.power, **options)
    return n


def power(plan: Power) -> dict[str, Any]:
    """The power to detect an effect, and the smallest one that `power` detects.

    Raises:
        ImpossibleSample: The effect or the units are impossible.
    """
    found = None
    if plan.true_effect is not None:
        effect = plan.absolute(plan.true_effect)
        _control_units(plan, effect)  # checks that it is possible
        spread = plan.unit_variance(effect)
        found = (
            rates_power(
                plan.n, (plan.baseline, plan.baseline + effect), ratio=plan.ratio, **plan.side()
            )
            if spread is None
            else mean_power(plan.n, effect, spread, **plan.options())
        )
    return {
        "power": found,
        "increase": _detectable(plan, 1),
        "decrease": _detectable(plan, -1),
    }


def _detectable(plan: Power, sign: int) -> float | None:
    """The smallest effect in a direction that the units detect; None if none does."""
    unit = plan.absolute(1.0)
    if unit <= 0:
        raise ImpossibleSample("baseline", "a relative effect needs a baseline above zero")

    def missing(logarithm: float) -> float:
        try:
            return _control_units(plan, sign * math.exp(logarithm)) - plan.n
        except ImpossibleSample as error:
            if error.field != "minimum_effect":
                raise
            return math.inf  # so small that no sample detects it

    room = 1 - plan.baseline if sign > 0 else plan.baseline
    if plan.metric == "mean":
        room = 1e3 * math.sqrt(plan.variance or 1.0)
    high = math.log(max(room * (1 - 1e-9), 1e-300))
    low = high - 60
    if missing(high) > 0:
        return None
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if missing(middle) > 0 else (low, middle)
    found = sign * math.exp(high)
    if plan.unit_variance(found) is None:
        found = detectable_difference(
            found, plan.n, plan.baseline, power=plan.power, ratio=plan.ratio, **plan.side()
        )
    return found / unit


def _round_up(n: float) -> int:
    return max(1, math.ceil(n - 1e-6))


class Arm(_Model):
    """A proportion's `n` and `successes`, or a mean's `n`, `mean` and `variance`.

    The variance is that between units, divided by n - 1.
    """

    n: int = Field(ge=1, le=10**15)
    successes: int | None = Field(None, ge=0, le=10**15)
    mean: Number | None = None
    variance: Number | None = Field(None, ge=0)


class Analyze(_Model):
    """Arms to compare with the control."""

    metric: Literal["proportion", "mean"]
    effect: Effect = "absolute"
    alpha: float = Field(0.05, gt=0, lt=1)
    control: Text
    arms: dict[Text, Arm] = Field(min_length=2, max_length=100)
    correction: Correction = "bonferroni"
    allocation: dict[Text, Annotated[float, Field(ge=0, le=1e12)]] | None = Field(
        None, max_length=100, description="The arms' intended shares; equal when not given."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.control not in self.arms:
            raise ValueError(
                f"the control {self.control!r} is not among the arms {', '.join(self.arms)}"
            )
        wanted = {"proportion": ("successes",), "mean": ("mean", "variance")}[self.metric]
        for name, arm in self.arms.items():
            given = [f for f in ("successes", "mean", "variance") if getattr(arm, f) is not None]
            if set(given) != set(wanted):
                raise ValueError(f"arm {name}: a {self.metric} has n and {' and '.join(wanted)}")
            if arm.successes is not None and arm.successes > arm.n:
                raise ValueError(
                    f"arm {name}: {arm.successes} successes of {arm.n} units is impossible"
                )
            if self.metric == "mean" and arm.n < 2:
                raise ValueError(
                    f"arm {name}: a mean needs at least two units: the variance of one is unknown"
                )
        if self.allocation is not None and (
            set(self.allocation) != set(self.arms) or sum(self.allocation.values()) <= 0
        ):
            raise ValueError("allocation must name every arm, with a share above zero for some")
        return self


def analyze(request: Analyze) -> dict[str, Any]:
    """Compare each treatment with the control.

    `p_value` is that of one comparison alone. `p_value_adjusted` is corrected for their
    number, and `significant` and `interval` follow the correction.

    Raises:
        Undefined: A comparison cannot be tested.
    """
    arms = {name: _summary(request.metric, arm) for name, arm in request.arms.items()}
    treatments = [name for name in arms if name != request.control]
    alpha = interval_alpha(request.alpha, len(treatments), request.correction)
    found = {}
    for name in treatments:
        try:
            found[name] = compare(
                arms[request.control], arms[name], effect=request.effect, alpha=alpha
            )
        except Undefined as reason:
            raise Undefined(f"{name} against {request.control}: {reason}") from None
    adjusted = adjust([c.p_value for c in found.values()], request.correction)
    comparisons = {}
    for (name, c), p in zip(found.items(), adjusted, strict=True):
        comparisons[name] = {
            "effect": c.effect,
            "interval": interval_ends(c),
            "p_value": c.p_value,
            "p_value_adjusted": p,
            "significant": p < request.alpha,
            "test": c.method,
        }
    ratio = sample_ratio_p_value(
        {name: arm.n for name, arm in request.arms.items()}, request.allocation
    )
    return {
        "effect": request.effect,
        "confidence": 1 - alpha,
        "correction": request.correction,
        "comparisons": comparisons,
        "arms": {
            name: {"value": estimate_of(arm).value, "interval": list(own_interval(arm))}
            for name, arm in arms.items()
        },
        "sample_ratio": {"p_value": ratio, "mismatch": ratio < THRESHOLD},
    }


def _summary(metric: str, arm: Arm) -> Summary:
    if metric == "proportion":
        assert arm.successes is not None
        return Proportion(arm.n, arm.successes)
    assert arm.mean is not None and arm.variance is not None
    return Mean(arm.n, arm.mean, arm.variance)


class Looks(_Model):
    """A group-sequential plan."""

    times: list[Annotated[float, Field(ge=0, le=1)]] = Field(
        min_length=1,
        max_length=200,
        description="Information times, above 0, increasing, at most 1.",
    )
    alpha: float = Field(0.05, ge=1e-9, le=0.5)
    sided: Literal[1, 2] = 2
    spending: Literal["obrien-fleming", "pocock", "power", "hwang-shih-decani"] = "obrien-fleming"
    parameter: Number | None = Field(None, ge=-20, le=20)
    power: float = Field(0.8, gt=0, lt=1)


def bounds(plan: Looks) -> dict[str, Any]:
    """Bounds by Lan-DeMets spending, and what they cost in sample size.

    Raises:
        ValueError: The times are impossible.
    """
    if has_close_looks(plan.times):
        raise ValueError(f"times must be above 0, increase, and be at least {MIN_SPACING:g} apart")
    found = gs.spending_bounds(
        plan.times, plan.alpha, sided=plan.sided, spending=plan.spending, parameter=plan.parameter
    )
    drift = gs.drift_for_power(found.times, found.z, plan.power, sided=plan.sided)
    one_look = gs.spending_bounds([1.0], plan.alpha, sided=plan.sided)
    single = gs.drift_for_power([1.0], one_look.z, plan.power, sided=plan.sided)
    return {
        "looks": [
            {"time": t, "z": z, "spent": s}
            for t, z, s in zip(found.times, found.z, found.spent, strict=True)
        ],
        "drift": drift,
        "sample_size_factor": (drift / single) ** 2,
    }
