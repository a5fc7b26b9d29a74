"""Sufficient statistics of one arm: all that a test needs to know of its units.

Each has `estimate()`: the metric's value, the variance of that value, and its degrees
of freedom. The independent observation is always a unit (a user, a tenant, a session),
never an event.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

Floats = NDArray[np.float64]
_Z = float(ndtri(0.975))
REACH = 12.0
"""Standard errors around a quantile within which values are kept."""
_STEPS = 8
"""Levels between two neighbouring values."""


class Undefined(ValueError):
    """The data do not determine a result. The message says why.

    For example, no unit varies, a denominator is zero, or there are too few units.
    """


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value, and the variance of its sampling distribution (not of one unit).

    `dof` are the variance's degrees of freedom.
    """

    value: float
    variance: float
    dof: float = math.inf

    @property
    def error(self) -> float:
        """Standard error."""
        return math.sqrt(self.variance)


@dataclass(frozen=True, slots=True)
class Proportion:
    """`successes` of `n` units."""

    n: int
    successes: int

    def __post_init__(self) -> None:
        _require(self.n >= 1, "a proportion needs at least one unit")
        _require(
            0 <= self.successes <= self.n,
            f"{self.successes} successes of {self.n} units is impossible",
        )

    @property
    def rate(self) -> float:
        """Share of successes."""
        return self.successes / self.n

    def estimate(self) -> Estimate:
        return Estimate(self.rate, self.rate * (1 - self.rate) / self.n)


@dataclass(frozen=True, slots=True)
class Mean:
    """`n` units with this mean and variance (unbiased: divided by n - 1)."""

    n: int
    mean: float
    variance: float

    def __post_init__(self) -> None:
        _require(self.n >= 2, "a mean needs at least two units: the variance of one is unknown")
        _require(
            math.isfinite(self.mean) and math.isfinite(self.variance),
            "mean and variance must be finite",
        )
        _require(self.variance >= 0, "a variance must not be negative")

    def estimate(self) -> Estimate:
        return Estimate(self.mean, self.variance / self.n, self.n - 1)

    @classmethod
    def of(cls, values: Sequence[float] | np.ndarray) -> Mean:
        """From raw values, one per unit, shape (n,)."""
        array = np.asarray(values, dtype=float)
        _require(array.size >= 2, "a mean needs at least two units: the variance of one is unknown")
        with np.errstate(over="ignore", invalid="ignore"):
            return cls(array.size, float(array.mean()), float(array.var(ddof=1)))


@dataclass(frozen=True, slots=True)
class Pair:
    """Moments of two values per unit, `y` and `x`.

    They are a ratio's numerator and denominator, or an outcome and its past.
    """

    n: int
    mean_y: float
    mean_x: float
    variance_y: float
    variance_x: float
    covariance: float

    def __post_init__(self) -> None:
        _require(self.n >= 2, "at least two units are needed: the variance of one is unknown")
        moments = (self.mean_y, self.mean_x, self.variance_y, self.variance_x, self.covariance)
        _require(all(map(math.isfinite, moments)), "means, variances and covariance must be finite")
        _require(self.variance_y >= 0 and self.variance_x >= 0, "a variance must not be negative")

    @classmethod
    def of(cls, y: Sequence[float] | np.ndarray, x: Sequence[float] | np.ndarray) -> Pair:
        """From raw values, one of each per unit, both of shape (n,)."""
        ys, xs = np.asarray(y, dtype=float), np.asarray(x, dtype=float)
        _require(ys.size >= 2, "at least two units are needed: the variance of one is unknown")
        with np.errstate(over="ignore", invalid="ignore"):
            cov = np.cov(ys, xs)
            means = float(ys.mean()), float(xs.mean())
        return cls(ys.size, *means, float(cov[0, 0]), float(cov[1, 1]), float(cov[0, 1]))


@dataclass(frozen=True, slots=True)
class Ratio:
    """sum(y) / sum(x) over units, such as clicks per search.

    Units are independent, events are not. Delta method with R = mean_y / mean_x:

        var(R) = (var(y) - 2 R cov(y, x) + R² var(x)) / (n mean_x²)

    Source: Deng, Knoblich & Lu 2018, "Applying the Delta Method in Metric Analytics",
    eq. 5.
    """

    pair: Pair

    @property
    def n(self) -> int:
        return self.pair.n

    def estimate(self) -> Estimate:
        p = self.pair
        _require(p.mean_x != 0, "the ratio's denominator is zero over all units")
        ratio = p.mean_y / p.mean_x
        _require(abs(ratio) < 1e60, "the ratio is too large to compare: beyond 1e60")
        spread = p.variance_y - 2 * ratio * p.covariance + ratio**2 * p.variance_x
        return Estimate(ratio, max(spread, 0.0) / (p.n * p.mean_x**2), p.n - 1)


@dataclass(frozen=True, slots=True)
class Quantile:
    """The q-quantile of `n` units, with their values around it.

    A tie counts as half below and half above its value, and between neighbouring values
    levels are interpolated: Parzen's mid-quantile, which changes smoothly with the
    shares of units on each value (Ma, Genton & Parzen 2011, Annals of the Institute of
    Statistical Mathematics 63, 227). Where no two values are equal, it is the usual
    sample quantile.

    Attributes:
        n: Units.
        q: Which quantile, between 0 and 1.
        values: Different values near it, increasing, shape (k,).
        below: Units below each of them, shape (k,).
        until: Units at or below each of them, shape (k,).
    """

    n: int
    q: float
    values: Floats = field(repr=False, compare=False)
    below: Floats = field(repr=False, compare=False)
    until: Floats = field(repr=False, compare=False)

    @classmethod
    def of(cls, values: Sequence[float] | NDArray[np.generic], q: float) -> Quantile:
        """The q-quantile of raw values, one per unit, shape (n,), 0 < q < 1."""
        _require(0 < q < 1, "a quantile must be strictly between 0 and 1")
        array = np.sort(np.asarray(values, dtype=float))
        n = array.size
        deviation = math.sqrt(n * q * (1 - q))
        _require(
            _Z * deviation <= min(n * q, n * (1 - q) - 1),
            f"too few units ({n}) for the {q:g}-quantile",
        )
        first = array[max(0, math.floor(n * q - REACH * deviation))]
        last = array[min(n - 1, math.ceil(n * q + REACH * deviation))]
        # and the next value on either side, which may be far away
        start, stop = np.searchsorted(array, first, "left"), np.searchsorted(array, last, "right")
        start = np.searchsorted(array, array[max(start - 1, 0)], "left")
        stop = np.searchsorted(array, array[min(stop, n - 1)], "right")
        kept, counts = np.unique(array[start:stop], return_counts=True)
        until = start + np.cumsum(counts, dtype=float)
        return cls(n, q, kept, until - counts, until)

    def estimate(self) -> Estimate:
        """The quantile; its variance from the width of its 95 % interval."""
        low, value, high = Levels.of(self, self.values).interval(_Z)
        return Estimate(value, ((high - low) / (2 * _Z)) ** 2)


@dataclass(frozen=True, slots=True)
class Levels:
    """Values, with how far above a quantile each is, in standard errors.

    The quantile's interval are the values m whose level F(m) is plausible for it:

        |F(m) - q| <= z √((q (1 - q) - r) / n),  r = mean of s (1 - s) over units

    where s is 0, 1 or, for ties, the part of the unit that counts as below m. Without
    ties r is 0, and this is the binomial interval of order statistics (David &
    Nagaraja, Order Statistics, 7.1), which needs no density estimate.

    Attributes:
        values: Values, increasing, shape (k,).
        z: How far above the quantile each is, not decreasing, shape (k,).
        ends: How far the levels 0 and 1 are.
    """

    values: Floats
    z: Floats
    ends: tuple[float, float]

    @classmethod
    def of(cls, arm: Quantile, grid: Floats) -> Levels:
        """Levels at the points of a grid, which includes the arm's own values."""
        known = np.concatenate([[arm.below[0]], arm.until])
        below = known[np.searchsorted(arm.values, grid, "left")] / arm.n
        until = known[np.searchsorted(arm.values, grid, "right")] / arm.n
        tied = until - below
        # With this level, the quantile of values that all differ is NumPy's.
        target = arm.q + (0.5 - arm.q) / arm.n
        w = np.arange(_STEPS) / _STEPS
        r = np.append(
            ((tied[:-1, None] * (1 - w * w) + tied[1:, None] * w * (2 - w)) / 4).ravel(),
            tied[-1] / 4,
        )
        deviation = np.sqrt(np.maximum(arm.q * (1 - arm.q) - r, 1e-18) / arm.n)
        z = (_between((below + until) / 2) - target) / deviation
        error = math.sqrt(arm.q * (1 - arm.q) / arm.n)
        return cls(
            _between(grid), np.maximum.accumulate(z), (-target / error, (1 - target) / error)
        )

    def interval(self, critical: float) -> tuple[float, float, float]:
        """The quantile between the ends of its interval, which may be infinite."""
        low, value, high = np.interp([-critical, 0.0, critical], self.z, self.values)
        return (
            float(low) if -critical > self.ends[0] else -math.inf,
            float(value),
            float(high) if critical < self.ends[1] else math.inf,
        )


def _between(points: Floats) -> Floats:
    """The points, and between two of them more in equal steps."""
    steps = np.arange(_STEPS) / _STEPS
    inner = points[:-1, None] * (1 - steps) + points[1:, None] * steps
    return np.append(inner.ravel(), points[-1])


Summary = Proportion | Mean | Ratio | Quantile


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise Undefined(message)
