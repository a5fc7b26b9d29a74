"""Finds and orders the items that a query is about."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from .analyzer import Analyzer
from .bm25 import Corpus, QueryTerm, TermCounts, bm25
from .candidates import Candidate, matching_items, named_items, nearest_items
from .corrections import CERTAINTY, Correction, find_corrections
from .fusion import WHOLE, Scores, fuse, lift
from .parameters import SearchParameters
from .query_text import QueryText, TypedWord, replace_words, typed_words
from .rare_words import is_short, rare_terms
from .scopes import Scope
from .word_statistics import WordStatistics

MAX_TERMS = 128
"""Terms of a query that count, those with digits and the longest first."""
MAX_RANKED = 200
"""Items that are ranked; the others follow in the order of their ids."""
BY_NAME, BY_TITLE = 1_000.0, 100.0
"""How much a query names an item whose id, address or title it has, `WHOLE` where the
title is the query; a code less.
"""
TITLE_SHARE = 0.75
"""Of a title's different terms, those that a query must have to name the item."""

Encode = Callable[[str, str], Awaitable[np.ndarray]]
"""(tenant, text) to float32 of shape (dimension,), of length 1."""


class Found(NamedTuple):
    """An item that was found.

    Attributes:
        candidate: The item.
        scores: The parts of its score.
        passage: Which of its passages is nearest by meaning, from 0; None without any.
        relevance: What a reranker says of it; None where none was asked.
    """

    candidate: Candidate
    scores: Scores
    passage: int | None
    relevance: float | None = None

    def scored(self, scores: Scores) -> "Found":
        """The same item with other scores."""
        return self if scores is self.scores else self._replace(scores=scores)


@dataclass(frozen=True, slots=True)
class Question:
    """A query with what is needed to score items.

    Attributes:
        vector: Shape (dimension,), of length 1; None where nothing is asked for.
        terms: What is asked for.
        corpus: Statistics of the items that the asker may see.
        corrections: The words that were corrected or completed.
        parameters: Weights.
        now: Milliseconds since 1970, for recency.
    """

    vector: np.ndarray = field(repr=False)
    terms: tuple[QueryTerm, ...]
    corpus: Corpus = field(repr=False)
    corrections: tuple[Correction, ...]
    parameters: SearchParameters
    now: int

    @property
    def ways(self) -> frozenset[str]:
        """The terms that stand for what is asked for."""
        return frozenset(way for term in self.terms for way, _ in term.ways)

    def score(self, candidates: Sequence[Candidate], best: float | None = None) -> "Ranking":
        """Score items in all parts, best first; `best` is the BM25 that counts as 1, by
        default theirs.
        """
        cosines, passages = _similarity(candidates, self.vector)
        counts = TermCounts.of([candidate.words for candidate in candidates], self.ways)
        k1, b = self.parameters.bm25_k1, self.parameters.bm25_b
        words = bm25(self.terms, counts, self.corpus, k1=k1, b=b)
        best = float(words.max(initial=0)) if best is None else best
        ranked = fuse(
            cosines,
            words,
            [candidate.updated for candidate in candidates],
            [candidate.id for candidate in candidates],
            now=self.now,
            parameters=self.parameters,
            best=best,
        )
        found = [Found(candidates[i], scores, passages[i]) for i, scores in ranked]
        return Ranking(self, found, best, counts.ordered([i for i, _ in ranked]))


@dataclass(frozen=True, slots=True)
class Ranking:
    """What a search found.

    Attributes:
        question: What was asked for.
        found: The items, best first.
        best: The BM25 that counts as 1.
        counts: The terms of each item as `score` ordered them.
    """

    question: Question
    found: list[Found]
    best: float
    counts: TermCounts = field(repr=False)


class Searcher:
    """Ranks the items of a scope.

    Args:
        analyzer: Finds words.
        encode: Makes vectors of queries.
    """

    def __init__(self, analyzer: Analyzer, encode: Encode) -> None:
        self._analyzer, self._encode = analyzer, encode
        self._statistics = WordStatistics()

    async def rank(
        self, scope: Scope, query: QueryText, parameters: SearchParameters, now: int
    ) -> Ranking:
        """Find the best items of a scope, and order them.

        The nearest by meaning and those with words of the query are found at the same
        time. Each is then scored in all parts, so that a score does not depend on how
        an item was found.

        Args:
            scope: Where.
            query: What is looked for.
            parameters: Weights and the number of candidates.
            now: Milliseconds since 1970, for recency.

        Returns:
            At most `MAX_RANKED` items, the same for every number that is asked for.
        """
        words = typed_words(query.text, self._analyzer)
        (vector, nearest), (matching, frequency), named, documents, mean = await asyncio.gather(
            self._nearest(scope, query.text, parameters.candidates),
            matching_items(scope, frozenset(counted_terms(words)), self._statistics),
            named_items(scope, query.names),
            scope.count(),
            self._statistics.mean_length(scope),
        )
        corrections = await find_corrections(scope, query, words, frequency, self._analyzer)
        terms = asked_terms(words, corrections)
        if corrections:
            meant = {way for term in terms for way, _ in term.ways} - frequency.keys()
            more, others = await matching_items(scope, meant, self._statistics)
            matching, frequency = [*matching, *more], {**frequency, **others}
            if is_short(words):  # else the other words say what it is about
                text = replace_words(query.text, [(c.word, c.meant[0]) for c in corrections])
                vector, nearest = await self._nearest(scope, text, parameters.candidates)
        corpus = Corpus(documents, mean, frequency)
        question = Question(vector, terms, corpus, tuple(corrections), parameters, now)
        candidates = list({c.id: c for c in (*nearest, *matching, *named)}.values())
        ranking = question.score(candidates)
        codes, rare = rare_terms(query.text, words, frequency)
        names = {candidate.id for candidate in named}
        found, counts = ranking.found, ranking.counts
        naming = self._by_title(ranking, query.typed or query.text)
        naming += counts.rarity(codes, corpus)
        naming += BY_NAME * np.array([f.candidate.id in names for f in found], float)
        scores = [f.scores for f in found]
        lifted = lift(scores, naming.tolist(), counts.rarity(rare, corpus).tolist())
        best = [(found[place], scores) for place, scores in lifted[:MAX_RANKED]]
        return replace(ranking, found=[f.scored(scores) for f, scores in best])

    async def correct(
        self, scope: Scope, query: QueryText, words: Sequence[TypedWord]
    ) -> list[Correction]:
        """What may have been meant by those words of a query that no item has."""
        terms = set(counted_terms(words))
        known = self._statistics.known(scope, terms)
        known |= await self._statistics.count(scope, terms - known.keys())
        return await find_corrections(scope, query, words, known, self._analyzer)

    async def _nearest(
        self, scope: Scope, text: str, limit: int
    ) -> tuple[np.ndarray, list[Candidate]]:
        vector = await self._encode(scope.tenant, text)
        return vector, await nearest_items(scope, vector, limit)

    def _by_title(self, ranking: Ranking, typed: str) -> np.ndarray:
        """How much a query names each item by its title, which has all of the query."""
        naming, question = np.zeros(len(ranking.found)), ranking.question
        words = self._analyzer.words(typed)
        asked = [[way for way, _ in term.ways] for term in question.terms]
        likely = ranking.counts.have_all(question.terms) if asked else naming == 0
        for place in np.flatnonzero(likely):
            title = ranking.found[place].candidate.title
            if words and self._analyzer.words(title) == words:
                naming[place] = WHOLE
            elif asked:
                terms = set(self._analyzer.stems(title))
                if all(terms.intersection(ways) for ways in asked):
                    share = len(terms & question.ways) / len(terms)
                    naming[place] = BY_TITLE * share if share >= TITLE_SHARE else 0.0
        return naming


def counted_terms(words: Sequence[TypedWord]) -> list[str]:
    """The terms of a query that count; of very many, those that say most."""
    terms = list(dict.fromkeys(term for word in words for term in word.terms))
    if len(terms) > MAX_TERMS:
        terms.sort(key=lambda term: (not any(map(str.isdigit, term)), -len(term), term))
    return terms[:MAX_TERMS]


def asked_terms(
    words: Sequence[TypedWord], corrections: Sequence[Correction] = ()
) -> tuple[QueryTerm, ...]:
    """What is asked for: each term as typed, or the terms of what was meant instead."""
    corrected = {correction.word: correction for correction in corrections}
    counted = set(counted_terms(words))
    asked: Counter[tuple[tuple[str, float], ...]] = Counter()
    for word in words:
        if (correction := corrected.get(word)) is not None:
            weight = CERTAINTY[correction.kind]
            asked[tuple((term, weight) for term in correction.terms)] += 1
        else:
            for term in word.terms:
                if term in counted:
                    asked[((term, 1.0),)] += 1
    return tuple(QueryTerm(ways, times) for ways, times in asked.items() if ways)


def _similarity(
    candidates: Sequence[Candidate], vector: np.ndarray
) -> tuple[np.ndarray, list[int | None]]:
    """The cosine of each candidate's nearest passage, and which it is."""
    cosines = np.zeros(len(candidates))
    passages: list[int | None] = [None] * len(candidates)
    sizes = np.array([len(candidate.vectors) for candidate in candidates], int)
    having = np.flatnonzero(sizes)
    if len(having):
        each = np.concatenate([candidate.vectors for candidate in candidates]) @ vector
        starts = np.cumsum(sizes)[having] - sizes[having]
        cosines[having] = np.maximum.reduceat(each, starts)
        for i, start in zip(having.tolist(), starts.tolist(), strict=True):
            size = len(candidates[i].vectors)
            passages[i] = int(each[start : start + size].argmax()) if size > 1 else 0
    return cosines, passages
