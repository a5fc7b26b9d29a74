"""Clusters as units: companies or boards are assigned, and people observed in them.

People of one cluster are alike, so the independent observation is the cluster. An arm's
value is the mean over its people (or another ratio of two sums over clusters).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .contrast import Effect
from .summaries import Estimate, Undefined

Floats = NDArray[np.float64]

MAX_CLUSTERS = 1000
"""Clusters in two arms up to which they are permuted; beyond, t is as good."""
MAX_DRAWS = 9999
MAX_CELLS = 2_000_000
"""Draws times clusters that are kept in memory."""
DRAWS_IN_TAIL = 10
"""Draws that an error rate must have, so that it can be told apart from others."""
_STEPS = 40
_SEED = 20261128


@dataclass(frozen=True, slots=True)
class Clusters:
    """One arm's clusters: the sum over people, and the number of people, of each.

    Attributes:
        total: Sums of the people's values, shape (n,).
        size: Numbers of people, or a ratio's denominators, shape (n,).
    """

    total: Floats = field(repr=False)
    size: Floats = field(repr=False)

    def __post_init__(self) -> None:
        if self.size.size < 2:
            raise Undefined("at least two clusters are needed: the variance of one is unknown")
        if not (np.isfinite(self.total).all() and np.isfinite(self.size).all()):
            raise Undefined("the sums over a cluster must be finite")
        if not self.size.sum() > 0:
            raise Undefined("the denominator is zero over all clusters")

    @property
    def n(self) -> int:
        return int(self.size.size)

    def estimate(self) -> Estimate:
        """The ratio of the sums, with a cluster-robust variance (CR2).

        With h the cluster's share of the people and e = total - ratio · size:

            variance   Σ e² / (1 - h) / (Σ size)²
            its dof    (Σ B_cc)² / Σ B_cd²
            with       B_cd = (size_c δ_cd - h_c size_d) / √((1 - h_c)(1 - h_d))

        Source: Bell & McCaffrey 2002, Survey Methodology 28, 169.
        """
        people = float(self.size.sum())
        ratio = float(self.total.sum()) / people
        share = np.clip(self.size / people, 0.0, 1 - 1e-9)
        residual = self.total - ratio * self.size
        variance = float((residual**2 / (1 - share)).sum()) / people**2
        # Σ B_cc is the number of people, and B_cc = size_c
        beside = share**2 / (1 - share)
        spread = beside.sum() ** 2 - (beside**2).sum() + (share**2).sum()
        dof = 1 / spread if spread > 0 else self.n - 1
        return Estimate(ratio, variance, max(1.0, min(float(dof), self.n - 1)))


@dataclass(frozen=True)
class PermutationContrast:
    """Two arms, compared by permuting their clusters.

    At the effect that is tested, the treatment's values without the effect are as good
    as the control's. So clusters may change sides: the studentised difference (delta
    method) has the distribution of its values over such draws, which holds for few
    clusters of any sizes. Source: Chung & Romano 2013, Annals of Statistics 41, 484.
    """

    control: Clusters
    treatment: Clusters
    scale: Effect
    method: str = "cluster permutation"

    @property
    def effect(self) -> float:
        c, t = self.control.estimate().value, self.treatment.estimate().value
        return t - c if self.scale == "absolute" else (t - c) / c

    @property
    def statistic(self) -> float:
        return float(self._statistics(0.0)[0])

    def tail(self, effect: float, *, above: bool) -> float:
        """One-sided p-value of data at least as far above (below) this effect."""
        found = self._statistics(effect)
        own, drawn = found[0], found[1:]
        slack = 1e-9 * (1 + abs(own))
        as_far = drawn >= own - slack if above else drawn <= own + slack
        return float((1 + as_far.sum()) / (1 + drawn.size))

    def bounds(self, tail: float) -> tuple[float, float] | None:
        """The effects between those whose one-sided p-values are `tail`."""
        low = self._bound(lambda d: self.tail(d, above=True) > tail, -1.0)
        high = self._bound(lambda d: self.tail(d, above=False) > tail, 1.0)
        return low, high

    def _bound(self, is_plausible: Callable[[float], bool], side: float) -> float:
        """The end of the plausible effects below (above) the estimate."""
        c, t = self.control.estimate(), self.treatment.estimate()
        step = math.sqrt(c.variance + t.variance) / (c.value if self.scale == "relative" else 1)
        near, far = self.effect, self.effect
        lowest = -1 + 1e-9 if self.scale == "relative" else -math.inf
        for _ in range(_STEPS):
            far = max(far + side * step, lowest)
            if far == lowest and is_plausible(far):
                return -1.0
            if not is_plausible(far):
                break
            near, step = far, 2 * step
        else:
            return side * math.inf
        # so that the interval has zero in it just when the test at zero says so
        if min(near, far) < 0 < max(near, far):
            near, far = (0.0, far) if is_plausible(0.0) else (near, 0.0)
        for _ in range(_STEPS):
            if abs(far - near) <= 1e-6 * abs(step):
                break
            middle = (near + far) / 2
            near, far = (middle, far) if is_plausible(middle) else (near, middle)
        return far if far == 0 else near

    @cached_property
    def _sides(self) -> Floats:
        """Whether each cluster is treated, shape (1 + draws, clusters)."""
        c, t = self.control.n, self.treatment.n
        draws = _draws(c + t)
        order = np.random.default_rng(_SEED).random((draws, c + t))
        chosen = np.argpartition(order, t - 1, axis=1)[:, :t]
        sides = np.zeros((draws + 1, c + t))
        np.put_along_axis(sides[1:], chosen, 1.0, axis=1)
        sides[0, c:] = 1.0  # as observed
        return sides

    @cached_property
    def _sizes(self) -> tuple[Floats, Floats, Floats]:
        """The clusters' sizes; and treated sums of these and of their squares."""
        size = np.concatenate([self.control.size, self.treatment.size])
        return size, self._sides @ size, self._sides @ size**2

    def _statistics(self, effect: float) -> Floats:
        size, treated_size, treated_square = self._sizes
        removed = (
            self.treatment.total - effect * self.treatment.size
            if self.scale == "absolute"
            else self.treatment.total / (1 + effect)
        )
        total = np.concatenate([self.control.total, removed])
        ends = self._sides @ np.column_stack([total, total**2, total * size])
        both = np.array([total.sum(), (total**2).sum(), (total * size).sum()])
        t_mean, t_variance = _ratio(treated_size, treated_square, ends, self.treatment.n)
        c_mean, c_variance = _ratio(
            size.sum() - treated_size, (size**2).sum() - treated_square, both - ends, self.control.n
        )
        spread = np.sqrt(np.maximum(t_variance + c_variance, 0.0))
        difference = t_mean - c_mean
        far = np.where(np.abs(difference) < 1e-15, 0.0, np.copysign(1e9, difference))
        return np.where(spread > 0, difference / np.where(spread > 0, spread, 1.0), far)


def _ratio(size: Floats, square: Floats, sums: Floats, n: int) -> tuple[Floats, Floats]:
    """The ratio of each draw, and its variance by the delta method."""
    safe = np.maximum(size, 1e-300)
    mean = sums[:, 0] / safe
    residual = sums[:, 1] - 2 * mean * sums[:, 2] + mean**2 * square
    return mean, n / (n - 1) * residual / safe**2


def can_permute(control: Clusters, treatment: Clusters, tail: float) -> bool:
    """Whether draws of the clusters can tell an error rate of `tail` from others."""
    clusters = control.n + treatment.n
    return clusters <= MAX_CLUSTERS and tail * (_draws(clusters) + 1) >= DRAWS_IN_TAIL


def _draws(clusters: int) -> int:
    return min(MAX_DRAWS, MAX_CELLS // clusters)


def cluster_variance(variance: float, mean_size: float, size_cv: float, icc: float) -> float:
    """Variance of one cluster's contribution to an arm's mean, for planning.

    A person's variance times the design effect over people per cluster:

        variance (1 + ((1 + cv²) m - 1) ρ) / m

    Source: Eldridge, Ashby & Kerry 2006, Int. Journal of Epidemiology 35, 1292.
    """
    return variance * (1 + ((1 + size_cv**2) * mean_size - 1) * icc) / mean_size
