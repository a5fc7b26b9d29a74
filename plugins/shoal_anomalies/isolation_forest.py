"""A fitted Isolation Forest as plain arrays.

The library that fits a forest offers only pickle to store it, which executes code when
it is read and may fail after an upgrade. Arrays do neither, and scoring them takes no
library but NumPy.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

CHUNK = 200  # rows scored at once: what fits the processor's cache
MAX_DEPTH = 64


@dataclass(frozen=True, slots=True)
class IsolationTrees:
    """The trees of a forest, all in one table of nodes.

    A row starts at each of `roots` (one per tree). At a node it goes to the first of
    its two `children` where its `feature` is at most `threshold`, else to the second;
    both children of a leaf are the leaf itself, so that `depth` steps always end at a
    leaf. `path_length` is the expected number of splits that isolate a row there.

    normalizer: total path length, over all trees, of a row that is neither usual nor
        unusual.
    offset: added to every score, so that 0 is the threshold the forest was fitted with.

    Source: F. T. Liu, K. M. Ting, Z.-H. Zhou, "Isolation Forest", 2008.
    """

    roots: NDArray[np.intp]
    feature: NDArray[np.intp]
    threshold: NDArray[np.float64]
    children: NDArray[np.intp]
    path_length: NDArray[np.float64]
    depth: int
    normalizer: float
    offset: float

    def score(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scores of n rows (n × features): PyOD's `IForest.decision_function`.

        Returns:
            n scores; the greater, the more unusual.
        """
        parts = [self._score_chunk(rows[i : i + CHUNK]) for i in range(0, len(rows), CHUNK)]
        return np.concatenate(parts) if parts else np.zeros(0)

    def _score_chunk(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        values = rows.astype(np.float32).ravel()  # scikit-learn compares single precision
        row_start = np.arange(len(rows)) * rows.shape[1]
        node = np.repeat(self.roots[:, None], len(rows), axis=1)
        for _ in range(self.depth):  # `take` is many times as fast as indexing
            value = values.take(self.feature.take(node) + row_start)
            node = self.children.take(2 * node + (value > self.threshold.take(node)))
        total: NDArray[np.float64] = self.path_length.take(node).sum(axis=0)
        scores: NDArray[np.float64] = 2.0 ** (-total / self.normalizer) + self.offset
        return scores

    @staticmethod
    def from_forest(forest: Any) -> "IsolationTrees":
        """The trees of a fitted `sklearn.ensemble.IsolationForest`."""
        roots, depth, count = [], 0, 0
        columns: dict[str, list[NDArray[Any]]] = {
            name: [] for name in ("feature", "threshold", "children", "path_length")
        }
        for estimator in forest.estimators_:
            tree = estimator.tree_
            own = np.arange(tree.node_count)
            leaf = tree.children_left < 0
            columns["feature"].append(np.where(leaf, 0, tree.feature))
            columns["threshold"].append(np.where(leaf, 0.0, tree.threshold))
            pair = np.column_stack([tree.children_left, tree.children_right])
            columns["children"].append(count + np.where(leaf[:, None], own[:, None], pair).ravel())
            depths = _node_depths(tree.children_left, tree.children_right)
            unsplit = np.array([_mean_path_length(int(n)) for n in tree.n_node_samples])
            columns["path_length"].append(depths + unsplit)
            roots.append(count)
            count += tree.node_count
            depth = max(depth, int(depths.max()))
        normalizer = len(roots) * _mean_path_length(int(forest.max_samples_))
        arrays = {name: np.concatenate(parts) for name, parts in columns.items()}
        return IsolationTrees.from_arrays(
            {
                **arrays,
                "roots": np.array(roots),
                "depth": np.array(depth),
                "normalizer": np.array(normalizer),
                "offset": np.array(forest.offset_),
            }
        )

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """The fields by name; `from_arrays` is the inverse."""
        return {field.name: np.asarray(getattr(self, field.name)) for field in fields(self)}

    @staticmethod
    def from_arrays(arrays: Mapping[str, NDArray[Any]]) -> "IsolationTrees":
        """Trees from the arrays of `to_arrays`.

        Raises:
            KeyError: An array is missing.
            ValueError: The arrays are not those of trees.
        """
        trees = IsolationTrees(
            roots=arrays["roots"].astype(np.intp),
            feature=arrays["feature"].astype(np.intp),
            threshold=arrays["threshold"].astype(np.float64),
            children=arrays["children"].astype(np.intp),
            path_length=arrays["path_length"].astype(np.float64),
            depth=int(arrays["depth"]),
            normalizer=float(arrays["normalizer"]),
            offset=float(arrays["offset"]),
        )
        trees._validate()
        return trees

    def _validate(self) -> None:
        columns = (self.feature, self.threshold, self.path_length, self.children[::2])
        nodes = len(self.feature)
        if any(column.shape != (nodes,) for column in columns) or len(self.children) % 2:
            raise ValueError("the columns of the nodes differ in length")
        for links in (self.roots, self.children):
            if links.ndim != 1 or not len(links) or links.min() < 0 or links.max() >= nodes:
                raise ValueError("a link leads to a node that does not exist")
        if self.feature.min() < 0 or not 0 <= self.depth <= MAX_DEPTH:
            raise ValueError("a feature or the depth is out of range")
        if not np.isfinite(self.path_length).all() or self.path_length.min() < 0:
            raise ValueError("a path length is negative or not finite")
        if not (0 < self.normalizer < math.inf and -1 <= self.offset <= 1):
            raise ValueError("the normalizer or the offset is out of range")


def _node_depths(left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.float64]:
    """Splits above each node; a parent comes before its children."""
    depths = np.zeros(len(left))
    for node in np.flatnonzero(left >= 0):
        depths[left[node]] = depths[right[node]] = depths[node] + 1
    return depths


def _mean_path_length(rows: int) -> float:
    """Mean number of splits that isolate one of n rows (equation 1 of the paper)."""
    if rows <= 2:
        return float(rows == 2)
    return 2.0 * (math.log(rows - 1.0) + np.euler_gamma) - 2.0 * (rows - 1.0) / rows
