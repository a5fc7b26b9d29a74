"""The corpus statistics that BM25 needs, in a Redis hash per collection."""

from collections import Counter
from collections.abc import Iterable, Sequence

from shoal import Stores

from .bm25 import Corpus

KEY = ("{}", "search", "{}")
DOCUMENTS, LENGTH = "#documents", "#length"
"""Two fields beside the terms; no term contains `#`."""
CHUNK = 4_000

ADD = """
for i = 1, #ARGV, 2 do
  if redis.call('HINCRBY', KEYS[1], ARGV[i], ARGV[i + 1]) <= 0 then
    redis.call('HDEL', KEYS[1], ARGV[i])
  end
end
"""
"""Add to counts and drop those that reach 0.

KEYS[1] is the hash; ARGV is term, change, term, change, …
"""


class Statistics:
    """Counts of documents, stems, and documents per term, of one collection.

    They do not change in one transaction with the vectors: a crash in between, or two
    writers of one item at once, shifts a count by one, which hardly moves an inverse
    document frequency. The job `search.reindex` with `fresh` counts again.
    """

    def __init__(self, stores: Stores, collection: str) -> None:
        self._online = stores.online
        self._key = (*KEY, collection)

    async def corpus_for(self, terms: Iterable[str]) -> Corpus:
        """The statistics that these terms need."""
        names = list(dict.fromkeys(terms))
        found = [
            int(value or 0)
            for value in await self._online.hmget(self._key, [DOCUMENTS, LENGTH, *names])
        ]
        return Corpus(max(found[0], 0), max(found[1], 0), dict(zip(names, found[2:], strict=True)))

    async def replace(self, old: Iterable[Sequence[str]], new: Iterable[Sequence[str]]) -> None:
        """Count documents out and in, each given as its stems."""
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
