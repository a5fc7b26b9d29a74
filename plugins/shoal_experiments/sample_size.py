"""Sample size and power: units that an experiment needs to detect an effect.

In all functions, `n` are the control's units, `ratio` is the treatment's units over
those, `alpha` is the error rate of the whole test (split in two when it is two-sided),
and `sided` is 1 or 2. Sample sizes are real numbers; round them up.
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
_MAX_UNITS = 1e12
_MAX_DEVIATIONS = 1e6
"""An effect of so many standard deviations is found in the smallest sample."""
_MIN_DEVIATIONS = 1e-8
"""Smallest effect in standard deviations: about 1e17 units per arm."""
_NORMAL_DOF = 20_000
"""Degrees of freedom from which the t distribution is taken as normal."""

MIN_RATE = 1e-12
"""The least rate, and distance from 1: rarer ones need more units than can be."""
MIN_SPACING = 0.001
"""Smallest distance of two looks, as a share of the sample.

The memory that their bounds take grows with its inverse.
"""


class ImpossibleSample(ValueError):
    """No sample can do what is asked.

    Attributes:
        field: What of the plan makes it impossible.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def has_close_looks(looks: Sequence[float]) -> bool:
    """Whether two looks, or 0 and the first look, are less than `MIN_SPACING` apart."""
    return any(b - a < MIN_SPACING for a, b in pairwise((0.0, *looks)))


def proportion_power(
    n: float,
    baseline: float,
    effect: float,
    *,
    alpha: float = 0.05,
    sided: Sided = 2,
    ratio: float = 1.0,
) -> float:
    """Power of the pooled z test to detect an absolute effect on a rate of `baseline`.

        Φ((|effect| - z(1-α/2) σ0) / σ1), plus the far tail when two-sided
        σ0² = p̄ (1 - p̄) (1/n + 1/(n ratio)), σ1² the sum of the arms' own variances

    Source: Fleiss, Levin & Paik, 4.2; as R's power.prop.test with strict = TRUE.
    """
    p1, p2 = baseline, baseline + effect
    _check_rates(p1, p2)
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
    """Control units needed to detect an absolute effect on a rate of `baseline`.

    It is where `proportion_power` reaches `power`. Without the far tail that is

        ((z(1-α/2) √(p̄ (1 - p̄) (1 + 1/ratio)) + z(power) σ) / effect)²
        σ² = p1 (1 - p1) + p2 (1 - p2) / ratio

    Raises:
        ImpossibleSample: The rates, alpha, power or ratio are impossible, or the effect
            is too small.

    >>> round(proportion_sample_size(0.5, 0.25, power=0.9), 4)
    76.7069
    """
    _check_rates(baseline, baseline + effect)
    _check(alpha, power, ratio)

    def missing(n: float) -> float:
        return proportion_power(n, baseline, effect, alpha=alpha, sided=sided, ratio=ratio) - power

    return _smallest_root(missing, min(1.0, 1.0 / ratio))


def rates_variance(rates: tuple[float, float], ratio: float) -> float:
    """The variance of one unit that gives the difference of two rates its variance."""
    control, treatment = rates
    return (ratio * control * (1 - control) + treatment * (1 - treatment)) / (1 + ratio)


def mean_power(
    n: float,
    effect: float,
    variance: float,
    *,
    alpha: float = 0.05,
    sided: Sided = 2,
    ratio: float = 1.0,
) -> float:
    """Power of the two-sample t test to detect a difference in means of `effect`.

    `variance` is that of one unit. From the noncentral t distribution (Cohen 1988, 2.3;
    as R's power.t.test with strict = TRUE), or from the normal for large samples.
    """
    dof = n * (1 + ratio) - 2
    shift = abs(effect) / math.sqrt(variance * (1 + 1 / ratio) / n)
    if dof > _NORMAL_DOF:
        critical = float(ndtri(1 - alpha / sided))
        return float(ndtr(shift - critical) + (ndtr(-shift - critical) if sided == 2 else 0.0))
    if shift > 37:  # beyond SciPy's noncentral t, and the power is 1 to all digits
        return 1.0
    critical = float(stdtrit(dof, 1 - alpha / sided))
    # The far tail is cdf(-critical, dof, shift), which may be NaN in SciPy.
    far = nct.sf(critical, dof, -shift) if sided == 2 else 0.0
    return float(nct.sf(critical, dof, shift) + far)


def mean_sample_size(
    effect: float,
    variance: float,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
    sided: Sided = 2,
    ratio: float = 1.0,
) -> float:
    """Control units needed to detect a difference in means of `effect`.

    `variance` is that of one unit.

    Raises:
        ImpossibleSample: The effect is zero or too small, or the other arguments are
            impossible.

    >>> round(mean_sample_size(0.5, 1.0), 2)
    63.77
    """
    _check(alpha, power, ratio)
    if effect == 0 or not math.isfinite(effect):
        raise ImpossibleSample("minimum_effect", "the effect must be a finite number, not zero")
    if not (variance > 0 and math.isfinite(variance)):
        raise ImpossibleSample("variance", "the variance of one unit must be above zero")
    critical = float(ndtri(1 - alpha / sided))
    deviations = min(abs(effect) / math.sqrt(variance), _MAX_DEVIATIONS)
    if deviations < _MIN_DEVIATIONS:
        raise _too_small()
    normal = (1 + 1 / ratio) * ((critical + float(ndtri(power))) / deviations) ** 2
    if normal > _NORMAL_DOF:
        # Guenther 1981, The American Statistician 35, 243: exact to a tenth of a unit
        return normal + critical**2 / (2 * (1 + ratio))
    smallest = max(2.0, 2.0 / ratio)

    def missing(n: float) -> float:
        return mean_power(n, deviations, 1.0, alpha=alpha, sided=sided, ratio=ratio) - power

    return _smallest_root(missing, smallest)


def guardrail_sample_size(
    margin: float, variance: float, *, alpha: float = 0.05, power: float = 0.8, ratio: float = 1.0
) -> float:
    """Control units needed to rule out harm of an absolute `margin` (one-sided).

    The true difference is taken as zero.
    """
    return mean_sample_size(margin, variance, alpha=alpha, power=power, sided=1, ratio=ratio)


def days_to_fill(per_arm: float, smallest_share: float, units_per_day: float) -> int:
    """Whole days until the smallest arm has `per_arm` units.

    `smallest_share` is its share of the units per day.
    """
    if not (units_per_day > 0 and smallest_share > 0):
        raise ValueError("units per day and the smallest arm's share must be above zero")
    return max(1, math.ceil(per_arm / (units_per_day * smallest_share)))


def _smallest_root(missing: Callable[[float], float], low: float) -> float:
    if missing(low) >= 0:
        return low
    high = low
    while missing(high) < 0 and high < _MAX_UNITS:
        high *= 2
    if not missing(high) >= 0:
        raise _too_small()
    return float(brentq(missing, low, high, xtol=1e-6))


def _too_small() -> ImpossibleSample:
    return ImpossibleSample(
        "minimum_effect",
        f"the effect is too small: more than {_MAX_UNITS:.0g} units per arm would be needed",
    )


def _check_rates(p1: float, p2: float) -> None:
    if not MIN_RATE <= p1 <= 1 - MIN_RATE:
        raise ImpossibleSample(
            "baseline", f"a baseline rate must be from {MIN_RATE:g} to 1 - {MIN_RATE:g}"
        )
    if not 0 <= p2 <= 1:
        raise ImpossibleSample(
            "minimum_effect", f"baseline + effect must be a rate between 0 and 1, not {p2:g}"
        )
    if p1 == p2:
        raise ImpossibleSample("minimum_effect", "the effect must not be zero beside the baseline")


def _check(alpha: float, power: float, ratio: float) -> None:
    if not 0 < alpha < 1 or not 0 < power < 1:
        raise ImpossibleSample("alpha", "alpha and power must be strictly between 0 and 1")
    if power <= alpha:
        raise ImpossibleSample("power", "power must be above alpha, the rate of false positives")
    if not (ratio > 0 and math.isfinite(ratio)):
        raise ImpossibleSample("ratio", "the ratio of the arms' sizes must be above zero")
