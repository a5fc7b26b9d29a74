"""BM25 of some documents, from statistics of those that the asker may see."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class QueryTerm:
    """Something that a query asks for.

    Attributes:
        ways: The terms that stand for it, each with its weight in (0, 1]: 1 as typed,
            less where it was corrected or completed. In a document the best one counts.
        times: How often the query has it.
    """

    ways: tuple[tuple[str, float], ...]
    times: int = 1


@dataclass(frozen=True, slots=True)
class Corpus:
    """What BM25 needs to know of all documents.

    Attributes:
        documents: How many there are.
        mean_length: The mean of their lengths, in terms.
        frequency: In how many of them a term occurs.
    """

    documents: int
    mean_length: float
    frequency: Mapping[str, int]

    def idf(self, term: str) -> float:
        """log((N - df + 0.5) / (df + 0.5) + 1), as in Lucene: positive for every df."""
        df = min(max(self.frequency.get(term, 0), 0), self.documents)
        return math.log((self.documents - df + 0.5) / (df + 0.5) + 1)


class Document:
    """A text as its terms, joined by single spaces."""

    __slots__ = ("_terms", "length")

    def __init__(self, terms: str) -> None:
        # Doubled spaces, so that a term's spaces are its own, and counting is the
        # library's: texts have up to 10,000 terms.
        self._terms = f" {terms.replace(' ', '  ')} "
        self.length = terms.count(" ") + 1 if terms else 0

    def count(self, term: str) -> int:
        """How often a term occurs."""
        return self._terms.count(f" {term} ")


def bm25(
    query: Sequence[QueryTerm],
    documents: Iterable[Document],
    corpus: Corpus,
    *,
    k1: float = 0.9,
    b: float = 0.4,
) -> list[float]:
    """Score documents by BM25.

    The score is Σ idf · tf (k1 + 1) / (tf + k1 (1 - b + b · length / mean length)).
    The store's own BM25 only finds candidates: its statistics are those of all rows,
    also of those that the asker may not see.

    Args:
        query: What is asked for.
        documents: The documents.
        corpus: Statistics of what the asker may see.
        k1: Term-frequency saturation.
        b: Length normalization, in [0, 1].

    Returns:
        A score ≥ 0 for each document; 0 without a common term.

    Source: Robertson & Zaragoza, The Probabilistic Relevance Framework: BM25 and Beyond
    (2009).
    """
    mean = max(corpus.mean_length, 1)
    weighted = [
        [(way, asked.times * weight * corpus.idf(way) * (k1 + 1)) for way, weight in asked.ways]
        for asked in query
    ]
    scores = []
    for document in documents:
        norm = k1 * (1 - b + b * document.length / mean)
        score = 0.0
        for ways in weighted:
            best = 0.0
            for way, weight in ways:
                if tf := document.count(way):
                    best = max(best, weight * tf / (tf + norm))
            score += best
        scores.append(score)
    return scores
