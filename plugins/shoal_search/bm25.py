"""BM25 of some documents, from the statistics of the whole corpus."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Corpus:
    """What BM25 needs to know of all documents.

    Attributes:
        documents: How many there are.
        length: The sum of their lengths, in stems.
        frequency: In how many of them a term occurs.
    """

    documents: int
    length: int
    frequency: Mapping[str, int]

    def idf(self, term: str) -> float:
        """log((N - df + 0.5) / (df + 0.5) + 1), as in Lucene: positive for every df."""
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
    """Score documents by BM25.

    The score is Σ idf · tf (k1 + 1) / (tf + k1 (1 - b + b · length / mean length)).
    The vector store's own BM25 only finds candidates. It may use the statistics of one
    segment and fixed k1 and b, so the score that counts is computed here.

    Args:
        query: The stems of the query; a repeated stem counts as often.
        documents: The stems of each document.
        corpus: Statistics of all documents.
        k1: Term-frequency saturation.
        b: Length normalization, in [0, 1].

    Returns:
        A score ≥ 0 for each document; 0 without a common term.

    Source: Robertson & Zaragoza, The Probabilistic Relevance Framework: BM25 and Beyond
    (2009).
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
