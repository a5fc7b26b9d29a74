"""The statistical method: a robust rolling z-score."""

import math
from collections import deque

import numpy as np
from numpy.typing import ArrayLike, NDArray

MAD_TO_SIGMA = 1.4826


class RollingZScore:
    """Robust z-score of each value against the values before it.

    The centre is the median and the scale the median absolute deviation, so that an
    anomaly masks neither itself nor the next. Where that deviation is (nearly) 0, the
    mean absolute deviation takes its place, at least `tolerance` times the magnitude of
    the centre: rounding noise on a constant is not an anomaly.

    Args:
        window: The number of values to compare with, at least 3.
        tolerance: Differences below this share of the centre are noise.
        min_values: Values required before any score, at least 2.

    Raises:
        ValueError: The window or `min_values` is too small.

    >>> z = RollingZScore(window=20)
    >>> [z.update(5.0) for _ in range(20)][-1], z.update(5.000001), z.update(50.0) > 3
    (0.0, 0.0002, True)

    Source: B. Iglewicz, D. Hoaglin, "How to Detect and Handle Outliers", 1993.
    """

    def __init__(self, window: int = 60, *, tolerance: float = 1e-3, min_values: int = 12) -> None:
        if window < 3 or min_values < 2:
            raise ValueError("a rolling z-score needs a window of at least 3 and at least 2 values")
        self.min_values = min_values
        self.tolerance = tolerance
        self._past: deque[float] = deque(maxlen=window)

    def update(self, value: float) -> float:
        """Add the next value and return its signed z-score.

        It is 0 until `min_values` values are known, and for a value that is not finite.
        """
        if not math.isfinite(value):
            return 0.0
        score = 0.0
        if len(self._past) >= self.min_values:
            centre, scale = self.band()
            score = round((value - centre) / scale, 4)
        self.push(value)
        return score

    def push(self, value: float) -> None:
        """Add a finite value without scoring it."""
        self._past.append(value)

    def band(self) -> tuple[float, float]:
        """Centre and scale (above 0) of the window, in the series' unit.

        Raises:
            ValueError: There are no values yet.
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
    """Signed z-scores of n values by `RollingZScore`."""
    score = RollingZScore(window)
    return np.array([score.update(v) for v in np.asarray(values, dtype=np.float64).tolist()])
