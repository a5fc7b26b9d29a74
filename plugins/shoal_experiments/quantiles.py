"""Two quantiles compared, of any distribution: with ties, atoms and gaps.

The arms' intervals of order statistics are combined by MOVER (Zou & Donner 2008,
Statistics in Medicine 27, 1693; ratios: Donner & Zou 2012, Statistical Methods in
Medical Research 21, 347), and the p-value is where the combined interval ends at no
effect.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

from .contrast import Effect
from .summaries import REACH, Levels, Quantile, Undefined

_Z = 1.96


@dataclass(frozen=True, slots=True)
class QuantileContrast:
    """Two quantiles, compared by MOVER.

    Attributes:
        control: The control's levels.
        treatment: The treatment's, on the same values.
        scale: Whether the effect is the difference or, minus 1, the ratio.
    """

    control: Levels
    treatment: Levels
    scale: Effect
    method: str = "order statistics"

    @classmethod
    def of(cls, control: Quantile, treatment: Quantile, scale: Effect) -> QuantileContrast:
        """Compare both arms on the values of either.

        Otherwise the quantile of an arm that lies between two values would depend on
        where the next value happens to be in that arm.

        Raises:
            Undefined: The units do not differ around the quantile, or the effect is
                relative to a quantile that is not above zero.
        """
        grid = np.union1d(control.values, treatment.values)
        arms = Levels.of(control, grid), Levels.of(treatment, grid)
        if all(low == high for low, _, high in (arm.interval(_Z) for arm in arms)):
            raise Undefined(
                f"neither arm varies around its {control.q:g}-quantile: units there have the "
                "same value, so no test is possible"
            )
        if scale == "relative" and arms[0].interval(0.0)[1] <= 0:
            raise Undefined(
                "the relative effect is undefined: the control's value is not above zero"
            )
        return cls(*arms, scale)

    @property
    def effect(self) -> float:
        control, treatment = self.control.interval(0.0)[1], self.treatment.interval(0.0)[1]
        return treatment - control if self.scale == "absolute" else treatment / control - 1

    @property
    def statistic(self) -> float:
        return self._z(0.0)

    def _z(self, effect: float) -> float:
        """The critical value at which the interval of the effect ends at `effect`."""
        factor = 1.0 if self.scale == "absolute" else 1 + effect
        shift = effect if self.scale == "absolute" else 0.0

        def beyond(critical: float) -> float:
            """How far `treatment - factor · control - shift` is beyond its interval."""
            low, control, high = self.control.interval(critical)
            first, treatment, last = self.treatment.interval(critical)
            distance = treatment - factor * control - shift
            if distance > 0:
                return distance - math.hypot(treatment - first, factor * (high - control))
            return -distance - math.hypot(last - treatment, factor * (control - low))

        control, treatment = self.control.interval(0.0)[1], self.treatment.interval(0.0)[1]
        distance = treatment - factor * control - shift
        if distance == 0:
            return 0.0
        far = beyond(REACH) < 0
        z = float(brentq(lambda c: max(beyond(c), -1e300), 0.0, REACH)) if far else REACH
        return math.copysign(z, distance)

    def tail(self, effect: float, *, above: bool) -> float:
        """One-sided p-value of data at least as far above (below) this effect."""
        z = self._z(effect)
        return float(ndtr(-z if above else z))

    def bounds(self, tail: float) -> tuple[float, float] | None:
        """The effects between those whose one-sided p-values are `tail`."""
        critical = -float(ndtri(tail))
        low, control, high = self.control.interval(critical)
        first, treatment, last = self.treatment.interval(critical)
        if self.scale == "absolute":
            difference = treatment - control
            return (
                difference - math.hypot(treatment - first, high - control),
                difference + math.hypot(last - treatment, control - low),
            )
        if not all(map(math.isfinite, (low, high, first, last))) or low <= 0:
            return None
        product = control * treatment
        above = control**2 - (high - control) ** 2
        below = control**2 - (control - low) ** 2
        up = treatment**2 - (last - treatment) ** 2
        down = treatment**2 - (treatment - first) ** 2
        root = math.sqrt(max(product**2 - above * down, 0.0))
        lower = down / (product + root) if product > 0 else (product - root) / above
        upper = (product + math.sqrt(max(product**2 - below * up, 0.0))) / below
        return lower - 1, upper - 1
