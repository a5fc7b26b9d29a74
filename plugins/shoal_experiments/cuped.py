"""CUPED: remove from an outcome what a unit's own past already explains.

Source: Deng, Xu, Kohavi & Walker 2013, "Improving the Sensitivity of Online Controlled
Experiments by Utilizing Pre-Experiment Data", WSDM. With θ = cov(y, x) / var(x), pooled
over the arms:

    adjusted mean of arm i      ȳi - θ (x̄i - x̄)
    variance of one unit        var(y) - 2 θ cov(y, x) + θ² var(x)  =  (1 - ρ²) var(y)  at the best θ
    intervals narrow by         √(1 - ρ²)

x must be fixed before the unit was first exposed, or the treatment leaks into it and
the effect is biased.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from .summaries import Mean, Pair


def theta(arms: Mapping[str, Pair]) -> float:
    """The within-arm regression of y on x, pooled over arms; 0 when the covariate does
    not vary (nothing is removed).
    """
    variance = sum((arm.n - 1) * arm.variance_x for arm in arms.values())
    return (
        sum((arm.n - 1) * arm.covariance for arm in arms.values()) / variance
        if variance > 0
        else 0.0
    )


def adjust(arms: Mapping[str, Pair]) -> dict[str, Mean]:
    """Each arm's adjusted mean, ready for `compare`. Units without a past count with x
    = 0, in every arm alike.
    """
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
    """The factor √(1 - ρ²) by which intervals narrow; 1 when nothing is gained."""
    y = sum((arm.n - 1) * arm.variance_y for arm in arms.values())
    x = sum((arm.n - 1) * arm.variance_x for arm in arms.values())
    xy = sum((arm.n - 1) * arm.covariance for arm in arms.values())
    return math.sqrt(max(0.0, 1 - xy * xy / (x * y))) if x > 0 and y > 0 else 1.0
