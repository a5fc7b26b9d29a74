"""Two proportions with few events: the exact unconditional test, and its intervals.

Barnard's test, which orders tables by the score statistic, extended from no effect to
any difference or ratio (Chan & Zhang 1999, Biometrics 55, 1202). The p-value is that of
the rates for which it is largest, among those that the data leave plausible (Berger &
Boos 1994, JASA 89, 1012).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincc, gammaln, xlog1py, xlogy

from .contrast import Effect
from .proportions import Floats, ScoreContrast, exact_interval, point_effect, score
from .summaries import Proportion

_LARGEST_RATIO = 1e20
_ELSEWHERE = 1e-6
"""Probability that the nuisance rate is outside the interval that is searched."""
_NUISANCE = 32
"""Nuisance rates that are tried, and as many around the best of them."""


@dataclass(frozen=True, slots=True)
class ExactContrast:
    """Two rates with few events, compared by the exact unconditional test."""

    control: Proportion
    treatment: Proportion
    scale: Effect
    method: str = "exact unconditional"

    @property
    def effect(self) -> float:
        return point_effect(self.control, self.treatment, self.scale)

    @property
    def statistic(self) -> float:
        return ScoreContrast(self.control, self.treatment, self.scale).statistic

    def tail(self, effect: float, *, above: bool) -> float:
        """The largest one-sided p-value that any rates with this effect give."""
        value = effect if self.scale == "absolute" else 1 + effect
        return _exact_tail(self.control, self.treatment, value, self.scale, above)

    def bounds(self, tail: float) -> tuple[float, float]:
        """Where the one-sided p-values reach `tail`, from below and above."""
        return _exact_bounds(self.control, self.treatment, self.scale, tail)


@lru_cache(maxsize=4096)
def _exact_bounds(c: Proportion, t: Proportion, scale: Effect, tail: float) -> tuple[float, float]:
    contrast = ExactContrast(c, t, scale)
    point = contrast.effect
    first, last = ScoreContrast(c, t, scale).bounds(tail)
    highest = 1.0 if scale == "absolute" else _LARGEST_RATIO

    def excluded(value: float) -> bool:
        return contrast.tail(value, above=value < point) <= tail

    return (
        _search(excluded, point, first, -1.0) if point > -1.0 else -1.0,
        _search(excluded, point, last, highest) if point < highest else highest,
    )


def _search(excluded: Callable[[float], bool], point: float, guess: float, limit: float) -> float:
    """The end of an interval around `point`, between it and `limit`.

    It is where `excluded` begins, to 1e-3 of its distance from `point`. Zero is tried
    first, so that an interval includes it exactly when the test of no effect says so.
    """
    inside, outside = point, limit
    if min(point, limit) < 0 < max(point, limit):
        inside, outside = (inside, 0.0) if excluded(0.0) else (0.0, outside)
    step = (guess - point) / 4 or (limit - point) / 64
    value = guess
    while abs(value - point) < abs(outside - point):
        if abs(value - point) > abs(inside - point):
            if excluded(value):
                outside = value
                break
            inside = value
        value, step = value + step, 2 * step
    if outside == limit and not excluded(limit):
        return limit
    while abs(outside - inside) > 1e-3 * abs(outside - point):
        middle = (inside + outside) / 2
        if middle in (inside, outside):  # there is no number between them
            break
        inside, outside = (inside, middle) if excluded(middle) else (middle, outside)
    return outside


@lru_cache(maxsize=65536)
def _exact_tail(c: Proportion, t: Proportion, value: float, scale: Effect, above: bool) -> float:
    """The one-sided p-value of the table, maximised over the control's rate.

    Tables are as extreme as the observed one when their score is. As the score rises in
    one arm's events and falls in the other's, for each number of one arm's events those
    of the other are extreme up to, or from, a number that is found by bisection.
    """
    low, high = _nuisance_range(c, t, value, scale)
    if low > high:
        return _ELSEWHERE
    ends = math.asin(math.sqrt(low)), math.asin(math.sqrt(high))
    rates = np.sin(np.linspace(ends[0], ends[1], _NUISANCE)) ** 2
    first = _Tables.around(c, t, value, scale, above, rates)
    tails = first.probability(rates, _other_rate(rates, value, scale))
    best = int(tails.argmax())
    near = np.linspace(rates[max(best - 1, 0)], rates[min(best + 1, _NUISANCE - 1)], _NUISANCE)
    near_tails = first.probability(near, _other_rate(near, value, scale))
    return min(1.0, float(max(tails.max(), near_tails.max())) + _ELSEWHERE)


def _other_rate(control: Floats, value: float, scale: Effect) -> Floats:
    other = control + value if scale == "absolute" else control * value
    return np.asarray(np.clip(other, 0.0, 1.0))


def _nuisance_range(
    c: Proportion, t: Proportion, value: float, scale: Effect
) -> tuple[float, float]:
    """The control's rates that neither arm's exact interval rules out."""
    low, high = exact_interval(c, _ELSEWHERE / 2)
    first, last = exact_interval(t, _ELSEWHERE / 2)
    if scale == "absolute":
        return max(low, first - value, -value), min(high, last - value, 1 - value)
    if value <= 0:
        return low, (high if first == 0 else -1.0)
    return max(low, first / value), min(high, last / value)


@dataclass(frozen=True, slots=True)
class _Tables:
    """The tables that are at least as extreme as the observed one.

    Attributes:
        n: Units of the arm whose events are counted through, and of the other.
        counted: Numbers of events of the first, shape (k,).
        cut: For each, the last number of the other that is extreme, or the first.
        downwards: Whether it is the last.
        swapped: Whether the first arm is the treatment.
    """

    n: tuple[int, int]
    counted: Floats
    cut: Floats
    downwards: bool
    swapped: bool

    @classmethod
    def around(
        cls, c: Proportion, t: Proportion, value: float, scale: Effect, above: bool, rates: Floats
    ) -> _Tables:
        observed = float(score(c.successes, c.n, t.successes, t.n, value, scale))
        arms = [_likely_counts(c.n, rates), _likely_counts(t.n, _other_rate(rates, value, scale))]
        swapped = arms[1][1] - arms[1][0] < arms[0][1] - arms[0][0]
        (first, last), (low, high) = reversed(arms) if swapped else arms
        counted = np.arange(first, last + 1, dtype=float)
        downwards = above == swapped

        def is_extreme(other: Floats) -> NDArray[np.bool_]:
            x1, x2 = (other, counted) if swapped else (counted, other)
            z = score(x1, c.n, x2, t.n, value, scale)
            return np.asarray(z >= observed - 1e-9 if above else z <= observed + 1e-9)

        # the edge between numbers that are extreme and those that are not
        lower, upper = np.full(counted.size, low - 1.0), np.full(counted.size, high + 1.0)
        while (upper - lower).max() > 1:
            middle = np.floor((lower + upper) / 2)
            goes_up = is_extreme(middle) == downwards
            lower, upper = np.where(goes_up, middle, lower), np.where(goes_up, upper, middle)
        return cls(
            (t.n, c.n) if swapped else (c.n, t.n),
            counted,
            lower if downwards else upper,
            downwards,
            swapped,
        )

    def probability(self, control: Floats, treatment: Floats) -> Floats:
        """Probability of these tables at each pair of rates, shape (rates,)."""
        own, other = (treatment, control) if self.swapped else (control, treatment)
        n, k, p = self.n[0], self.counted, own[:, None]
        choices = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
        weights = np.exp(choices + xlogy(k, p) + xlog1py(n - k, -p))
        n, p = self.n[1], other[:, None]
        # P(X < edge) of a binomial, which is 0 or 1 outside of 0 to n
        edge = self.cut + 1 if self.downwards else self.cut
        inner = np.clip(edge, 1, n)
        below = np.where(edge <= 0, 0.0, np.where(edge > n, 1.0, betaincc(inner, n - inner + 1, p)))
        return np.asarray((weights * (below if self.downwards else 1 - below)).sum(axis=1))


def _likely_counts(n: int, rates: Floats) -> tuple[int, int]:
    """The counts that are not rarer than about 1e-12 at every rate."""
    low, high = (float(n * rate) for rate in (rates.min(), rates.max()))
    reach = (8 * math.sqrt(mean * (1 - mean / n)) + 15 for mean in (low, high))
    return max(0, math.floor(low - next(reach))), min(n, math.ceil(high + next(reach)))
