"""In how many items words occur, counted where the asker may see them."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Collection, Mapping

from shoal import Equals

from .rare_words import MAX_CODE
from .scopes import Scope

REMEMBERED_SECONDS = 60.0
MAX_REMEMBERED = 100_000
SAMPLE = 200
"""Items whose mean length is taken for that of all."""
MEAN = " "
"""What the mean length is remembered as; no term has a space."""


class WordStatistics:
    """Remembers counts of terms within scopes, for a minute.

    Only what more items have than can make a word rare is remembered: whether a word
    is in one item or in two decides what is first, in a hundred or in two it does not.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[bytes, str], tuple[float, float]] = OrderedDict()

    def known(self, scope: Scope, terms: Collection[str]) -> dict[str, int]:
        """The remembered counts."""
        found = ((term, self._recall(scope, term)) for term in terms)
        return {term: int(count) for term, count in found if count is not None}

    async def count(self, scope: Scope, terms: Collection[str]) -> dict[str, int]:
        """Count the items with each term."""
        counts = await asyncio.gather(*(scope.count(Equals("words", term)) for term in terms))
        found = dict(zip(terms, counts, strict=True))
        self.remember(scope, found)
        return found

    def remember(self, scope: Scope, counts: Mapping[str, int]) -> None:
        """Remember the counts of terms that are not rare."""
        for term, count in counts.items():
            if count > MAX_CODE:
                self._store(scope, term, count)

    async def mean_length(self, scope: Scope) -> float:
        """The mean length of the items, in terms: of the first ones by id."""
        if (known := self._recall(scope, MEAN)) is not None:
            return known
        page = await scope.stores.vectors.rows(
            scope.collection, limit=SAMPLE, filter=scope.filter, fields=["words"]
        )
        mean: float = sum(row["words"].count(" ") + 1 for row in page.rows) / max(len(page.rows), 1)
        if len(page.rows) == SAMPLE:
            self._store(scope, MEAN, mean)
        return mean

    def _recall(self, scope: Scope, name: str) -> float | None:
        until, value = self._known.get((scope.key, name), (0.0, 0.0))
        return value if until > time.monotonic() else None

    def _store(self, scope: Scope, name: str, value: float) -> None:
        self._known[scope.key, name] = (time.monotonic() + REMEMBERED_SECONDS, value)
        self._known.move_to_end((scope.key, name))
        if len(self._known) > MAX_REMEMBERED:
            self._known.popitem(last=False)
