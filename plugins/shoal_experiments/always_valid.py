"""Confidence sequences: intervals that are valid at all times at once.

So one may look, and stop, at any time.

They are the normal mixture of Robbins (1970, Annals of Mathematical Statistics 41,
1397) in the asymptotic form of Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas (2024,
Annals of Statistics 52, 2613). For an estimate with standard error s from n units in
all, and a mixture whose variance is ρ² times that of one unit:

    effect ± s · √((1 + 1/(n ρ²)) · ln((1 + n ρ²) / α²))

With probability 1 - α it covers the effect at every n beyond the first hundreds. ρ² is
chosen so that the interval is narrowest at the planned number of units (their eq. 29,
ρ² n = -ln α² + ln(1 - ln α²)); before and after, it is valid but wider.
"""

from __future__ import annotations

import math

from .comparison import Comparison, Effect, delta_relative, estimate_of
from .summaries import Estimate, Proportion, Summary, Undefined

MIN_UNITS = 100
"""Units per arm from which the normal approximation, and so the guarantee, is good."""


def mixture_variance(planned: int, alpha: float = 0.05) -> float:
    """ρ² for which the sequence is narrowest at `planned` units in all."""
    tail = -2 * math.log(alpha)
    return (tail + math.log1p(tail)) / max(planned, 1)


def radius(n: int, planned: int, alpha: float = 0.05) -> float:
    """Half-width in standard errors at n units.

    It is 3.0 at the planned number for alpha 0.05; a single look has 1.96.
    """
    nr = n * mixture_variance(planned, alpha)
    return math.sqrt((1 + 1 / nr) * (math.log1p(nr) - 2 * math.log(alpha)))


def p_value(z: float, n: int, planned: int, alpha: float = 0.05) -> float:
    """The always-valid p-value of z at n units.

    It is the error rate at which the sequence, with the same ρ², just excludes zero:

        √(1 + n ρ²) · exp(-z² n ρ² / (2 (1 + n ρ²))), at most 1

    Once it is below alpha, the result stays significant.
    """
    nr = n * mixture_variance(planned, alpha)
    return min(1.0, math.sqrt(1 + nr) * math.exp(-(z**2) * nr / (2 * (1 + nr))))


def compare(
    control: Summary | Estimate,
    treatment: Summary | Estimate,
    *,
    units: int,
    planned: int,
    effect: Effect = "absolute",
    alpha: float = 0.05,
) -> Comparison:
    """Compare two arms at any time.

    Args:
        control: The control's summary, or its estimate.
        treatment: The treatment's.
        units: Units in the two arms so far.
        planned: Planned units in the two arms.
        effect: Whether the effect is absolute or relative to the control.
        alpha: Error rate over all times.

    Raises:
        Undefined: Neither arm varies, or the effect is relative to a control that is
            not above zero.
    """
    c, t = estimate_of(control), estimate_of(treatment)
    if isinstance(control, Proportion) and isinstance(treatment, Proportion):
        c, t = _shrunk(control), _shrunk(treatment)
    if effect == "relative":
        difference = delta_relative(c, t)
    else:
        difference = Estimate(t.value - c.value, c.variance + t.variance)
    if difference.variance <= 0:
        raise Undefined("neither arm varies: every unit has the same value, so no test is possible")
    z = difference.value / difference.error
    half = radius(units, planned, alpha) * difference.error
    return Comparison(
        difference.value,
        (difference.value - half, difference.value + half),
        p_value(z, units, planned, alpha),
        z,
        effect,
        alpha,
    )


def _shrunk(arm: Proportion) -> Estimate:
    """The rate, with the variance of (successes + 1) / (n + 2).

    So an arm of all successes has some variance.
    """
    rate = (arm.successes + 1) / (arm.n + 2)
    return Estimate(arm.rate, rate * (1 - rate) / arm.n)
