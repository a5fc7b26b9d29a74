"""Confidence sequences: intervals that hold at all times at once, so that one may look
whenever one likes and stop.

The normal mixture of Robbins (1970, Annals of Mathematical Statistics 41, 1397) in the
asymptotic form of Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas (2024, Annals of
Statistics 52, 2613). For an estimate with standard error s from n units in all, and a
mixture whose variance is ρ² times that of one unit:

    effect ± s · √((1 + 1/(n ρ²)) · ln((1 + n ρ²) / α²))

With probability 1 - α it covers the effect at every n beyond the first hundreds. ρ² is
set so that the interval is narrowest at the planned number of units (their eq. 29, ρ² n
= -ln α² + ln(1 - ln α²)): before and after, it is valid, only wider.
"""

from __future__ import annotations

import math

from .comparison import Comparison, Effect, delta_relative, estimate_of
from .summaries import Estimate, Proportion, Summary, Undefined

MINIMUM = 100
"""Units per arm before the normal approximation, and with it the guarantee, is trusted.
"""


def mixture(planned: int, alpha: float = 0.05) -> float:
    """ρ² that makes the sequence narrowest at `planned` units in all."""
    tail = -2 * math.log(alpha)
    return (tail + math.log1p(tail)) / max(planned, 1)


def radius(n: int, planned: int, alpha: float = 0.05) -> float:
    """Half-width in standard errors at n units: 3.0 at the planned number for alpha
    0.05 (a single look has 1.96).
    """
    nr = n * mixture(planned, alpha)
    return math.sqrt((1 + 1 / nr) * (math.log1p(nr) - 2 * math.log(alpha)))


def p_value(z: float, n: int, planned: int, alpha: float = 0.05) -> float:
    """Always-valid p-value: the error rate at which the sequence (its ρ² kept) just
    excludes zero at this n, √(1 + n ρ²) · exp(-z² n ρ² / (2 (1 + n ρ²))), at most 1.
    Below alpha at any time: significant for good.
    """
    nr = n * mixture(planned, alpha)
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
    """The comparison at any time. `units` are those in the two arms so far, `planned`
    those that the plan foresees.
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
    """The rate, with its variance at (successes + 1) / (n + 2), so that an arm of all
    successes is not taken for certain.
    """
    rate = (arm.successes + 1) / (arm.n + 2)
    return Estimate(arm.rate, rate * (1 - rate) / arm.n)
