"""The corpus statistics that BM25 needs, kept for each tenant in one Redis hash."""

from collections import Counter
from collections.abc import Iterable, Sequence

from shoal import Stores

from .bm25 import Corpus

KEY = ("{}", "search", "{}")
DOCUMENTS, LENGTH = "#documents", "#length"
"""Two fields beside the terms; no term has a `#`."""
CHUNK = 4_000

ADD = """
for i = 1, #ARGV, 2 do
  if redis.call('HINCRBY', KEYS[1], ARGV[i], ARGV[i + 1]) <= 0 then redis.call('HDEL', KEYS[1], ARGV[i]) end
end
"""


class Statistics:
    """How many documents there are, how long they are, and in how many each term
    occurs, of one collection.

    They are not changed in one transaction with the vectors: a crash between the two,
    or two writers of one item at once, shifts a count by one, which an inverse document
    frequency hardly feels; `search.reindex` with `fresh` counts anew.
    """

    def __init__(self, stores: Stores, collection: str) -> None:
        self._online = stores.online
        self._key = (*KEY, collection)

    async def of(self, terms: Iterable[str]) -> Corpus:
        """The corpus as far as these terms need it."""
        names = list(dict.fromkeys(terms))
        found = [
            int(value or 0)
            for value in await self._online.hmget(self._key, [DOCUMENTS, LENGTH, *names])
        ]
        return Corpus(max(found[0], 0), max(found[1], 0), dict(zip(names, found[2:], strict=True)))

    async def replace(self, old: Iterable[Sequence[str]], new: Iterable[Sequence[str]]) -> None:
        """Documents (as their stems) that went, and that came."""
        change: Counter[str] = Counter()
        for documents, sign in ((old, -1), (new, 1)):
            for stems in documents:
                change[DOCUMENTS] += sign
                change[LENGTH] += sign * len(stems)
                for term in set(stems):
                    change[term] += sign
        pairs = [part for term, by in change.items() if by for part in (term, by)]
        for start in range(0, len(pairs), CHUNK):
            await self._online.eval(ADD, [self._key], pairs[start : start + CHUNK])

    async def clear(self) -> None:
        await self._online.delete(self._key)
