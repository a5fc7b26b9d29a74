"""The items that may be the best of a search, chosen within what the asker may see.

Which they are depends neither on how many hits are asked for nor on any item that the
asker may not see: where the store would choose by its own scores, which are made with
statistics of all items, it is asked for all or for the newest.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence, Set
from typing import Any, NamedTuple

import numpy as np

from shoal import AnyOf, Equals, Hit

from .bm25 import TermCounts
from .rows import SHOWN
from .scopes import Scope
from .word_statistics import WordStatistics

MAX_MATCHING = 400
"""Items with rare words of a query that are scored."""
MAX_NEWEST = 200
"""Items as good as each other that are scored, where there are more."""
MAX_TOGETHER = 4
"""Frequent words that items must have together."""
SAME = 1e-5
"""Cosines that differ by less are equal but for rounding."""
MAX_TIED = 8
"""Different texts that are equally near at the last place."""
MAX_NAMED = 20
"""Items with an id or an address of the query."""
FIELDS = (*SHOWN, "passages", "words", "digest", "vectors")


class Candidate(NamedTuple):
    """An item that may be a hit.

    Attributes:
        id: The id of the item.
        row: The fields `FIELDS`.
    """

    id: str
    row: Mapping[str, Any]

    @property
    def words(self) -> str:
        """Its terms, joined by spaces."""
        return self.row["words"] or ""

    @property
    def title(self) -> str:
        """Its title."""
        return self.row["title"] or ""

    @property
    def updated(self) -> int:
        """Milliseconds since 1970."""
        return int(self.row["updated"])

    @property
    def vectors(self) -> np.ndarray:
        """Shape (passages, dimension), each row of length 1."""
        found: np.ndarray = self.row["vectors"]
        return found


async def nearest_items(scope: Scope, vector: Any, limit: int) -> list[Candidate]:
    """The items nearest to a vector; of those equally near, the newest.

    Args:
        scope: Where.
        vector: Shape (dimension,), of length 1.
        limit: How many at most, unless there are more of the same text.
    """
    hits = await scope.stores.vectors.nearest(
        scope.collection, vector, limit=limit + 1, filter=scope.filter, fields=FIELDS
    )
    if len(hits) <= limit or hits[limit].score < hits[limit - 1].score - SAME:
        return [Candidate(hit.id, hit.fields) for hit in hits[:limit]]
    last = hits[limit].score
    nearer = [Candidate(hit.id, hit.fields) for hit in hits if hit.score > last + SAME]
    tied = [hit for hit in hits if hit.score <= last + SAME]
    newest = await _newest_of_same_text(scope, tied, MAX_NEWEST)
    return [*nearer, *newest][: max(limit, MAX_NEWEST)]


async def _newest_of_same_text(scope: Scope, tied: Sequence[Hit], limit: int) -> list[Candidate]:
    """The newest of the items with the texts of these hits."""
    found = {hit.id: Candidate(hit.id, hit.fields) for hit in tied}
    for digest in sorted({hit.fields["digest"] or "" for hit in tied})[:MAX_TIED]:
        for candidate in await _newest(scope, "digest", [digest], limit):
            found[candidate.id] = candidate
    return sorted(found.values(), key=lambda candidate: (-candidate.updated, candidate.id))


async def named_items(scope: Scope, names: Sequence[str]) -> list[Candidate]:
    """The items whose id or address is one of these."""
    if not names:
        return []
    pages = await asyncio.gather(
        *(
            scope.stores.vectors.rows(
                scope.collection,
                limit=MAX_NAMED,
                filter=[*scope.filter, AnyOf(field, names)],
                fields=FIELDS,
            )
            for field in ("id", "url")
            if field == "id" or any("://" in name for name in names)
        )
    )
    return [Candidate(row["id"], row) for page in pages for row in page.rows]


async def matching_items(
    scope: Scope, terms: Set[str], statistics: WordStatistics
) -> tuple[list[Candidate], dict[str, int]]:
    """The items with words of a query, and in how many items of the scope each word is.

    If they are no more than `MAX_MATCHING`, all are found. Else all with its rarest
    words are, as many as there are no more than `MAX_MATCHING` of, and those that have
    the others together, or the newest of them.
    """
    known = statistics.known(scope, terms)
    are_few = max(known.values(), default=0) <= MAX_MATCHING
    if are_few and await scope.count(AnyOf("words", terms)) <= MAX_MATCHING:
        found = await _with(scope, terms)
        counted = _count(found, terms)
        statistics.remember(scope, counted)
        return found, counted
    known |= await statistics.count(scope, terms - known.keys())
    rare, frequent = split_terms(known)
    together, are_few = await _frequent_together(scope, frequent)
    wanted: list[str | tuple[str, ...]] = [*rare, *([together] if are_few else [])]
    newest = [] if are_few or not together else [_newest(scope, "words", together, MAX_NEWEST)]
    pages = await asyncio.gather(_with(scope, wanted), *newest)
    candidates = {candidate.id: candidate for page in pages for candidate in page}
    return list(candidates.values()), known | _count(pages[0], rare)


def _count(candidates: Sequence[Candidate], terms: Collection[str]) -> dict[str, int]:
    """How many candidates have each term."""
    counts = TermCounts.of([candidate.words for candidate in candidates], terms)
    numbers = (counts.counts > 0).sum(axis=0).tolist()
    return {term: numbers[counts.columns[term]] for term in terms}


def split_terms(frequency: Mapping[str, int]) -> tuple[list[str], list[str]]:
    """The rare terms, whose items are all found, and the others, the rarest first."""
    ordered = sorted((count, term) for term, count in frequency.items())
    items, rare = 0, 0
    while rare < len(ordered) and items + ordered[rare][0] <= MAX_MATCHING:
        items += ordered[rare][0]
        rare += 1
    return [term for _, term in ordered[:rare]], [term for _, term in ordered[rare:]]


async def _frequent_together(scope: Scope, terms: Sequence[str]) -> tuple[tuple[str, ...], bool]:
    """The frequent terms that items must have together, and whether those items are so
    few that all are found, not only the newest.
    """
    having = min(len(terms), 1)
    for together in range(2, min(len(terms), MAX_TOGETHER) + 1):
        items = await scope.count(*(Equals("words", term) for term in terms[:together]))
        if 0 < items <= MAX_NEWEST:
            return tuple(terms[:together]), True
        if not items:
            break
        having = together
    return tuple(terms[:having]), False


async def _with(scope: Scope, wanted: Collection[str | tuple[str, ...]]) -> list[Candidate]:
    """The items with any of these terms, or terms together, all of which are few."""
    if not wanted:
        return []
    hits = await scope.stores.vectors.matching(
        scope.collection,
        "words",
        list(wanted),
        limit=MAX_MATCHING + MAX_NEWEST,
        filter=scope.filter,
        fields=FIELDS,
    )
    return [Candidate(hit.id, hit.fields) for hit in hits]


async def _newest(scope: Scope, field: str, values: Sequence[str], limit: int) -> list[Candidate]:
    page = await scope.stores.vectors.rows(
        scope.collection,
        limit=limit,
        sort="updated",
        descending=True,
        filter=[*scope.filter, *(Equals(field, value) for value in values)],
        fields=FIELDS,
    )
    return [Candidate(row["id"], row) for row in page.rows]
