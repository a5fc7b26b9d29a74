"""Sample-ratio mismatch: do the arms have the sizes that the allocation promises?"""

from __future__ import annotations

from collections.abc import Mapping

from scipy.special import chdtrc

THRESHOLD = 0.001
"""Below this p-value something biased who was counted, and no other number of the
experiment can be trusted.
"""


def sample_ratio_p_value(
    counts: Mapping[str, int], shares: Mapping[str, float] | None = None
) -> float:
    """Chi-square goodness of fit of the arms' unit counts to their shares (any positive
    weights; equal when None).

    Source: Fabijan et al. 2019, "Diagnosing Sample Ratio Mismatch in Online Controlled
    Experiments", KDD. Without units nothing contradicts the allocation: p = 1. An arm
    with share 0 that has units: p = 0.
    """
    weights = {arm: 1.0 if shares is None else float(shares[arm]) for arm in counts}
    total, weight = sum(counts.values()), sum(weights.values())
    if total == 0:
        return 1.0
    if any(counts[arm] and not weights[arm] for arm in counts):
        return 0.0
    expected = {arm: total * w / weight for arm, w in weights.items() if w}
    statistic = sum((counts[arm] - e) ** 2 / e for arm, e in expected.items())
    return float(chdtrc(len(expected) - 1, statistic)) if len(expected) > 1 else 1.0
