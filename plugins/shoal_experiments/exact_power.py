"""Power of the test of two proportions that is used where few events are expected.

The normal formula is wrong there by up to 25 points: the exact test is careful, and at
uneven splits one side has more power than the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, partial

import numpy as np
from scipy.special import ndtri
from scipy.stats import binom

from .comparison import contrast
from .proportions import FEW_EVENTS, FEW_EVENTS_IN_A_TAIL
from .sample_size import Sided, proportion_power, proportion_sample_size
from .summaries import Proportion

_STRATA = 10
"""Equally likely numbers of events of the larger arm."""
_MARGIN = 1.2
"""Over the events from which the test is normal: the number varies."""
_STEPS = 5
_ENOUGH = 0.01
"""Power above the planned one that is no reason to search for fewer units."""


def expects_few_events(
    n: float, rates: tuple[float, float], ratio: float, tail: float, *, one_sided: bool
) -> bool:
    """Whether the exact test may be used with so many control units."""
    mean = (rates[0] + ratio * rates[1]) / (1 + ratio)
    is_plain = tail >= 0.025 and not one_sided
    enough = FEW_EVENTS if is_plain else FEW_EVENTS_IN_A_TAIL
    return n * min(1.0, ratio) * min(mean, 1 - mean) < _MARGIN * enough


@lru_cache(maxsize=256)
def exact_power(
    sizes: tuple[int, int], rates: tuple[float, float], tail: float, *, one_sided: bool = False
) -> float:
    """Chance that the test finds the effect, in its direction.

    For each of several numbers of events of the larger arm, those of the other from
    which the test is significant are found by bisection.

    Args:
        sizes: Units of control and treatment.
        rates: Their rates.
        tail: Error rate of the side of the effect.
        one_sided: Whether it is the only side.
    """
    large = 0 if sizes[0] >= sizes[1] else 1
    n, other = sizes[large], sizes[1 - large]
    rate, own = rates[large], rates[1 - large]
    above = rates[1] > rates[0]

    def is_found(events: int, own_events: int) -> bool:
        arms = [Proportion(n, events), Proportion(other, own_events)]
        c, t = arms if large == 0 else reversed(arms)
        test = contrast(c, t, "absolute", tail=tail, one_sided=one_sided)
        return test.tail(0.0, above=above) < tail

    shares = (np.arange(_STRATA) + 0.5) / _STRATA
    counts, times = np.unique(binom.ppf(shares, n, rate).astype(int), return_counts=True)
    power = 0.0
    for events, repeated in zip(counts.tolist(), times.tolist(), strict=True):
        even = events / n * other
        if own > rate:
            edge = _edge(partial(is_found, events), math.floor(even), other, 1)
            chance = binom.sf(edge - 1, other, own)
        else:
            edge = _edge(partial(is_found, events), math.ceil(even), 0, -1)
            chance = binom.cdf(edge, other, own)
        power += float(chance) * repeated
    return power / _STRATA


def _edge(is_found: Callable[[int], bool], even: int, end: int, sign: int) -> int:
    """The first significant number of events on the way from an even one to the end.

    The number past the end when none is.
    """
    near, step = even, max(1, round(1.5 * math.sqrt(even + 1)))
    far = near
    while not is_found(far):
        if far == end:
            return end + sign
        near, far = far, far + sign * min(step, abs(end - far))
    while abs(far - near) > 1:
        middle = (near + far) // 2
        near, far = (near, middle) if is_found(middle) else (middle, far)
    return far


def rates_sample_size(
    rates: tuple[float, float],
    *,
    tail: float,
    power: float,
    ratio: float,
    one_sided: bool,
) -> float:
    """Control units for two proportions, by the test that is used with so many.

    Args:
        rates: Those of control and treatment.
        tail: Error rate of each side.
        power: Chance to find the effect.
        ratio: Treatment units per control unit.
        one_sided: Whether there is one side only.

    Raises:
        ImpossibleSample: The rates, errors or ratio are impossible.
    """
    sided: Sided = 1 if one_sided else 2
    n = proportion_sample_size(
        rates[0], rates[1] - rates[0], alpha=sided * tail, sided=sided, power=power, ratio=ratio
    )
    if not expects_few_events(n, rates, ratio, tail, one_sided=one_sided):
        return n

    def power_at(units: float) -> float:
        sizes = max(2, math.ceil(units)), max(2, math.ceil(units * ratio))
        return exact_power(sizes, rates, tail, one_sided=one_sided)

    return _search(power_at, n, 2, tail, power)


def rates_power(
    n: int, rates: tuple[float, float], *, tail: float, ratio: float, one_sided: bool
) -> float:
    """Chance to find a difference of two rates, by the test that is used.

    Args:
        n: Control units.
        rates: Those of control and treatment.
        tail: Error rate of each side.
        ratio: Treatment units per control unit.
        one_sided: Whether there is one side only.
    """
    if expects_few_events(n, rates, ratio, tail, one_sided=one_sided):
        sizes = n, max(1, round(n * ratio))
        return exact_power(sizes, rates, tail, one_sided=one_sided)
    sided: Sided = 1 if one_sided else 2
    effect = rates[1] - rates[0]
    return proportion_power(n, rates[0], effect, alpha=sided * tail, sided=sided, ratio=ratio)


def detectable_difference(
    start: float,
    n: int,
    baseline: float,
    *,
    tail: float,
    power: float,
    ratio: float,
    one_sided: bool,
) -> float:
    """The smallest difference of two rates that is found with the wanted power.

    Args:
        start: What the normal formula says.
        n: Control units.
        baseline: The control's rate.
        tail: Error rate of each side.
        power: Chance to find the difference.
        ratio: Treatment units per control unit.
        one_sided: Whether there is one side only.
    """

    def treated(size: float) -> float:
        return min(1.0, max(0.0, baseline + math.copysign(size, start)))

    def power_at(size: float) -> float:
        rates = baseline, treated(size)
        return rates_power(n, rates, tail=tail, ratio=ratio, one_sided=one_sided)

    if not expects_few_events(n, (baseline, baseline + start), ratio, tail, one_sided=one_sided):
        return start
    return treated(_search(power_at, abs(start), 1, tail, power)) - baseline


def _search(
    power_at: Callable[[float], float], start: float, exponent: int, tail: float, power: float
) -> float:
    """Where the power is the wanted one, or a point more, since it rises in steps.

    z(power) + z(1 - tail) grows as the argument to the power of 1 / `exponent`.
    """
    x, best = start, math.inf
    critical = -float(ndtri(tail))
    for _ in range(_STEPS):
        found = power_at(x)
        if found >= power:
            best = min(best, x)
            if found < power + _ENOUGH:
                break
        reached = critical + float(ndtri(min(max(found, 0.02), 0.999)))
        wanted = critical + float(ndtri(min(power + _ENOUGH / 4, 0.9999)))
        x *= (max(wanted, 0.1) / max(reached, 0.1)) ** exponent
    return best if math.isfinite(best) else x
