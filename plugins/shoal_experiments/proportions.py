"""Two proportions: how likely the data are at any difference or ratio of the rates.

By the score statistic: Mee 1984 for the difference (Biometrics 40, 1175), Koopman 1984
for the ratio (Biometrics 40, 513), with the variance of the rates that are most likely
under the difference or ratio (Farrington & Manning 1990, Statistics in Medicine 9,
1447). It is normal where each arm can expect enough events.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import betaincinv, ndtr, ndtri

from .contrast import Effect
from .summaries import Proportion, Undefined

Floats = NDArray[np.float64]

FEW_EVENTS = 10
"""Expected events and non-events per arm from which a two-sided test at 5 % is normal.

Its error is then from 4.5 % to 5.2 % at splits up to 99 : 1: one side's excess is the
other's lack.
"""
FEW_EVENTS_IN_A_TAIL = 50
"""The same for one-sided tests, and for smaller error rates."""

_LIMIT = 50.0
"""Largest logarithm of a ratio of rates."""


def has_few_events(control: Proportion, treatment: Proportion, enough: float) -> bool:
    """Whether an arm expects fewer events, or non-events, than `enough`."""
    rate = (control.successes + treatment.successes) / (control.n + treatment.n)
    return min(control.n, treatment.n) * min(rate, 1 - rate) < enough


def exact_interval(arm: Proportion, alpha: float) -> tuple[float, float]:
    """Clopper and Pearson's interval of one rate (1934, Biometrika 26, 404)."""
    x, n = arm.successes, arm.n
    low = float(betaincinv(x, n - x + 1, alpha / 2)) if x > 0 else 0.0
    high = float(betaincinv(x + 1, n - x, 1 - alpha / 2)) if x < n else 1.0
    return low, high


# The score statistic


def constrained_difference(x1: Any, n1: float, x2: Any, n2: float, d: float) -> Floats:
    """The control's rate that maximises the likelihood under p2 = p1 + d.

    The root of a cubic, in Viète's form (Miettinen & Nurminen 1985, Statistics in
    Medicine 4, 213, appendix). Counts may be arrays.
    """
    n, x = n1 + n2, x1 + x2
    # n p³ + b p² + c p + e = 0
    b = (n2 + 2 * n1) * d - n - x
    c = (n1 * d - n - 2 * x1) * d + x
    e = x1 * d * (1 - d)
    v = (b / (3 * n)) ** 3 - b * c / (6 * n * n) + e / (2 * n)
    u = np.copysign(np.sqrt(np.maximum((b / (3 * n)) ** 2 - c / (3 * n), 0.0)), v)
    cube = np.where(u == 0, 1.0, u**3)
    w = (math.pi + np.arccos(np.clip(np.where(u == 0, 0.0, v / cube), -1.0, 1.0))) / 3
    rate = 2 * u * np.cos(w) - b / (3 * n)
    return np.asarray(np.clip(rate, max(0.0, -d), min(1.0, 1.0 - d)))


def constrained_ratio(x1: Any, n1: float, x2: Any, n2: float, r: float) -> Floats:
    """The control's rate that maximises the likelihood under p2 = r p1.

    Source: Miettinen & Nurminen 1985, eq. 12. Counts may be arrays.
    """
    a, b, c = (n1 + n2) * r, -(n2 * r + x2 + n1 + x1 * r), x1 + x2
    root = np.sqrt(np.maximum(b * b - 4 * a * c, 0.0))
    return np.asarray(np.clip(2 * c / (root - b), 0.0, 1.0 / max(r, 1.0)))


def score(x1: Any, n1: float, x2: Any, n2: float, value: float, effect: Effect) -> Floats:
    """The score statistic of p2 - p1 = `value`, or when relative of p2 / p1 = `value`.

    Of equal rates, both are the pooled z. Counts may be arrays. It increases in x2 and
    decreases in x1 and in `value`.
    """
    if effect == "absolute":
        factor, distance = 1.0, x2 / n2 - x1 / n1 - value
        p1 = constrained_difference(x1, n1, x2, n2, value) if value else (x1 + x2) / (n1 + n2)
        p2 = np.clip(p1 + value, 0.0, 1.0)
    else:
        factor = max(value, 0.0)
        distance = x2 / n2 - factor * x1 / n1
        p1 = constrained_ratio(x1, n1, x2, n2, factor) if value != 1 else (x1 + x2) / (n1 + n2)
        p2 = np.minimum(p1 * factor, 1.0)
    variance = p2 * (1 - p2) / n2 + factor**2 * p1 * (1 - p1) / n1
    far = np.where(np.abs(distance) < 1e-15, 0.0, np.copysign(1e6, distance))
    safe = np.where(variance > 0, variance, 1.0)
    return np.asarray(np.where(variance > 0, distance / np.sqrt(safe), far))


@dataclass(frozen=True, slots=True)
class ScoreContrast:
    """Two rates, compared by the score statistic.

    Attributes:
        control: The control.
        treatment: The treatment.
        scale: Whether the effect is p2 - p1 or p2 / p1 - 1.
    """

    control: Proportion
    treatment: Proportion
    scale: Effect
    method: str = "score"

    @property
    def effect(self) -> float:
        return point_effect(self.control, self.treatment, self.scale)

    @property
    def statistic(self) -> float:
        return self._z(0.0 if self.scale == "absolute" else 1.0)

    def _z(self, value: float) -> float:
        c, t = self.control, self.treatment
        return float(score(c.successes, c.n, t.successes, t.n, value, self.scale))

    def tail(self, effect: float, *, above: bool) -> float:
        """One-sided p-value of data at least as far above (below) this effect."""
        z = self._z(effect if self.scale == "absolute" else 1 + effect)
        return float(ndtr(-z if above else z))

    def bounds(self, tail: float) -> tuple[float, float]:
        """Where the one-sided p-values reach `tail`, from below and above."""
        critical = -float(ndtri(tail))
        c, t = self.control, self.treatment
        if self.scale == "absolute":
            return _invert(self._z, critical, -1.0, self.effect, 1.0)
        x1, x2 = c.successes, t.successes
        point = math.log(t.rate / c.rate) if x1 and x2 else -_LIMIT if x1 else _LIMIT
        low, high = _invert(lambda log: self._z(math.exp(log)), critical, -_LIMIT, point, _LIMIT)
        return (-1.0 if x2 == 0 else math.expm1(low)), (math.inf if x1 == 0 else math.expm1(high))


def point_effect(control: Proportion, treatment: Proportion, scale: Effect) -> float:
    """p2 - p1, or p2 / p1 - 1.

    Raises:
        Undefined: The effect is relative to a rate of zero.
    """
    if scale == "absolute":
        return treatment.rate - control.rate
    if control.successes == 0:
        raise Undefined("the relative effect is undefined: no unit of the control succeeded")
    return treatment.rate / control.rate - 1


def _invert(
    z: Callable[[float], float], critical: float, lowest: float, point: float, highest: float
) -> tuple[float, float]:
    """The ends of {d : |z(d)| <= critical}.

    z decreases in d and is 0 at the point estimate.
    """
    low, high = lowest, highest
    if point > lowest and z(lowest) > critical:
        low = float(brentq(lambda d: z(d) - critical, lowest, point, xtol=1e-13, rtol=1e-13))
    if point < highest and z(highest) < -critical:
        high = float(brentq(lambda d: z(d) + critical, point, highest, xtol=1e-13, rtol=1e-13))
    return low, high
