"""Treatment against control: effect, interval and p-value, absolute or relative.

Every interval is the set of effects that its test does not reject, so interval and
p-value always agree:

    proportions     pooled z test; score intervals by Mee (absolute), Koopman (relative)
    … of few events exact unconditional test, and the intervals that invert it
    clusters        permutation of clusters, or t with a cluster-robust variance (CR2)
    quantiles       order statistics' intervals, combined by MOVER
    everything else Welch's t test; for relative effects Fieller's interval
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from scipy.special import ndtr, ndtri, stdtr, stdtrit

from .clusters import Clusters, PermutationContrast, can_permute
from .contrast import Contrast, Effect
from .exact import ExactContrast
from .proportions import (
    FEW_EVENTS,
    FEW_EVENTS_IN_A_TAIL,
    ScoreContrast,
    exact_interval,
    has_few_events,
    point_effect,
)
from .quantiles import QuantileContrast
from .summaries import Estimate, Levels, Proportion, Quantile, Summary, Undefined

Alternative = Literal["two-sided", "larger", "smaller"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result of comparing a treatment with the control.

    Attributes:
        effect: Treatment - control, or (treatment - control) / control when relative.
        interval: Covers the effect with confidence 1 - alpha. An end may be infinite.
            None when the data do not bound a relative effect: the control may be zero.
        p_value: Two-sided p-value of "no effect".
        statistic: The test statistic, z or t.
        scale: Whether the effect is absolute or relative.
        alpha: Error rate of the test and the interval.
        method: The test's name.
    """

    effect: float
    interval: tuple[float, float] | None
    p_value: float
    statistic: float
    scale: Effect
    alpha: float
    method: str = ""

    @property
    def significant(self) -> bool:
        return self.p_value < self.alpha


def compare(
    control: Summary | Clusters | Estimate,
    treatment: Summary | Clusters | Estimate,
    *,
    effect: Effect = "absolute",
    alpha: float = 0.05,
) -> Comparison:
    """Test two arms for equality (two-sided), with a 1 - alpha interval of the effect.

    Args:
        control: The control's summary, or its estimate.
        treatment: The treatment's.
        effect: Whether the effect is absolute or relative to the control.
        alpha: Error rate.

    Raises:
        Undefined: Neither arm varies (except proportions), or the effect is relative to
            a control that is not above zero.

    >>> c = compare(Proportion(5234, 644), Proportion(5189, 732))
    >>> round(c.effect, 3), [round(x, 3) for x in c.interval], round(c.p_value, 4)
    (0.018, [0.005, 0.031], 0.0066)
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be between 0 and 1, not {alpha}")
    found = contrast(control, treatment, effect, tail=alpha / 2)
    p_value = 2 * min(found.tail(0.0, above=True), found.tail(0.0, above=False))
    return Comparison(
        found.effect,
        found.bounds(alpha / 2),
        min(1.0, p_value),
        found.statistic,
        effect,
        alpha,
        found.method,
    )


def contrast(
    control: Summary | Clusters | Estimate,
    treatment: Summary | Clusters | Estimate,
    scale: Effect,
    *,
    tail: float = 0.025,
    one_sided: bool = False,
) -> Contrast:
    """The test for two arms.

    Args:
        control: The control's summary, or its estimate.
        treatment: The treatment's.
        scale: Whether the effect is absolute or relative to the control.
        tail: Error rate of each side, which decides how many events are few.
        one_sided: Whether only one side is tested, so that the other's smaller error
            does not make up for it.

    Raises:
        Undefined: Neither arm varies (except proportions), or the effect is relative to
            a control that is not above zero.
    """
    if isinstance(control, Proportion) and isinstance(treatment, Proportion):
        is_plain = tail >= 0.025 and not one_sided
        enough = FEW_EVENTS if is_plain else FEW_EVENTS_IN_A_TAIL
        point_effect(control, treatment, scale)
        few = has_few_events(control, treatment, enough)
        return (ExactContrast if few else ScoreContrast)(control, treatment, scale)
    if isinstance(control, Quantile) and isinstance(treatment, Quantile):
        return QuantileContrast.of(control, treatment, scale)
    if isinstance(control, Clusters) and isinstance(treatment, Clusters):
        found = EstimateContrast.of(control.estimate(), treatment.estimate(), scale)
        if can_permute(control, treatment, tail):
            return PermutationContrast(control, treatment, scale)
        return replace(found, method="cluster-robust t")
    return EstimateContrast.of(estimate_of(control), estimate_of(treatment), scale)


def estimate_of(arm: Summary | Clusters | Estimate) -> Estimate:
    """The estimate of an arm, which may already be one."""
    return arm if isinstance(arm, Estimate) else arm.estimate()


def own_interval(arm: Summary | Clusters | Estimate, alpha: float = 0.05) -> tuple[float, float]:
    """The confidence interval of one arm's value, with confidence 1 - alpha.

    It is exact for a proportion (Clopper and Pearson's, which is conservative), and
    between order statistics for a quantile; otherwise value ± t · standard error.

    >>> [round(x, 4) for x in own_interval(Proportion(235, 51))]
    [0.1661, 0.2753]
    """
    if isinstance(arm, Proportion):
        return exact_interval(arm, alpha)
    if isinstance(arm, Quantile):
        low, _, high = Levels.of(arm, arm.values).interval(quantile(1 - alpha / 2))
        return low, high
    estimate = estimate_of(arm)
    half = quantile(1 - alpha / 2, estimate.dof) * estimate.error
    return estimate.value - half, estimate.value + half


def finite_or_none(value: float) -> float | None:
    """The value; None for an infinite one, which JSON cannot express."""
    return value if math.isfinite(value) else None


def interval_ends(c: Comparison) -> list[float | None] | None:
    """A comparison's interval for JSON: None for an infinite end."""
    return None if c.interval is None else [finite_or_none(end) for end in c.interval]


def proportions_z(
    control: Proportion, treatment: Proportion, alternative: Alternative = "two-sided"
) -> tuple[float, float]:
    """Statistic z and p-value of the two-proportion z test with the pooled rate p.

        z = (p2 - p1) / √(p (1 - p) (1/n1 + 1/n2))

    When all or no units succeeded in both arms, z = 0 and p = 1. Source: Fleiss, Levin
    & Paik, Statistical Methods for Rates and Proportions, 3.1, without continuity
    correction.
    """
    pooled = (control.successes + treatment.successes) / (control.n + treatment.n)
    variance = pooled * (1 - pooled) * (1 / control.n + 1 / treatment.n)
    z = (treatment.rate - control.rate) / math.sqrt(variance) if variance > 0 else 0.0
    return z, _p_value(z, alternative)


def proportion_z(
    arm: Proportion, value: float, alternative: Alternative = "two-sided"
) -> tuple[float, float]:
    """Statistic z and p-value of the one-sample z test of rate = value.

    It uses the sample's own variance, as statsmodels does by default.
    """
    variance = arm.estimate().variance
    if variance == 0:
        raise Undefined("no variation: all units or none succeeded")
    z = (arm.rate - value) / math.sqrt(variance)
    return z, _p_value(z, alternative)


def _p_value(z: float, alternative: Alternative = "two-sided", dof: float = math.inf) -> float:
    if alternative == "two-sided":
        return min(1.0, 2 * cdf(-abs(z), dof))
    return cdf(-z if alternative == "larger" else z, dof)


def cdf(x: float, dof: float) -> float:
    """Student's t distribution function (normal for infinite degrees of freedom)."""
    return float(ndtr(x) if math.isinf(dof) else stdtr(dof, x))


def quantile(p: float, dof: float = math.inf) -> float:
    """Student's t quantile (normal for infinite degrees of freedom)."""
    return float(ndtri(p) if math.isinf(dof) else stdtrit(dof, p))


def welch_dof(control: Estimate, treatment: Estimate) -> float:
    """Degrees of freedom by Welch-Satterthwaite (Welch 1947).

    (v1 + v2)² / (v1² / d1 + v2² / d2), v the variances of the means
    """
    share = control.variance / (control.variance + treatment.variance)
    spread = share**2 / control.dof + (1 - share) ** 2 / treatment.dof
    return 1 / spread if spread > 0 else math.inf


# Everything but proportions and quantiles: estimates with standard errors


@dataclass(frozen=True, slots=True)
class EstimateContrast:
    """Two estimates, compared by Welch's t test, and relatively by Fieller's.

    Fieller's t(r) tests treatment = (1 + r) control, which needs no division.
    """

    control: Estimate
    treatment: Estimate
    scale: Effect
    dof: float
    method: str = "welch"

    @classmethod
    def of(cls, control: Estimate, treatment: Estimate, scale: Effect) -> EstimateContrast:
        """Compare two estimates.

        Raises:
            Undefined: Neither varies, or the effect is relative to a control that is
                not above zero: from -10 to -5 would be -50 %.
        """
        if control.variance + treatment.variance <= 0:
            raise Undefined(
                "neither arm varies: every unit has the same value, so no test is possible"
            )
        if scale == "relative":
            _check_positive(control)
        return cls(control, treatment, scale, welch_dof(control, treatment))

    @property
    def effect(self) -> float:
        difference = self.treatment.value - self.control.value
        return difference if self.scale == "absolute" else difference / self.control.value

    @property
    def statistic(self) -> float:
        return self._t(0.0)

    def _t(self, effect: float) -> float:
        c, t = self.control, self.treatment
        if self.scale == "absolute":
            return (t.value - c.value - effect) / math.sqrt(c.variance + t.variance)
        factor = 1 + effect
        variance = t.variance + factor**2 * c.variance
        distance = t.value - factor * c.value
        return distance / math.sqrt(variance) if variance > 0 else math.copysign(1e6, distance)

    def tail(self, effect: float, *, above: bool) -> float:
        """One-sided p-value of data at least as far above (below) this effect."""
        t = self._t(effect)
        return cdf(-t if above else t, self.dof)

    def bounds(self, tail: float) -> tuple[float, float] | None:
        """The effects between those whose one-sided p-values are `tail`."""
        critical = -quantile(tail, self.dof)
        if self.scale == "relative":
            return fieller(self.control, self.treatment, critical)
        half = critical * math.sqrt(self.control.variance + self.treatment.variance)
        return self.effect - half, self.effect + half


def _check_positive(control: Estimate) -> None:
    if control.value <= 0:
        raise Undefined("the relative effect is undefined: the control's value is not above zero")


def fieller(control: Estimate, treatment: Estimate, critical: float) -> tuple[float, float] | None:
    """Fieller's interval for treatment / control - 1: all r with |t(r)| <= critical.

    t(r) tests treatment = (1 + r) control. With R the ratio, m the control and
    g = (critical · se(m) / m)² < 1, it tends to the delta-method interval for g → 0:

        (R ± critical / m · √(v2 + R² v1 - g v2)) / (1 - g) - 1, up to R's shift by g

    Source: Fieller 1954, JRSS B 16, 175.

    Returns:
        The interval, or None when zero is a plausible value of the control: the data
        then rule out no large effect.
    """
    m1, m2, v1, v2 = control.value, treatment.value, control.variance, treatment.variance
    a = m1 * m1 - critical**2 * v1
    if a <= 0:
        return None
    b, c = m1 * m2, m2 * m2 - critical**2 * v2
    root = math.sqrt(max(b * b - a * c, 0.0))
    low, high = (b - root) / a - 1, (b + root) / a - 1
    return low, high
