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
from collections.abc import Sequence

from scipy.special import ndtr, ndtri

from .clusters import Clusters
from .comparison import Comparison, contrast
from .contrast import Effect
from .summaries import Estimate, Proportion, Summary

MIN_UNITS = 100
"""Units per arm from which the normal approximation, and so the guarantee, is good."""
MIN_EVENTS = 10
"""Events, and units without one, that a proportion needs besides.

They are counted in the smallest arm at the rate of all arms, so an arm without any
event waits no longer than the others.
"""


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
    control: Summary | Clusters | Estimate,
    treatment: Summary | Clusters | Estimate,
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
    found = contrast(control, treatment, effect, one_sided=True)
    tails = found.tail(0.0, above=True), found.tail(0.0, above=False)
    z = -float(ndtri(max(min(tails), 1e-300)))
    limit = float(ndtr(-radius(units, planned, alpha)))
    return Comparison(
        found.effect,
        found.bounds(limit),
        p_value(z, units, planned, alpha) if z > 0 else 1.0,
        found.statistic,
        effect,
        alpha,
        found.method,
    )


def units_for_events(rate: float) -> int:
    """Units of the smallest arm from which a proportion of this rate is shown."""
    return math.ceil(MIN_EVENTS / max(min(rate, 1 - rate), 1e-12))


def what_is_missing(arms: Sequence[Summary | Clusters | Estimate], units: Sequence[int]) -> str:
    """What arms need before intervals are shown, as a clause; empty when nothing.

    Args:
        arms: The arms' summaries.
        units: Units of each.
    """
    if min(units, default=0) < MIN_UNITS:
        return f"{min(units, default=0)} of the {MIN_UNITS} units per arm that a look needs"
    rates = [arm for arm in arms if isinstance(arm, Proportion)]
    if rates:
        share = sum(arm.successes for arm in rates) / sum(arm.n for arm in rates)
        expected = min(arm.n for arm in rates) * min(share, 1 - share)
        if expected < MIN_EVENTS:
            kind = "events" if share <= 0.5 else "units without an event"
            return (
                f"{expected:.3g} of the {MIN_EVENTS} {kind} that a look needs in the "
                "smallest arm, at the rate of all arms"
            )
    return ""
