"""The offline study: which parameters rank judged queries best."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from shoal import Invalid, Parameters, Study

from .analyzer import Analyzer
from .beir import load_collection, ndcg
from .bm25 import Corpus, TermCounts, bm25, count_terms
from .candidates import MAX_MATCHING, MAX_NEWEST, Candidate, split_terms
from .fusion import fuse, lift
from .parameters import SearchParameters
from .query_text import TypedWord, typed_words
from .rare_words import rare_terms
from .searcher import asked_terms, counted_terms


@dataclass(frozen=True, slots=True)
class Documents:
    """The documents of a collection.

    Attributes:
        candidates: As the index gives them, without vectors.
        postings: By term, the positions of the documents that have it.
        mean_length: In terms.
    """

    candidates: list[Candidate]
    postings: dict[str, list[int]]
    mean_length: float


@dataclass(frozen=True, slots=True)
class JudgedQuery:
    """One judged query against all documents of a collection."""

    documents: Documents
    text: str
    words: list[TypedWord]
    cosine: np.ndarray
    """Shape (documents,)."""
    relevance: dict[str, int]


def load(folder: str) -> list[JudgedQuery]:
    """Read and embed a collection in BEIR's layout. It has no dates for recency.

    Raises:
        Invalid: The folder is no such collection.
    """
    from .embedder import Embedder

    try:
        collection = load_collection(folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Invalid(f"{folder} is not a judged collection in BEIR's layout: {error}") from error
    analyzer, embedder = Analyzer(), Embedder()
    passages = [f"{title}\n{text}" if title else text for _, title, text in collection.documents]
    candidates, postings = [], dict[str, list[int]]()
    for position, ((id, _, _), passage) in enumerate(
        zip(collection.documents, passages, strict=True)
    ):
        terms = analyzer.stems(passage)
        candidates.append(Candidate(id, {"words": " ".join(terms)}))
        for term in set(terms):
            postings.setdefault(term, []).append(position)
    mean = float(np.mean([count_terms(candidate.words) for candidate in candidates]))
    texts = [collection.queries[query] for query in collection.relevance]
    cosine = embedder.encode(texts, "query") @ embedder.encode(passages).T
    documents = Documents(candidates, postings, mean)
    return [
        JudgedQuery(documents, text, typed_words(text, analyzer), row, relevance)
        for text, row, relevance in zip(texts, cosine, collection.relevance.values(), strict=True)
    ]


def objective(parameters: Parameters, queries: Sequence[JudgedQuery]) -> float:
    """Mean nDCG@10 of the queries, searched and scored as the index does it."""
    assert isinstance(parameters, SearchParameters)
    qualities = [_quality(query, parameters) for query in queries]
    return float(np.mean(qualities)) if qualities else 0.0


def _quality(query: JudgedQuery, parameters: SearchParameters) -> float:
    """nDCG@10 of one query: without corrections, of which such collections need few."""
    documents, postings = query.documents, query.documents.postings
    counted = counted_terms(query.words)
    frequency = {term: len(postings.get(term, ())) for term in counted}
    near = np.argsort(-query.cosine, kind="stable")[: parameters.candidates].tolist()
    positions = list(dict.fromkeys([*near, *_matching(postings, frequency)]))
    candidates = [documents.candidates[position] for position in positions]
    corpus = Corpus(len(documents.candidates), documents.mean_length, frequency)
    asked = asked_terms(query.words)
    counts = TermCounts.of([candidate.words for candidate in candidates], frequency)
    k1, b = parameters.bm25_k1, parameters.bm25_b
    ranked = fuse(
        query.cosine[positions],
        bm25(asked, counts, corpus, k1=k1, b=b),
        [0] * len(candidates),
        [candidate.id for candidate in candidates],
        now=0,
        parameters=parameters,
    )
    codes, others = rare_terms(query.text, query.words, frequency)
    counts = counts.ordered([i for i, _ in ranked])
    lifted = lift(
        [scores for _, scores in ranked],
        counts.rarity(codes, corpus).tolist(),
        counts.rarity(others, corpus).tolist(),
    )
    ids = [candidates[ranked[place][0]].id for place, _ in lifted]
    return ndcg(ids, query.relevance)


def _matching(postings: Mapping[str, list[int]], frequency: Mapping[str, int]) -> set[int]:
    """The documents with words of a query, as `matching_items` finds them."""

    def having(terms: Sequence[str]) -> set[int]:
        return {position for term in terms for position in postings.get(term, ())}

    if len(found := having(list(frequency))) <= MAX_MATCHING:
        return found
    rare, frequent = split_terms(frequency)
    found = having(rare)
    if len(frequent) > 1:
        found |= set(sorted(having(frequent[:1]) & having(frequent[1:2]))[:MAX_NEWEST])
    return found


STUDY = Study(load, objective, "nDCG@10", fixed=("recency_weight", "half_life_days"))
