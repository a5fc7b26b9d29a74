"""Group-sequential tests: looks at information times 0 < t1 < … <= 1, with bounds on z.

The score B(t) = z √t of the data at information time t is a Brownian motion with drift
θ (Jennison & Turnbull, Group Sequential Methods, 2000, ch. 3): B(tk) - B(tk-1) is
normal with mean θ (tk - tk-1) and variance tk - tk-1. Everything here follows from its
distribution over the looks, by the recursion of Armitage, McPherson & Rowe (1969),
exact to ten digits. (R's ldbounds uses the trapezoidal rule, so its published values
are off by up to 0.0004; the tests show both.) The drift θ is the expected z at the end
of the plan: z(1-α/2) + z(power) for a single look.

In all functions, `times` are information times, `z` are bounds at them, and `sided` is
1 or 2.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

Floats = NDArray[np.float64]
Spending = Literal["obrien-fleming", "pocock", "power", "hwang-shih-decani"]
_FAR = 9.0
"""Standard deviations beyond which the probability is taken as zero."""

_GAUSS = np.polynomial.legendre.leggauss(12)


# Spending functions


def spend(
    alpha: float, t: float, spending: Spending = "obrien-fleming", parameter: float | None = None
) -> float:
    """Cumulative alpha that a one-sided test may spend by information time t.

        obrien-fleming      2 - 2 Φ(z(1 - α/2) / √t)
        pocock              α ln(1 + (e - 1) t)
        power               α t^φ
        hwang-shih-decani   α (1 - e^(-γ t)) / (1 - e^(-γ));  γ = 0: α t

    Source: Lan & DeMets 1983, Biometrika 70, 659; power family: Kim & DeMets 1987
    (`parameter` φ, default 1); Hwang, Shih & DeCani 1990 (`parameter` γ, default -4).
    """
    t = min(t, 1.0)
    if spending == "obrien-fleming":
        return float(2 * ndtr(ndtri(alpha / 2) / math.sqrt(t)))
    if spending == "pocock":
        return alpha * math.log1p((math.e - 1) * t)
    if spending == "power":
        return float(alpha * t ** (1.0 if parameter is None else parameter))
    gamma = -4.0 if parameter is None else parameter
    return alpha * t if gamma == 0 else alpha * math.expm1(-gamma * t) / math.expm1(-gamma)


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bounds of each look: significant when |z| (z when one-sided) reaches them.

    `spent` is the cumulative type I error.
    """

    times: tuple[float, ...]
    z: tuple[float, ...]
    spent: tuple[float, ...]
    sided: int


def spending_bounds(
    times: Sequence[float],
    alpha: float = 0.05,
    *,
    sided: int = 2,
    spending: Spending | Callable[[float], float] = "obrien-fleming",
    parameter: float | None = None,
    information: Sequence[float] | None = None,
) -> Bounds:
    """Lan-DeMets bounds at any looks, planned or not.

    Bounds of past looks do not depend on later ones. Two-sided tests spend alpha / 2 on
    each side.

    Args:
        times: Where the spending function is evaluated.
        alpha: Error rate of the whole test.
        sided: 1 or 2.
        spending: A spending function's name, or a function t -> cumulative alpha of the
            whole test.
        parameter: The parameter of a named spending function that has one.
        information: What the looks' correlation follows, in any unit, when it differs
            from `times` (calendar time spends, information correlates).

    Raises:
        ValueError: The times are impossible.
    """
    clock = _times(times)
    inner = _times(times if information is None else [i / max(information) for i in information])
    if len(inner) != len(clock):
        raise ValueError("times and information must have the same length")
    if sided not in (1, 2):
        raise ValueError("sided must be 1 or 2")
    side = alpha / sided
    if callable(spending):
        spent = [spending(t) / sided for t in clock]
    else:
        spent = [spend(side, t, spending, parameter) for t in clock]
    walk = _Walk(0.0)
    z = []
    before = 0.0
    for t, total in zip(inner, spent, strict=True):
        walk.step(t)
        bound = walk.bound(max(total - before, 0.0))
        before = max(total, before)
        z.append(bound / math.sqrt(t))
        walk.stop(bound if sided == 2 else math.inf, bound)
    return Bounds(tuple(clock), tuple(z), tuple(s * sided for s in spent), sided)


def shaped_bounds(
    times: Sequence[float], alpha: float = 0.05, *, sided: int = 2, delta: float = 0.0
) -> Bounds:
    """The classical bounds z(t) = c t^(delta - 1/2).

    delta 0 is O'Brien-Fleming's (1979), 1/2 is Pocock's (1977), others are Wang &
    Tsiatis' (1987). c makes the type I error over exactly these looks alpha.

    >>> [round(z, 3) for z in shaped_bounds([0.2, 0.4, 0.6, 0.8, 1], delta=0.5).z][:1]
    [2.413]
    """
    clock = _times(times)
    shape = np.array([t ** (delta - 0.5) for t in clock])

    def excess(c: float) -> float:
        return exit_probabilities(clock, c * shape, sided=sided)[-1] - alpha

    c = brentq(excess, ndtri(1 - alpha / sided) * 0.2, 40.0, xtol=1e-10)
    z = c * shape
    return Bounds(
        tuple(clock), tuple(map(float, z)), tuple(exit_probabilities(clock, z, sided=sided)), sided
    )


def last_bound(
    times: Sequence[float], z: Sequence[float], alpha: float = 0.05, *, sided: int = 2
) -> float:
    """The bound at the last look that makes the error alpha, given the earlier ones.

    Haybittle 1971 and Peto et al. 1976 use 3 before the end.
    """
    clock = _times(times)
    if len(z) != len(clock) - 1:
        raise ValueError("a bound is needed for every look but the last")
    spent = exit_probabilities(clock[:-1], z, sided=sided)[-1] if z else 0.0
    if spent >= alpha:
        raise ValueError("the earlier bounds already spend all of alpha")
    walk = _Walk(0.0)
    for t, bound in zip(clock, z, strict=False):
        walk.step(t)
        walk.stop(bound * math.sqrt(t) if sided == 2 else math.inf, bound * math.sqrt(t))
    walk.step(clock[-1])
    return walk.bound((alpha - spent) / sided) / math.sqrt(clock[-1])


# Properties of bounds


def exit_probabilities(
    times: Sequence[float], z: Sequence[float] | Floats, *, drift: float = 0.0, sided: int = 2
) -> list[float]:
    """Cumulative probability of having crossed a bound, by look."""
    upper, lower = crossing_probabilities(times, z, drift=drift, sided=sided)
    return [u + w for u, w in zip(upper, lower, strict=True)]


def crossing_probabilities(
    times: Sequence[float], z: Sequence[float] | Floats, *, drift: float = 0.0, sided: int = 2
) -> tuple[list[float], list[float]]:
    """Cumulative probabilities of having crossed the upper and lower bound, by look."""
    walk = _Walk(drift)
    uppers, lowers, up, down = [], [], 0.0, 0.0
    for t, bound in zip(_times(times), z, strict=True):
        walk.step(t)
        b = float(bound) * math.sqrt(t)
        up += walk.above(b)
        down += walk.below(-b) if sided == 2 else 0.0
        walk.stop(b if sided == 2 else math.inf, b)
        uppers.append(up)
        lowers.append(down)
    return uppers, lowers


def drift_for_power(
    times: Sequence[float], z: Sequence[float] | Floats, power: float, *, sided: int = 2
) -> float:
    """The drift for which the bounds are crossed with probability `power`.

    (drift / (z(1-α/2) + z(power)))² is the plan's largest sample over that of a single
    look.
    """
    return float(
        brentq(
            lambda d: exit_probabilities(times, z, drift=d, sided=sided)[-1] - power,
            0.0,
            30.0,
            xtol=1e-10,
        )
    )


def drift_interval(
    times: Sequence[float],
    z: Sequence[float] | Floats,
    value: float,
    confidence: float = 0.95,
    *,
    sided: int = 2,
) -> tuple[float, float]:
    """Interval for the drift, after stopping at the last of `times` with z = `value`.

    By stage-wise ordering: earlier crossings are more extreme than later ones (Tsiatis,
    Rosner & Mehta 1984; Kim & DeMets 1987). Only the bounds of the looks before the
    last are used. Divided by √(the plan's information), the drift is the effect.
    """
    bounds = [*list(z)[: len(times) - 1], value]
    tail = (1 - confidence) / 2

    def upper(drift: float) -> float:
        before, _ = (
            crossing_probabilities(times[:-1], bounds[:-1], drift=drift, sided=sided)
            if len(times) > 1
            else ([0.0], [])
        )
        walk = _Walk(drift)
        for t, bound in zip(_times(times), bounds, strict=True):
            walk.step(t)
            b = bound * math.sqrt(t)
            if t != times[-1]:
                walk.stop(b if sided == 2 else math.inf, b)
        return before[-1] + walk.above(value * math.sqrt(times[-1]))

    reach = 40.0
    low = brentq(lambda d: upper(d) - tail, -reach, reach, xtol=1e-10)
    high = brentq(lambda d: upper(d) - (1 - tail), -reach, reach, xtol=1e-10)
    return float(low), float(high)


def conditional_power(z_now: float, time: float, z_final: float, drift: float) -> float:
    """Probability of ending above z_final, given z_now at information time `time`.

        Φ((B + θ (1 - t) - z_final) / √(1 - t)), B = z_now √t

    Source: Lan & Wittes 1988, Biometrics 44, 579.
    """
    if not 0 < time < 1:
        raise ValueError("conditional power needs 0 < time < 1")
    score = z_now * math.sqrt(time)
    return float(ndtr((score + drift * (1 - time) - z_final) / math.sqrt(1 - time)))


def proportions_drift(control: float, treatment: float, total: int) -> float:
    """Drift of a two-arm test of proportions with `total` units, half in each arm.

    |p1 - p2| / √(2 p̄ (1 - p̄) / (total / 2))
    """
    mean = (control + treatment) / 2
    return abs(control - treatment) / math.sqrt(2 * mean * (1 - mean) / (total / 2))


# The recursion


def quadrature(low: float, high: float, deviation: float) -> tuple[Floats, Floats]:
    """Quadrature nodes and weights on [low, high].

    There are 12 Gauss-Legendre nodes for every 1.5 standard deviations, enough for
    functions no narrower than a normal density of this deviation.
    """
    panels = math.ceil((high - low) / (1.5 * deviation))
    edges = np.linspace(low, high, panels + 1)
    half = (high - low) / panels / 2
    nodes = (edges[:-1, None] + half * (_GAUSS[0] + 1)[None, :]).ravel()
    return nodes, np.tile(half * _GAUSS[1], panels)


class _Walk:
    """Distribution of B over the looks, for walks that have not crossed a bound.

    It is stored before the latest increment, as weighted points: mass[i] at x[i].
    `step` moves to the next look, `stop` removes the walks that cross its bounds.
    """

    def __init__(self, drift: float) -> None:
        self.drift = drift
        self.x, self.mass = np.zeros(1), np.ones(1)
        self.before, self.time = 0.0, 0.0

    def step(self, time: float) -> None:
        self.before, self.time = self.time, time

    def above(self, b: float) -> float:
        """P(not stopped before, B > b now)."""
        return float(self.mass @ ndtr((self._centre() - b) / self._deviation()))

    def below(self, a: float) -> float:
        return float(self.mass @ ndtr((a - self._centre()) / self._deviation()))

    def bound(self, probability: float) -> float:
        """b with above(b) = probability; 9 standard deviations for probability 0."""
        far = self.drift * self.time + _FAR * math.sqrt(self.time)
        near = self.drift * self.time - _FAR * math.sqrt(self.time)
        if probability <= self.above(far):
            return far
        return float(
            brentq(lambda b: self.above(b) - probability, near, far, xtol=1e-12, rtol=1e-14)
        )

    def stop(self, lower: float, upper: float) -> None:
        """Keep the walks with -lower < B < upper."""
        middle, reach = self.drift * self.time, _FAR * math.sqrt(self.time)
        low, high = max(-lower, middle - reach), min(upper, middle + reach)
        if high <= low:
            self.x, self.mass = np.zeros(1), np.zeros(1)
            return
        deviation = self._deviation()
        at, weight = quadrature(low, high, deviation)
        kernel = np.exp(-0.5 * ((at[:, None] - self._centre()[None, :]) / deviation) ** 2)
        self.mass = weight * (kernel @ self.mass) / (deviation * math.sqrt(2 * math.pi))
        self.x = at

    def _centre(self) -> Floats:
        return self.x + self.drift * (self.time - self.before)

    def _deviation(self) -> float:
        return math.sqrt(self.time - self.before)


def _times(times: Sequence[float]) -> list[float]:
    clock = [float(t) for t in times]
    if not clock or clock[0] <= 0 or any(b <= a for a, b in itertools.pairwise(clock)):
        raise ValueError("information times must be above 0 and increase")
    if clock[-1] > 1 + 1e-9:
        raise ValueError("information times must not exceed 1")
    return clock
