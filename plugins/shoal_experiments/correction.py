"""Multiple comparisons: adjusted p-values, and intervals that match them.

`bonferroni` and `holm` bound the chance of any false positive in the family by alpha
(Holm 1979, Scandinavian Journal of Statistics 6, 65); `benjamini-hochberg` the expected
share of false ones among the positives (1995, JRSS B 57, 289).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

Correction = Literal["none", "bonferroni", "holm", "benjamini-hochberg"]


def adjust(p_values: Sequence[float], correction: Correction) -> list[float]:
    """Adjusted p-values, in the order given.

    A hypothesis is rejected when its adjusted p-value is below alpha.

    >>> adjust([0.01, 0.04, 0.03], "holm")
    [0.03, 0.06, 0.06]
    """
    m = len(p_values)
    order = sorted(range(m), key=lambda i: p_values[i])
    adjusted = [0.0] * m
    if correction == "none":
        return list(p_values)
    if correction == "bonferroni":
        return [min(1.0, m * p) for p in p_values]
    if correction == "holm":
        highest = 0.0
        for rank, i in enumerate(order):
            highest = max(highest, min(1.0, (m - rank) * p_values[i]))
            adjusted[i] = highest
        return adjusted
    lowest = 1.0
    for rank in range(m, 0, -1):
        i = order[rank - 1]
        lowest = min(lowest, m / rank * p_values[i])
        adjusted[i] = lowest
    return adjusted


def interval_alpha(alpha: float, family: int, correction: Correction) -> float:
    """Error rate of each interval, for joint coverage of a family of 1 - alpha.

    Bonferroni's intervals match its decisions exactly. Holm and Benjamini-Hochberg have
    no such intervals, and use Bonferroni's: they are simultaneous, but may include zero
    where the sharper test rejects.
    """
    return alpha if correction == "none" else alpha / max(family, 1)
