"""Orders the first hits anew by a model that reads query and text together."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import numpy as np

from .rows import passage_range
from .searcher import Found, Ranking

RERANKED = 50
"""Hits that are put in another order; the others follow as they were."""

Compare = Callable[[tuple[str, Sequence[str]]], Awaitable[np.ndarray]]
"""A query and n texts to float32 of shape (n,): how well each answers it."""


async def rerank(ranking: Ranking, text: str, compare: Compare) -> Ranking:
    """The ranking with its first items in a cross-encoder's order.

    Items that the query names stay where they are. The scores stay with the places, so
    that they fall from hit to hit.

    Args:
        ranking: What was found.
        text: The query.
        compare: Compares it with texts.
    """
    places = [i for i, f in enumerate(ranking.found[:RERANKED]) if not f.scores.lift]
    if not places:
        return ranking
    found = list(ranking.found)
    values = await compare((text, [_passage(found[place]) for place in places]))
    order = sorted(range(len(places)), key=lambda i: -float(values[i]))
    totals = sorted((found[place].scores.total for place in places), reverse=True)
    for place, total, i in zip(places, totals, order, strict=True):
        moved = ranking.found[places[i]]
        scores = moved.scores._replace(total=total)
        found[place] = moved._replace(scores=scores, relevance=float(values[i]))
    return replace(ranking, found=found)


def _passage(found: Found) -> str:
    """The title of an item, and the passage by which it was found."""
    row = found.candidate.row
    start, end = passage_range(row, found.passage)
    return "\n".join(filter(None, (row["title"], row["body"][start:end])))
