"""How many units an experiment needs, and with what power it finds an effect.

`ratio` is the treatment's number of units over the control's; `alpha` is the whole
test's error, split in two when it is two-sided. Numbers are real; round them up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal

from scipy.optimize import brentq
from scipy.special import ndtr, ndtri, stdtrit
from scipy.stats import nct

Sided = Literal[1, 2]
_MOST = 1e12
NEAREST = 0.001
"""Share of the sample that two looks at a test are apart at the least: the memory that
its bounds take grows with its inverse.
"""


def too_near(looks: Sequence[float]) -> bool:
    """Whether some of these shares are not `NEAREST` after the one before, or the first
    after 0.
    """
    return any(b - a < NEAREST for a, b in pairwise((0.0, *looks)))


def proportion_power(
    n: float,
    baseline: float,
    effect: float,
    *,
    alpha: float = 0.05,
    sided: Sided = 2,
    ratio: float = 1.0,
) -> float:
    """Power of the pooled z test with n control units to find baseline + effect
    (absolute), in either direction when two-sided.

    Φ((|effect| - z(1-α/2) σ0) / σ1), σ0² = p̄ (1 - p̄) (1/n + 1/(n ratio)), σ1² the sum
    of the arms' own variances; plus the far tail. Source: Fleiss, Levin & Paik, 4.2 (as
    R's power.prop.test, strict = TRUE).
    """
    p1, p2 = baseline, baseline + effect
    _rates(p1, p2)
    mean = (p1 + ratio * p2) / (1 + ratio)
    null = math.sqrt(mean * (1 - mean) * (1 + 1 / ratio) / n)
    own = math.sqrt((p1 * (1 - p1) + p2 * (1 - p2) / ratio) / n)
    critical = float(ndtri(1 - alpha / sided)) * null
    power = ndtr((abs(effect) - critical) / own)
    return float(power + (ndtr((-abs(effect) - critical) / own) if sided == 2 else 0.0))


def proportion_sample_size(
    baseline: float,
    effect: float,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
    sided: Sided = 2,
    ratio: float = 1.0,
) -> float:
    """Control units needed to find an absolute `effect` on a rate of `baseline`: where
    `proportion_power` reaches `power`. Without the far tail of a two-sided test that is

    n = ((z(1-α/2) √(p̄ (1 - p̄) (1 + 1/ratio)) + z(power) √(p1 (1 - p1) + p2 (1 - p2) /
    ratio)) / effect)²

    >>> round(proportion_sample_size(0.5, 0.25, power=0.9), 4)
    76.7069
    """
    _rates(baseline, baseline + effect)
    _check(alpha, power, ratio)

    def missing(n: float) -> float:
        return proportion_power(n, baseline, effect, alpha=alpha, sided=sided, ratio=ratio) - power

    return _smallest(missing, min(1.0, 1.0 / ratio))


def mean_power(
    n: float,
    effect: float,
    variance: float,
    *,
    alpha: float = 0.05,
    sided: Sided = 2,
    ratio: float = 1.0,
) -> float:
    """Power of the two-sample t test with n control units, from the noncentral t (Cohen
    1988, 2.3; as R's power.t.test with strict = TRUE). From 20,000 degrees of freedom
    on, the normal it has become.
    """
    dof = n * (1 + ratio) - 2
    shift = abs(effect) / math.sqrt(variance * (1 + 1 / ratio) / n)
    if dof > 20_000:
        critical = float(ndtri(1 - alpha / sided))
        return float(ndtr(shift - critical) + (ndtr(-shift - critical) if sided == 2 else 0.0))
    critical = float(stdtrit(dof, 1 - alpha / sided))
    if (
        shift > 37
    ):  # beyond the noncentral t's reach in floating point, where the power is 1 to all digits
        return 1.0
    return float(
        nct.sf(critical, dof, shift) + (nct.cdf(-critical, dof, shift) if sided == 2 else 0.0)
    )


def mean_sample_size(
    effect: float,
    variance: float,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
    sided: Sided = 2,
    ratio: float = 1.0,
) -> float:
    """Control units needed to find a difference in means of `effect` when one unit has
    this variance.

    >>> round(mean_sample_size(0.5, 1.0), 2)
    63.77
    """
    _check(alpha, power, ratio)
    if effect == 0 or not math.isfinite(effect):
        raise ValueError("the effect to find must not be zero")
    if not (variance > 0 and math.isfinite(variance)):
        raise ValueError("the variance of one unit must be above zero")
    normal = (
        variance * (1 + 1 / ratio) * (float(ndtri(1 - alpha / sided) + ndtri(power)) / effect) ** 2
    )
    if (
        normal > 20_000
    ):  # Guenther 1981, The American Statistician 35, 243: within a tenth of a unit
        return normal + float(ndtri(1 - alpha / sided)) ** 2 / (2 * (1 + ratio))
    smallest = max(2.0, 2.0 / ratio)

    def missing(n: float) -> float:
        return mean_power(n, effect, variance, alpha=alpha, sided=sided, ratio=ratio) - power

    return _smallest(missing, smallest)


def guardrail_sample_size(
    margin: float, variance: float, *, alpha: float = 0.05, power: float = 0.8, ratio: float = 1.0
) -> float:
    """Control units needed to show, with no true difference, that harm is below an
    absolute `margin` (one-sided).
    """
    return mean_sample_size(margin, variance, alpha=alpha, power=power, sided=1, ratio=ratio)


def days(per_arm: float, smallest_share: float, units_per_day: float) -> int:
    """Whole days until the smallest arm, which gets this share of the daily units, is
    full.
    """
    if not (units_per_day > 0 and smallest_share > 0):
        raise ValueError("units per day and the smallest arm's share must be above zero")
    return max(1, math.ceil(per_arm / (units_per_day * smallest_share)))


def _smallest(missing: Callable[[float], float], low: float) -> float:
    if missing(low) >= 0:
        return low
    high = low
    while missing(high) < 0 and high < _MOST:
        high *= 2
    return float(brentq(missing, low, high, xtol=1e-6))


def _rates(p1: float, p2: float) -> None:
    if not 0 < p1 < 1:
        raise ValueError("a baseline rate lies strictly between 0 and 1")
    if not 0 <= p2 <= 1:
        raise ValueError(f"baseline + effect must be a rate between 0 and 1, not {p2:g}")
    if p1 == p2:
        raise ValueError("the effect to find must not be zero")


def _check(alpha: float, power: float, ratio: float) -> None:
    if not 0 < alpha < 1 or not 0 < power < 1:
        raise ValueError("alpha and power lie strictly between 0 and 1")
    if power <= alpha:
        raise ValueError(
            "power must be above alpha: as often an effect is found where there is none"
        )
    if not (ratio > 0 and math.isfinite(ratio)):
        raise ValueError("the ratio of the arms' sizes must be above zero")
