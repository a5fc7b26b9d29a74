"""CUPED: remove from an outcome what a unit's own past explains.

Source: Deng, Xu, Kohavi & Walker 2013, "Improving the Sensitivity of Online Controlled
Experiments by Utilizing Pre-Experiment Data", WSDM. With θ = cov(y, x) / var(x), pooled
over the arms:

    adjusted mean of arm i      ȳi - θ (x̄i - x̄)
    variance of one unit        var(y) - 2 θ cov(y, x) + θ² var(x)
    … at the best θ             (1 - ρ²) var(y)
    intervals narrow by         √(1 - ρ²)

x must be from before the unit's first exposure: otherwise the treatment affects it, and
the effect is biased.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from .summaries import Mean, Pair


def theta(arms: Mapping[str, Pair]) -> float:
    """The within-arm regression of y on x, pooled over arms; 0 when x does not vary."""
    variance = sum((arm.n - 1) * arm.variance_x for arm in arms.values())
    covariance = sum((arm.n - 1) * arm.covariance for arm in arms.values())
    return covariance / variance if variance > 0 else 0.0


def adjust(arms: Mapping[str, Pair]) -> dict[str, Mean]:
    """Each arm's adjusted mean, for `compare`. Units without a past have x = 0."""
    slope = theta(arms)
    units = sum(arm.n for arm in arms.values())
    centre = sum(arm.n * arm.mean_x for arm in arms.values()) / units
    return {
        name: Mean(
            arm.n,
            arm.mean_y - slope * (arm.mean_x - centre),
            max(arm.variance_y - 2 * slope * arm.covariance + slope**2 * arm.variance_x, 0.0),
        )
        for name, arm in arms.items()
    }


def narrowing(arms: Mapping[str, Pair]) -> float:
    """The factor √(1 - ρ²) by which intervals narrow; 1 when there is no gain."""
    y = sum((arm.n - 1) * arm.variance_y for arm in arms.values())
    x = sum((arm.n - 1) * arm.variance_x for arm in arms.values())
    xy = sum((arm.n - 1) * arm.covariance for arm in arms.values())
    return math.sqrt(max(0.0, 1 - xy * xy / (x * y))) if x > 0 and y > 0 else 1.0
