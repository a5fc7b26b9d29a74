"""The units that a design needs, planned for the test that will be used."""

from __future__ import annotations

import math

from scipy.special import ndtr, ndtri

from . import always_valid
from . import group_sequential as gs
from .clusters import cluster_variance
from .design import Design
from .exact_power import rates_sample_size
from .sample_size import mean_sample_size, rates_variance


def required_units(
    design: Design, baseline: float | None = None, variance: float | None = None
) -> int | None:
    """Units that the smallest arm needs.

    Each comparison is planned at its corrected alpha, between the control and the
    smallest treatment. A group-sequential design is planned for its largest sample. An
    always-valid one is planned at the critical value that its interval has at the
    planned end, where both scales have the same test, and needs at least the units and
    events below which it shows nothing.

    Args:
        design: The design.
        baseline: The primary metric's value today, if the design does not say it.
        variance: Variance of one unit, if the design does not say it.

    Returns:
        Units, or None when the baseline or variance is not known.

    Raises:
        ValueError: No sample can detect the effect.
    """
    baseline = design.baseline if design.baseline is not None else baseline
    variance = design.variance if design.variance is not None else variance
    effect = _absolute_effect(design, baseline)
    is_rate = design.primary.binary
    if effect is None or (is_rate and baseline is None):
        return None
    shares = design.shares()
    ratio = min(shares[t] for t in design.treatments) / shares[design.control]
    n, least = 0.0, always_valid.MIN_UNITS if design.analysis == "always_valid" else 2
    if is_rate:
        assert baseline is not None
        n = _units_for_rates(design, baseline, effect, ratio)
        variance = rates_variance((baseline, baseline + effect), ratio)
    if design.people is not None or not is_rate:
        spread = _unit_variance(design, variance)
        if spread is None:
            return None
        n = mean_sample_size(
            effect, spread, alpha=2 * _tail(design), power=design.power, ratio=ratio
        )
        n *= _group_sequential_factor(design, 1.0)
    elif design.analysis == "always_valid":
        assert baseline is not None
        mean = baseline + effect * ratio / (1 + ratio)
        least = max(least, always_valid.units_for_events(mean))
    return max(least, math.ceil(n * min(1.0, ratio)))


def _absolute_effect(design: Design, baseline: float | None) -> float | None:
    if design.minimum_effect is None or design.effect == "absolute":
        return design.minimum_effect
    return None if baseline is None else design.minimum_effect * baseline


def _units_for_rates(design: Design, baseline: float, effect: float, ratio: float) -> float:
    """Control units for two proportions."""
    rates = baseline, baseline + effect
    n = rates_sample_size(
        rates,
        tail=_tail(design),
        power=design.power,
        ratio=ratio,
        one_sided=design.analysis == "always_valid",
    )
    mean = (rates[0] + ratio * rates[1]) / (1 + ratio)
    own = rates[0] * (1 - rates[0]) + rates[1] * (1 - rates[1]) / ratio
    return n * _group_sequential_factor(
        design, math.sqrt(mean * (1 - mean) * (1 + 1 / ratio) / own)
    )


def _tail(design: Design) -> float:
    """Error rate of one side of the test at the planned end."""
    alpha = design.alpha
    if design.correction != "none":
        alpha /= len(design.treatments)
    if design.analysis == "always_valid":
        return float(ndtr(-always_valid.radius(1, 1, alpha)))
    return alpha / 2


def _unit_variance(design: Design, variance: float | None) -> float | None:
    """The variance of one unit; with people, of a cluster's contribution."""
    people = design.people
    if people is None or variance is None:
        return variance
    if people.mean_size is None or people.icc is None:
        return None
    return cluster_variance(variance, people.mean_size, people.size_cv, people.icc)


def _group_sequential_factor(design: Design, spread: float) -> float:
    """The largest sample of a group-sequential plan, over that of a single look.

    `spread` is the statistic's standard deviation without the effect, over that with
    it, so bounds are so much farther where the effect is there.
    """
    if design.analysis != "group_sequential":
        return 1.0
    tail = _tail(design)
    bounds = gs.spending_bounds(design.looks, 2 * tail, spending=design.spending)
    drift = gs.drift_for_power(bounds.times, [z * spread for z in bounds.z], design.power)
    return (drift / float(ndtri(1 - tail) * spread + ndtri(design.power))) ** 2
