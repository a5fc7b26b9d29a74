"""Combines the parts of a score, and orders what was found."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .parameters import SearchParameters

DAY_MS = 86_400_000
DIGITS = 5
"""Decimals of a part that count: what differs by less is ordered by time."""
LIFTED = 2
"""The places that items are lifted to."""
WHOLE = 200.0
"""How much of a query names an item that it is the whole name of."""


class Scores(NamedTuple):
    """Parts in [0, 1], and their weighted sum.

    Attributes:
        lift: What was added because the query names the item, so that it is first or
            second; 0 of other items.
    """

    semantic: float
    keyword: float
    recency: float
    total: float
    lift: float = 0.0


Ranked = list[tuple[int, Scores]]
"""Positions in the input with their scores, best first."""


def fuse(
    cosine: Sequence[float] | np.ndarray,
    bm25: Sequence[float] | np.ndarray,
    updated: Sequence[int] | np.ndarray,
    ids: Sequence[str],
    *,
    now: int,
    parameters: SearchParameters,
    best: float | None = None,
) -> Ranked:
    """Score candidates and order them: best first, of equals the newest, then by id.

    Args:
        cosine: Shape (n,), in [-1, 1]; negative values count as 0.
        bm25: Shape (n,), ≥ 0; divided by the largest.
        updated: Shape (n,), milliseconds since 1970; a future time counts as now.
        ids: Of the candidates.
        now: Milliseconds since 1970.
        parameters: Weights, and the days after which recency is one half.
        best: What `bm25` is divided by instead.

    Returns:
        (position in the input, scores) of each.
    """
    semantic = np.clip(np.nan_to_num(np.asarray(cosine, float)), 0, 1).round(DIGITS)
    words = np.maximum(np.nan_to_num(np.asarray(bm25, float)), 0)
    if best is None:
        best = float(words.max(initial=0))
    keyword = np.minimum(words / best if best > 0 else words, 1).round(DIGITS)
    times = np.asarray(updated, float)
    recency = 0.5 ** (np.maximum(now - times, 0) / DAY_MS / parameters.half_life_days)
    total = (
        parameters.semantic_weight * semantic
        + parameters.keyword_weight * keyword
        + parameters.recency_weight * recency
    ).round(DIGITS + 1)
    order = np.lexsort((np.asarray(ids, object), -times, -total)).tolist()
    parts = np.stack([semantic, keyword, recency, total], axis=1).tolist()
    return [(i, Scores._make((*parts[i], 0.0))) for i in order]


def lift(scores: Sequence[Scores], named: Sequence[float], rare: Sequence[float]) -> Ranked:
    """Bring items that a query names to the first two places.

    By its score, an item that shares one code with a long mail is behind those that
    share its subject.

    Args:
        scores: Of the items, best first.
        named: How much of the query names each item: its id, its title, its codes; 0
            of other items. The two with the most become first and second, in the order
            of their scores, but before others that which the query is the name of.
        rare: How rare the words are that hardly another item has in common with the
            query. The item with the rarest becomes second, where that place is free.

    Returns:
        (place in the input, scores) of each. A lifted item's score is that of the item
        before which it now stands.
    """
    lifted = list(enumerate(scores))
    first = _most(named)[:LIFTED]
    for target, place in enumerate(sorted(first, key=lambda at: (-(named[at] // WHOLE), at))):
        _move(lifted, place, target)
    if len(first) < LIFTED and (others := _most(rare)):
        _move(lifted, others[0], LIFTED - 1)
    return lifted


def _most(weights: Sequence[float]) -> list[int]:
    """The places with a weight, the greatest first."""
    found = (place for place, weight in enumerate(weights) if weight > 0)
    return sorted(found, key=lambda place: (-weights[place], place))


def _move(ranked: Ranked, place: int, target: int) -> None:
    """Move an item forward to another place, where it is behind it."""
    at = next(at for at, (other, _) in enumerate(ranked) if other == place)
    if at > target:
        _, scores = ranked.pop(at)
        total = ranked[target][1].total
        added = round(total - scores.total, DIGITS + 1)
        ranked.insert(target, (place, scores._replace(total=total, lift=added)))
