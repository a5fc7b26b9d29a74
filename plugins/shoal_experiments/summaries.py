"""Sufficient statistics of one arm: all that a test needs to know of its units.

Each has `estimate()`: the metric's value, the variance of that value, and its degrees
of freedom. The independent observation is always a unit (a user, a tenant, a session),
never an event.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

_Z = float(ndtri(0.975))


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
        cov = np.cov(ys, xs)
        return cls(
            ys.size,
            float(ys.mean()),
            float(xs.mean()),
            float(cov[0, 0]),
            float(cov[1, 1]),
            float(cov[0, 1]),
        )


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
        spread = p.variance_y - 2 * ratio * p.covariance + ratio**2 * p.variance_x
        return Estimate(ratio, max(spread, 0.0) / (p.n * p.mean_x**2), p.n - 1)


@dataclass(frozen=True, slots=True)
class Quantile:
    """A quantile of one value per unit, with the ends of its 95 % interval.

    The ranks n q ± 1.96 √(n q (1 - q)) bound the q-quantile with 95 % confidence for
    any distribution (binomial count of units below it); their distance over 2 · 1.96 is
    its standard error, without a density estimate. Source: Deng et al. 2018, section 4,
    and David & Nagaraja, Order Statistics, 7.1.
    """

    n: int
    value: float
    low: float
    high: float

    def estimate(self) -> Estimate:
        return Estimate(self.value, ((self.high - self.low) / (2 * _Z)) ** 2)

    @classmethod
    def of(cls, values: Sequence[float] | np.ndarray, q: float) -> Quantile:
        """The q-quantile of raw values, one per unit, shape (n,), 0 < q < 1."""
        _require(0 < q < 1, "a quantile must be strictly between 0 and 1")
        array = np.sort(np.asarray(values, dtype=float))
        step = _Z * math.sqrt(array.size * q * (1 - q))
        low, high = array.size * q - step, array.size * q + step
        _require(
            low >= 0 and high <= array.size - 1,
            f"too few units ({array.size}) for the {q:g}-quantile",
        )
        at = np.arange(array.size)
        return cls(
            array.size,
            float(np.quantile(array, q)),
            float(np.interp(low - 0.5, at, array)),
            float(np.interp(high - 0.5, at, array)),
        )


Summary = Proportion | Mean | Ratio | Quantile


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise Undefined(message)
