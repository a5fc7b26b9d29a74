"""The multivariate method: unusual combinations of metrics, and which metrics drive
them.
"""

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .isolation_forest import IsolationTrees
from .points import Kind
from .statistical import MAD_TO_SIGMA
from .tail_probability import TailModel

FORMAT = 1  # version of the stored form; raise it when the arrays or their meaning change
CLIP = 12.0  # scaled values
MIN_ROWS = 100
MIN_VARIANCE = 0.01  # of a decorrelated direction: less is noise


@dataclass(frozen=True, slots=True)
class Driver:
    """One metric's part in an unusual combination.

    share: of the excess score; the shares of all metrics add up to 1.
    z: its robust z-score.
    """

    metric: str
    share: float
    z: float


def column_name(metric: str, kind: Kind) -> str:
    """What a series is called among those with the same labels."""
    return metric if kind == "gauge" else f"rate({metric})"


class CombinationForest:
    """An Isolation Forest over metrics of the same time.

    Rows are seen both as they are and decorrelated, since trees split along the axes
    and cannot see that two metrics diverge. The score of a row is turned into its
    surprisal against the rows of the fit.

    Args:
        metrics: At least two metrics, the columns of the rows.
        trees: The number of trees.
        seed: The seed of the fit.

    Raises:
        ValueError: There are fewer than two metrics.

    Source: F. T. Liu, K. M. Ting, Z.-H. Zhou, "Isolation Forest", 2008; fitted by PyOD.
    """

    def __init__(self, metrics: Sequence[str], *, trees: int = 100, seed: int = 0) -> None:
        if len(metrics) < 2:
            raise ValueError("a combination needs at least two metrics")
        self.metrics = tuple(metrics)
        self.tree_count, self.seed = trees, seed
        self.trees: IsolationTrees | None = None
        self._centre = self._scale = np.zeros(0)
        self._whitening = np.zeros((0, 0))
        self._tail = TailModel()

    def fit(self, rows: NDArray[np.float64]) -> "CombinationForest":
        """Fit the forest.

        Args:
            rows: n × metrics; rows with a missing value are left out.

        Returns:
            The forest itself.

        Raises:
            ValueError: There are fewer than 100 complete rows.
        """
        from pyod.models.iforest import IForest

        complete = rows[np.isfinite(rows).all(axis=1)]
        if len(complete) < MIN_ROWS:
            raise ValueError(f"a forest needs {MIN_ROWS} complete rows, not {len(complete)}")
        self._centre = np.median(complete, axis=0)
        spread = MAD_TO_SIGMA * np.median(np.abs(complete - self._centre), axis=0)
        deviation = complete.std(axis=0)
        floor = np.maximum(1e-3 * np.abs(self._centre), 1e-9)
        self._scale = np.maximum(np.where(spread > floor, spread, deviation), floor)
        scaled = self._scaled(complete)
        variances, directions = np.linalg.eigh(np.cov(scaled.T))
        self._whitening = directions / np.sqrt(np.maximum(variances, MIN_VARIANCE))
        forest = IForest(
            n_estimators=self.tree_count,
            max_samples=min(256, len(complete)),
            random_state=self.seed,
            n_jobs=1,
            contamination=0.01,
        ).fit(self._features(scaled))
        self.trees = IsolationTrees.from_forest(forest.detector_)
        self._tail = TailModel()
        for magnitude in self._magnitudes(scaled).tolist():
            self._tail.observe(magnitude)
        return self

    def surprisals(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Surprisals of n rows (n × metrics), in nats; 0 where a value is missing."""
        complete = np.isfinite(rows).all(axis=1)
        found = np.zeros(len(rows))
        if complete.any():
            magnitudes = self._magnitudes(self._scaled(rows[complete]))
            found[complete] = [self._tail.surprisal(m) for m in magnitudes.tolist()]
        return found

    def drivers(self, row: Mapping[str, float]) -> list[Driver]:
        """The metrics by their share in the score of a row, largest first.

        Each in turn is replaced by its median; its share is what the score falls by.

        Args:
            row: Values by metric; with one missing, there are no drivers.
        """
        values = [row.get(metric, math.nan) for metric in self.metrics]
        if not all(map(math.isfinite, values)):
            return []
        scaled = self._scaled(np.array([values]))
        variants = np.repeat(scaled, len(self.metrics) + 1, axis=0)
        variants[np.arange(1, len(variants)), np.arange(len(self.metrics))] = 0.0
        magnitudes = self._magnitudes(variants)
        falls = np.maximum(magnitudes[0] - magnitudes[1:], 0.0)
        total = falls.sum() or 1.0
        found = [
            Driver(metric, float(fall / total), float(z))
            for metric, fall, z in zip(self.metrics, falls, scaled[0], strict=True)
        ]
        return sorted(found, key=lambda driver: -driver.share)

    def _scaled(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.clip((rows - self._centre) / self._scale, -CLIP, CLIP)

    def _features(self, scaled: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.hstack([scaled, scaled @ self._whitening])

    def _magnitudes(self, scaled: NDArray[np.float64]) -> NDArray[np.float64]:
        """The score of the trees, times the distance of the row from the centre.

        Trees cannot tell apart rows beyond the range of the fit.
        """
        if self.trees is None:
            raise ValueError("the forest is not fitted")
        features = self._features(scaled)
        isolation = np.exp(6.0 * self.trees.score(features))
        magnitudes: NDArray[np.float64] = isolation * (1.0 + np.sqrt((features**2).mean(axis=1)))
        return magnitudes

    def to_bytes(self) -> bytes:
        """The fitted forest as a compressed NumPy archive without pickled objects."""
        if self.trees is None:
            raise ValueError("the forest is not fitted")
        arrays: dict[str, Any] = {
            "version": FORMAT,
            "metrics": np.array(self.metrics),
            "centre": self._centre,
            "scale": self._scale,
            "whitening": self._whitening,
            "tail_counts": self._tail.counts,
            "tail_pointer": self._tail.pointer,
            **self.trees.to_arrays(),
        }
        file = io.BytesIO()
        np.savez_compressed(file, **arrays)
        return file.getvalue()

    @staticmethod
    def from_bytes(stored: bytes) -> "CombinationForest":
        """The forest that `to_bytes` wrote.

        Raises:
            ValueError: The bytes are damaged, of another version, or no forest.
        """
        try:
            with np.load(io.BytesIO(stored), allow_pickle=False) as archive:
                arrays = dict(archive)
            if int(arrays["version"]) != FORMAT:
                raise ValueError(f"version {arrays['version']}, not {FORMAT}")
            forest = CombinationForest([str(metric) for metric in arrays["metrics"]])
            forest.trees = IsolationTrees.from_arrays(arrays)
            forest._centre, forest._scale = arrays["centre"], arrays["scale"]
            forest._whitening = arrays["whitening"]
            forest._tail = TailModel.from_counts(arrays["tail_counts"], int(arrays["tail_pointer"]))
        except ValueError:
            raise
        except Exception as error:  # damaged archives fail in the ways of zip, zlib and struct
            raise ValueError(f"not a stored forest: {type(error).__name__}: {error}") from error
        forest._validate(forest.trees)
        return forest

    def _validate(self, trees: IsolationTrees) -> None:
        count = len(self.metrics)
        shapes = self._centre.shape, self._scale.shape, self._whitening.shape
        if shapes != ((count,), (count,), (count, count)) or trees.feature.max() >= 2 * count:
            raise ValueError(f"the arrays are not those of {count} metrics")
        scaling = np.concatenate([self._centre, self._scale, self._whitening.ravel()])
        if scaling.dtype != np.float64 or not np.isfinite(scaling).all() or self._scale.min() <= 0:
            raise ValueError("the scaling is not finite and positive")
        if np.abs(self._whitening).max() > 1.01 / math.sqrt(MIN_VARIANCE):
            raise ValueError("the whitening is out of range")
