"""The three parts of a score, and the order they give."""

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
    """Candidates (the first `limit` of them), best first, as (position in the input,
    scores).

    `cosine`: in [-1, 1], shape (n,); an opposite meaning is no better than none, so
    below 0 is 0. `bm25`: ≥ 0, shape (n,); divided by the greatest. `updated`, `now`:
    milliseconds since 1970; an age halves recency every `half_life_days`; the future is
    now. Of equal totals the one first in the input is first.
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
