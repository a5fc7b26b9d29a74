"""Combines the three parts of a score."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .parameters import SearchParameters

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Scores:
    """Parts in [0, 1], and their weighted sum."""

    semantic: float
    keyword: float
    recency: float
    total: float


def fuse(
    cosine: Sequence[float] | np.ndarray,
    bm25: Sequence[float] | np.ndarray,
    updated: Sequence[int] | np.ndarray,
    *,
    now: int,
    parameters: SearchParameters,
    limit: int | None = None,
) -> list[tuple[int, Scores]]:
    """Score candidates and order them, best first; ties keep the order of the input.

    Args:
        cosine: Shape (n,), in [-1, 1]; negative values count as 0.
        bm25: Shape (n,), ≥ 0; divided by the largest.
        updated: Shape (n,), milliseconds since 1970; a future time counts as now.
        now: Milliseconds since 1970.
        parameters: Weights, and the days after which recency is one half.
        limit: How many to return; None is all.

    Returns:
        (position in the input, scores) of each.
    """
    semantic = np.clip(np.nan_to_num(np.asarray(cosine, float)), 0, 1)
    words = np.maximum(np.nan_to_num(np.asarray(bm25, float)), 0)
    keyword = words / best if words.size and (best := words.max()) > 0 else words
    age = np.maximum(now - np.asarray(updated, float), 0) / DAY_MS
    recency = 0.5 ** (age / parameters.half_life_days)
    total = (
        parameters.semantic_weight * semantic
        + parameters.keyword_weight * keyword
        + parameters.recency_weight * recency
    )
    order = np.argsort(-total, kind="stable")[:limit]
    parts = np.stack([semantic, keyword, recency, total], axis=1)[order].tolist()
    return [(i, Scores(*scores)) for i, scores in zip(order.tolist(), parts, strict=True)]
