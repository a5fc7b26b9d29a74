"""BM25 of some documents, from the statistics of the whole corpus."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Corpus:
    """What BM25 must know of all documents: how many, how long in sum (stems), and in
    how many of them a term occurs.
    """

    documents: int
    length: int
    frequency: Mapping[str, int]

    def idf(self, term: str) -> float:
        """log((N - df + 0.5) / (df + 0.5) + 1): Lucene's, positive for every df."""
        df = min(max(self.frequency.get(term, 0), 0), self.documents)
        return math.log((self.documents - df + 0.5) / (df + 0.5) + 1)


def bm25(
    query: Sequence[str],
    documents: Iterable[Sequence[str]],
    corpus: Corpus,
    *,
    k1: float = 0.9,
    b: float = 0.4,
) -> list[float]:
    """Of each document (its stems): Σ over the query's terms of idf · tf (k1 + 1) / (tf
    + k1 (1 - b + b · length / mean length)); ≥ 0, and 0 without a common term.

    Source: Robertson & Zaragoza, The Probabilistic Relevance Framework: BM25 and Beyond
    (2009). Milvus' own score only finds candidates. The score that counts is computed
    here, so that it is the same whichever search found the item, for its segment
    (Milvus may know the statistics of each segment alone) and for k1 and b that a
    request may vary.
    """
    mean = max(corpus.length, 1) / max(corpus.documents, 1)
    weights = [
        (term, times * corpus.idf(term) * (k1 + 1)) for term, times in Counter(query).items()
    ]
    scores = []
    for document in documents:
        norm = k1 * (1 - b + b * len(document) / mean)
        found = ((weight, document.count(term)) for term, weight in weights)
        scores.append(sum(weight * tf / (tf + norm) for weight, tf in found if tf))
    return scores
