"""Treatment against control: effect, interval and p-value, absolute or relative.

Every interval is the set of effects that its test does not reject, so interval and
p-value always agree:

    proportions, absolute   pooled z test, and Mee's score interval, which inverts it
    proportions, relative   the same test, and Koopman's score interval for the ratio
    everything else         Welch's t test, and for relative effects Fieller's interval
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from scipy.optimize import brentq
from scipy.special import betaincinv, ndtr, ndtri, stdtr, stdtrit

from .summaries import Estimate, Proportion, Summary, Undefined

Effect = Literal["absolute", "relative"]
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
    """

    effect: float
    interval: tuple[float, float] | None
    p_value: float
    statistic: float
    scale: Effect
    alpha: float

    @property
    def significant(self) -> bool:
        return self.p_value < self.alpha


def compare(
    control: Summary | Estimate,
    treatment: Summary | Estimate,
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
    if isinstance(control, Proportion) and isinstance(treatment, Proportion):
        return _compare_proportions(control, treatment, effect, alpha)
    return _compare_estimates(estimate_of(control), estimate_of(treatment), effect, alpha)


def estimate_of(arm: Summary | Estimate) -> Estimate:
    """The estimate of an arm, which may already be one."""
    return arm if isinstance(arm, Estimate) else arm.estimate()


def own_interval(arm: Summary | Estimate, alpha: float = 0.05) -> tuple[float, float]:
    """The confidence interval of one arm's value, with confidence 1 - alpha.

    It is exact for a proportion, from Beta quantiles, which makes it conservative
    (Clopper & Pearson 1934, Biometrika 26, 404); otherwise value ± t · standard error.

    >>> [round(x, 4) for x in own_interval(Proportion(235, 51))]
    [0.1661, 0.2753]
    """
    if isinstance(arm, Proportion):
        x, n = arm.successes, arm.n
        low = float(betaincinv(x, n - x + 1, alpha / 2)) if x > 0 else 0.0
        high = float(betaincinv(x + 1, n - x, 1 - alpha / 2)) if x < n else 1.0
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
    spread = control.variance**2 / control.dof + treatment.variance**2 / treatment.dof
    return (control.variance + treatment.variance) ** 2 / spread if spread > 0 else math.inf


# Proportions: score intervals


def _compare_proportions(
    control: Proportion, treatment: Proportion, effect: Effect, alpha: float
) -> Comparison:
    z, p = proportions_z(control, treatment)
    critical = quantile(1 - alpha / 2)
    if effect == "absolute":
        interval: tuple[float, float] | None = score_interval(control, treatment, critical)
        value = treatment.rate - control.rate
    else:
        if control.successes == 0:
            raise Undefined("the relative effect is undefined: no unit of the control succeeded")
        low, high = score_ratio_interval(control, treatment, critical)
        interval = (low - 1, high - 1)
        value = treatment.rate / control.rate - 1
    return Comparison(value, interval, p, z, effect, alpha)


def score_interval(
    control: Proportion, treatment: Proportion, critical: float
) -> tuple[float, float]:
    """Mee's score interval for p2 - p1: all d with |z(d)| <= critical.

    z(d) has the variance of the rates that are most likely under p2 - p1 = d; at d = 0
    it is the pooled z. Source: Mee 1984, Biometrics 40, 1175; closed form of the
    constrained rates: Farrington & Manning 1990, Statistics in Medicine 9, 1447.
    """
    difference = treatment.rate - control.rate

    def z(d: float) -> float:
        p1 = _constrained_rate(control, treatment, d)
        p2 = min(max(p1 + d, 0.0), 1.0)
        variance = p1 * (1 - p1) / control.n + p2 * (1 - p2) / treatment.n
        return _standardized(difference - d, variance)

    return _invert(z, critical, -1.0, difference, 1.0)


def _constrained_rate(control: Proportion, treatment: Proportion, d: float) -> float:
    """The control's rate that maximises the likelihood under p2 = p1 + d.

    The root of a cubic, in Viète's form (Miettinen & Nurminen 1985, Statistics in
    Medicine 4, 213, appendix).
    """
    x1, n1 = control.successes, control.n
    n, x = n1 + treatment.n, x1 + treatment.successes
    # n p³ + b p² + c p + e = 0
    b = (treatment.n + 2 * n1) * d - n - x
    c = (n1 * d - n - 2 * x1) * d + x
    e = x1 * d * (1 - d)
    v = (b / (3 * n)) ** 3 - b * c / (6 * n * n) + e / (2 * n)
    u = math.copysign(math.sqrt(max((b / (3 * n)) ** 2 - c / (3 * n), 0.0)), v)
    w = (math.pi + math.acos(min(max(v / u**3, -1.0), 1.0) if u else 0.0)) / 3
    return min(max(2 * u * math.cos(w) - b / (3 * n), 0.0, -d), 1.0, 1.0 - d)


def score_ratio_interval(
    control: Proportion, treatment: Proportion, critical: float
) -> tuple[float, float]:
    """Koopman's score interval for p2 / p1.

    The upper end is infinite when no unit of the control succeeded. Source: Koopman
    1984, Biometrics 40, 513; constrained rate: Miettinen & Nurminen 1985, eq. 12.
    """
    n1, n2 = control.n, treatment.n
    x1, x2 = control.successes, treatment.successes

    def z(log_ratio: float) -> float:
        r = math.exp(log_ratio)
        a, b, c = (n1 + n2) * r, -(n2 * r + x2 + n1 + x1 * r), x1 + x2
        p1 = (-b - math.sqrt(max(b * b - 4 * a * c, 0.0))) / (2 * a)
        p1 = min(max(p1, 0.0), 1.0, 1.0 / r)
        p2 = min(p1 * r, 1.0)
        variance = p2 * (1 - p2) / n2 + r * r * p1 * (1 - p1) / n1
        return _standardized(treatment.rate - r * control.rate, variance)

    limit = 50.0
    point = math.log(treatment.rate / control.rate) if x1 and x2 else -limit if x1 else limit
    low, high = _invert(z, critical, -limit, point, limit)
    return (0.0 if x2 == 0 else math.exp(low)), (math.inf if x1 == 0 else math.exp(high))


def _standardized(difference: float, variance: float) -> float:
    if variance <= 0:
        return 0.0 if abs(difference) < 1e-15 else math.copysign(1e6, difference)
    return difference / math.sqrt(variance)


def _invert(
    z: Callable[[float], float], critical: float, lowest: float, point: float, highest: float
) -> tuple[float, float]:
    """The ends of {d : |z(d)| <= critical}.

    z decreases in d and is 0 at the point estimate.
    """
    low, high = lowest, highest
    if point > lowest and z(lowest) > critical:
        low = float(brentq(lambda d: z(d) - critical, lowest, point, xtol=1e-13, rtol=1e-13))
    if point < highest and z(highest) < -critical:
        high = float(brentq(lambda d: z(d) + critical, point, highest, xtol=1e-13, rtol=1e-13))
    return low, high


# Everything else: estimates with standard errors


def _compare_estimates(
    control: Estimate, treatment: Estimate, effect: Effect, alpha: float
) -> Comparison:
    variance = control.variance + treatment.variance
    if variance <= 0:
        raise Undefined("neither arm varies: every unit has the same value, so no test is possible")
    dof = welch_dof(control, treatment)
    difference = treatment.value - control.value
    t = difference / math.sqrt(variance)
    critical = quantile(1 - alpha / 2, dof)
    interval: tuple[float, float] | None
    if effect == "absolute":
        half = critical * math.sqrt(variance)
        value, interval = difference, (difference - half, difference + half)
    else:
        _check_positive(control)
        value, interval = difference / control.value, fieller(control, treatment, critical)
    return Comparison(value, interval, _p_value(t, dof=dof), t, effect, alpha)


def _check_positive(control: Estimate) -> None:
    """A relative effect has the wrong sign below zero: -10 to -5 would be -50 %."""
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


def delta_relative(control: Estimate, treatment: Estimate) -> Estimate:
    """The relative effect with its delta-method variance, for sequential tests of it.

    v2 / m1² + m2² v1 / m1⁴
    """
    _check_positive(control)
    m1, m2 = control.value, treatment.value
    variance = treatment.variance / m1**2 + m2**2 * control.variance / m1**4
    return Estimate(m2 / m1 - 1, variance, welch_dof(control, treatment))
