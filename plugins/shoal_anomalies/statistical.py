"""The statistical method: a robust rolling z-score."""

import math
from collections import deque

import numpy as np
from numpy.typing import ArrayLike, NDArray

MAD_TO_SIGMA = 1.4826


class RollingZScore:
    """How many robust standard deviations a value lies from the median of the `window`
    values before it.

    The centre is the median and the scale the median absolute deviation, so that an
    anomaly neither hides itself nor the next. Where that deviation is (nearly) nothing,
    the mean absolute deviation and then `tolerance` times the magnitude of the centre
    take its place: a constant with an epsilon is not an anomaly, and nothing is divided
    by nothing.

    >>> z = RollingZScore(window=20)
    >>> [z.update(5.0) for _ in range(20)][-1], z.update(5.000001), z.update(50.0) > 3
    (0.0, 0.0002, True)

    Source: B. Iglewicz, D. Hoaglin, "How to Detect and Handle Outliers", 1993.
    """

    def __init__(self, window: int = 60, *, tolerance: float = 1e-3, least: int = 12) -> None:
        if window < 3 or least < 2:
            raise ValueError("a rolling z-score needs a window of at least 3 and at least 2 values")
        self.least = least
        self.tolerance = tolerance
        self._past: deque[float] = deque(maxlen=window)

    def update(self, value: float) -> float:
        """z of the next value, signed; 0 until `least` values are known, and for a
        value that is not finite.
        """
        if not math.isfinite(value):
            return 0.0
        score = 0.0
        if len(self._past) >= self.least:
            centre, scale = self.band()
            score = round((value - centre) / scale, 4)
        self.push(value)
        return score

    def push(self, value: float) -> None:
        """Take a (finite) value in without scoring it."""
        self._past.append(value)

    def band(self) -> tuple[float, float]:
        """Centre and scale of what has been seen, in the series' unit; the scale is
        above 0. Raises ValueError before any.
        """
        if not self._past:
            raise ValueError("no values yet")
        past = np.fromiter(self._past, np.float64, len(self._past))
        centre = float(np.median(past))
        deviations = np.abs(past - centre)
        scale = MAD_TO_SIGMA * float(np.median(deviations))
        floor = max(self.tolerance * abs(centre), 1e-9)
        if scale < floor:
            scale = max(1.2533 * float(deviations.mean()), floor)
        return centre, scale


def z_scores(values: ArrayLike, window: int = 60) -> NDArray[np.float64]:
    """`RollingZScore` over a whole series (1-D): one signed z per value."""
    score = RollingZScore(window)
    return np.array([score.update(v) for v in np.asarray(values, dtype=np.float64).tolist()])
