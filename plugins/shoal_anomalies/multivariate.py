"""The multi-dimensional method: combinations of metrics that do not belong together,
and which metrics drove it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .statistical import MAD_TO_SIGMA
from .tail_probability import TailModel

CLIP = 12.0
LEAST_VARIANCE = 0.01  # of a decorrelated direction: less is noise


@dataclass(frozen=True, slots=True)
class Driver:
    """One metric's part in an odd combination: `share` of the excess (all add up to 1),
    and its own robust z.
    """

    metric: str
    share: float
    z: float


class CombinationForest:
    """An Isolation Forest over a tenant's metrics together.

    Fitted on rows of metrics at the same time, seen both as they are and decorrelated,
    since trees cut along the axes and cannot see that two metrics parted. `surprise`
    says how rare a new row is against the fitted ones, in nats, and `drivers` which
    metrics made it so: each in turn is put back to its median, and what the score falls
    by is its share.

    Source: F. T. Liu, K. M. Ting, Z.-H. Zhou, "Isolation Forest", 2008, as implemented
    by PyOD.
    """

    def __init__(self, metrics: Sequence[str], *, trees: int = 100, seed: int = 0) -> None:
        if len(metrics) < 2:
            raise ValueError("a combination takes at least two metrics")
        self.metrics = tuple(metrics)
        self.trees, self.seed = trees, seed
        self._forest: Any = None
        self._centre = self._scale = np.zeros(0)
        self._whitening = np.zeros((0, 0))
        self._tail = TailModel()

    def fit(self, rows: NDArray[np.float64]) -> "CombinationForest":
        """Learn from n rows of one value per metric; rows with a value missing are left
        out. ValueError under 100 whole rows.
        """
        from pyod.models.iforest import IForest

        whole = rows[np.isfinite(rows).all(axis=1)]
        if len(whole) < 100:
            raise ValueError(f"a forest needs 100 whole rows, not {len(whole)}")
        self._centre = np.median(whole, axis=0)
        spread = MAD_TO_SIGMA * np.median(np.abs(whole - self._centre), axis=0)
        deviation = whole.std(axis=0)
        floor = np.maximum(1e-3 * np.abs(self._centre), 1e-9)
        self._scale = np.maximum(np.where(spread > floor, spread, deviation), floor)
        scaled = self._scaled(whole)
        variances, directions = np.linalg.eigh(np.cov(scaled.T))
        self._whitening = directions / np.sqrt(np.maximum(variances, LEAST_VARIANCE))
        self._forest = IForest(
            n_estimators=self.trees,
            max_samples=min(256, len(whole)),
            random_state=self.seed,
            n_jobs=1,
            contamination=0.01,
        ).fit(self._features(scaled))
        self._tail = TailModel()
        for magnitude in self._magnitudes(scaled).tolist():
            self._tail.observe(magnitude)
        return self

    def surprise(self, row: Mapping[str, float]) -> float:
        """Nats by which a row (metric → value) is rarer than the usual; 0 when a metric
        is missing or not finite.
        """
        scaled = self._row(row)
        return 0.0 if scaled is None else self._tail.surprise(float(self._magnitudes(scaled)[0]))

    def surprises(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """`surprise` of n rows at once, in the order of `metrics`; 0 for rows with a
        value missing.
        """
        whole = np.isfinite(rows).all(axis=1)
        found = np.zeros(len(rows))
        if whole.any():
            found[whole] = [
                self._tail.surprise(m) for m in self._magnitudes(self._scaled(rows[whole])).tolist()
            ]
        return found

    def drivers(self, row: Mapping[str, float]) -> list[Driver]:
        """The metrics by their part in the row's oddity, greatest first; none when a
        metric is missing.
        """
        scaled = self._row(row)
        if scaled is None:
            return []
        variants = np.repeat(scaled, len(self.metrics) + 1, axis=0)
        variants[np.arange(1, len(variants)), np.arange(len(self.metrics))] = 0.0
        magnitudes = self._magnitudes(variants)
        falls = np.maximum(magnitudes[0] - magnitudes[1:], 0.0)
        total = falls.sum() or 1.0
        found = [
            Driver(m, float(f / total), float(z))
            for m, f, z in zip(self.metrics, falls, scaled[0], strict=True)
        ]
        return sorted(found, key=lambda driver: -driver.share)

    def _row(self, row: Mapping[str, float]) -> NDArray[np.float64] | None:
        if self._forest is None:
            raise ValueError("the forest is not fitted")
        values = [row.get(metric, math.nan) for metric in self.metrics]
        return self._scaled(np.array([values])) if all(map(math.isfinite, values)) else None

    def _scaled(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.clip((rows - self._centre) / self._scale, -CLIP, CLIP)

    def _features(self, scaled: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.hstack([scaled, scaled @ self._whitening])

    def _magnitudes(self, scaled: NDArray[np.float64]) -> NDArray[np.float64]:
        """The forest's path-length score, times how far out the row is: trees cannot
        tell beyond the range they grew on.
        """
        features = self._features(scaled)
        isolation = np.exp(6.0 * self._forest.decision_function(features))
        return isolation * (1.0 + np.sqrt((features**2).mean(axis=1)))
