"""BM25 of some documents, from statistics of those that the asker may see."""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np


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


def has_term(words: str, term: str) -> bool:
    """Whether a text, as its terms joined by single spaces, has a term."""
    return f" {term} " in f" {words} "


def count_terms(words: str) -> int:
    """How many terms such a text has."""
    return words.count(" ") + 1 if words else 0


@dataclass(frozen=True, slots=True)
class TermCounts:
    """How often terms occur in documents.

    Attributes:
        columns: The column of each term.
        counts: Shape (documents, terms).
        lengths: Of the documents, in terms.
    """

    columns: Mapping[str, int]
    counts: np.ndarray
    lengths: np.ndarray

    @classmethod
    def of(cls, texts: Sequence[str], terms: Iterable[str]) -> "TermCounts":
        """Count terms in texts, each its terms joined by single spaces."""
        columns = {term: column for column, term in enumerate(sorted(terms))}
        counts = np.zeros((len(texts), len(columns)), int)
        # One text of them all, searched by the library: its spaces are doubled, so that
        # each term has its own.
        spaced = [f" {text} ".replace(" ", "  ") for text in texts]
        ends = np.cumsum([len(text) for text in spaced])
        joined = "".join(spaced)
        for term, column in columns.items():
            places = list(_places(joined, f" {term} "))
            found = np.searchsorted(ends, places, side="right")
            counts[:, column] = np.bincount(found, minlength=len(texts))
        return cls(columns, counts, np.array([count_terms(text) for text in texts], float))

    def ordered(self, order: Sequence[int]) -> "TermCounts":
        """The documents in another order, or some of them."""
        return replace(self, counts=self.counts[order], lengths=self.lengths[order])

    def have_all(self, query: Sequence[QueryTerm]) -> np.ndarray:
        """Which documents have a way of everything that is asked for."""
        having = np.ones(len(self.lengths), bool)
        for asked in query:
            having &= self.counts[:, [self.columns[way] for way, _ in asked.ways]].any(axis=1)
        return having

    def rarity(self, terms: Collection[str], corpus: Corpus) -> np.ndarray:
        """The sum of the idf of those of the terms that a document has, for each."""
        rarity = np.zeros(len(self.lengths))
        for term in sorted(terms):
            rarity += corpus.idf(term) * (self.counts[:, self.columns[term]] > 0)
        return rarity


def _places(text: str, part: str) -> Iterator[int]:
    at = text.find(part)
    while at >= 0:
        yield at
        at = text.find(part, at + len(part))


def bm25(
    query: Sequence[QueryTerm],
    found: TermCounts,
    corpus: Corpus,
    *,
    k1: float = 0.9,
    b: float = 0.4,
) -> np.ndarray:
    """Score documents by BM25.

    The score is Σ idf · tf (k1 + 1) / (tf + k1 (1 - b + b · length / mean length)).
    The store's own BM25 only finds candidates: its statistics are those of all rows,
    also of those that the asker may not see.

    Args:
        query: What is asked for.
        found: The documents, with all terms of the query counted.
        corpus: Statistics of what the asker may see.
        k1: Term-frequency saturation.
        b: Length normalization, in [0, 1].

    Returns:
        A score ≥ 0 for each document; 0 without a common term.

    Source: Robertson & Zaragoza, The Probabilistic Relevance Framework: BM25 and Beyond
    (2009).
    """
    norm = k1 * (1 - b + b * found.lengths / max(corpus.mean_length, 1))
    scores = np.zeros(len(found.lengths))
    for asked in query:
        best = np.zeros(len(found.lengths))
        for way, weight in asked.ways:
            tf = found.counts[:, found.columns[way]]
            share = np.divide(tf, tf + norm, out=np.zeros_like(best), where=tf > 0)
            best = np.maximum(best, weight * corpus.idf(way) * (k1 + 1) * share)
        scores += asked.times * best
    return scores
