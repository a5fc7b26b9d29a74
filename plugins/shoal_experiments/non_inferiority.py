"""Non-inferiority: do the data rule out harm beyond a margin?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .comparison import Effect, cdf, estimate_of, fieller, quantile, welch_dof
from .summaries import Estimate, Proportion, Summary, Undefined

Direction = Literal["increase", "decrease"]
"""Which way of the metric is good."""


@dataclass(frozen=True, slots=True)
class GuardrailResult:
    """The result of a non-inferiority test.

    Attributes:
        harm: The estimated harm, absolute or relative like the margin; negative is a
            benefit.
        worst: Upper bound of the harm with one-sided confidence 1 - alpha; None when
            the data do not bound it.
        margin: The margin that was tested.
        p_value: One-sided p-value of harm >= margin.
        ruled_out: Whether harm of the margin or more is rejected at alpha.
    """

    harm: float
    worst: float | None
    margin: float
    p_value: float
    ruled_out: bool


def non_inferiority(
    control: Summary | Estimate,
    treatment: Summary | Estimate,
    *,
    margin: float,
    better: Direction = "increase",
    scale: Effect = "relative",
    alpha: float = 0.05,
) -> GuardrailResult:
    """One-sided test of H0: harm >= margin.

    Harm is control - treatment where more is better, else treatment - control. For a
    relative margin, the contrast is treatment - (1 ∓ margin) control, which needs no
    division (Fieller's test). Proportions use unpooled variances; arms without
    variation get one more unit of each outcome (as Agresti & Caffo 2000), so that an
    arm of all successes has some variance. Source: Rothmann, Wiens & Chan 2011, Design
    and Analysis of Non-Inferiority Trials, ch. 5.

    Args:
        control: The control's summary, or its estimate.
        treatment: The treatment's.
        margin: The margin, not negative; a share of the control's value when relative.
        better: Which direction of the metric is good.
        scale: Whether the margin is absolute or relative.
        alpha: One-sided error rate.

    Raises:
        Undefined: Neither arm varies, or the margin is relative to a control that is
            not above zero.
    """
    if margin < 0:
        raise ValueError("a margin must not be negative")
    sign = 1.0 if better == "increase" else -1.0
    c, t = _smoothed(control), _smoothed(treatment)
    factor = 1.0 if scale == "absolute" else 1.0 - sign * margin
    shift = margin if scale == "absolute" else 0.0
    scaled = Estimate(factor * c.value, factor**2 * c.variance, c.dof)
    variance = scaled.variance + t.variance
    if variance <= 0:
        raise Undefined("neither arm varies: every unit has the same value, so no test is possible")
    if scale == "relative" and c.value <= 0:
        raise Undefined("a relative margin needs a control above zero")
    dof = welch_dof(scaled, t)
    statistic = (sign * (t.value - scaled.value) + shift) / variance**0.5
    p = cdf(-statistic, dof)
    difference = sign * (c.value - t.value)
    plain = welch_dof(c, t)
    if scale == "absolute":
        harm: float = difference
        worst: float | None = harm + quantile(1 - alpha, plain) * (c.variance + t.variance) ** 0.5
    else:
        harm, worst = difference / c.value, _worst_relative(c, t, sign, quantile(1 - alpha, plain))
    return GuardrailResult(harm, worst, margin, p, p < alpha)


def _worst_relative(c: Estimate, t: Estimate, sign: float, critical: float) -> float | None:
    interval = fieller(c, t, critical)
    return None if interval is None else -interval[0] if sign > 0 else interval[1]


def _smoothed(arm: Summary | Estimate) -> Estimate:
    if isinstance(arm, Proportion) and arm.successes in (0, arm.n):
        n, rate = arm.n + 2, (arm.successes + 1) / (arm.n + 2)
        return Estimate(arm.rate, rate * (1 - rate) / n)
    return estimate_of(arm)
