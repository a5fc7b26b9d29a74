"""Sample-ratio mismatch: do the arms' sizes match their allocation?"""

from __future__ import annotations

from collections.abc import Mapping

from scipy.special import chdtrc

THRESHOLD = 0.001
"""P-value below which the sizes do not match.

Something then biased which units were counted, so no other result can be trusted.
"""


def sample_ratio_p_value(
    counts: Mapping[str, int], shares: Mapping[str, float] | None = None
) -> float:
    """Chi-square goodness of fit of the arms' sizes to their shares.

    Source: Fabijan et al. 2019, "Diagnosing Sample Ratio Mismatch in Online Controlled
    Experiments", KDD.

    Args:
        counts: Units of each arm.
        shares: Any positive weights; equal when None.

    Returns:
        The p-value: 1 without any units, 0 when an arm of share 0 has units.
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
