"""The offline study: which parameters rank judged queries best."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shoal import Invalid, Parameters, Study

from .analyzer import Analyzer
from .beir import load_collection, ndcg
from .bm25 import Corpus, bm25
from .fusion import fuse
from .parameters import SearchParameters


@dataclass(frozen=True, slots=True)
class Documents:
    """The documents of a collection."""

    ids: list[str]
    stems: list[list[str]]
    corpus: Corpus


@dataclass(frozen=True, slots=True)
class JudgedQuery:
    """One judged query against all documents of a collection."""

    documents: Documents
    stems: list[str]
    cosine: np.ndarray
    """Shape (documents,)."""
    matching: np.ndarray
    """Positions of the documents that share a stem with the query."""
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
    stems = [analyzer.stems(passage) for passage in passages]
    postings: dict[str, set[int]] = {}
    for position, document in enumerate(stems):
        for term in set(document):
            postings.setdefault(term, set()).add(position)
    corpus = Corpus(
        len(stems), sum(map(len, stems)), {term: len(found) for term, found in postings.items()}
    )
    texts = [collection.queries[query] for query in collection.relevance]
    cosine = embedder.encode(texts, "query") @ embedder.encode(passages).T
    documents = Documents([id for id, _, _ in collection.documents], stems, corpus)
    judged = []
    for text, row, relevance in zip(texts, cosine, collection.relevance.values(), strict=True):
        query = analyzer.stems(text)
        found: set[int] = set().union(*(postings.get(term, ()) for term in query))
        matching = np.array(sorted(found), int)
        judged.append(JudgedQuery(documents, query, row, matching, relevance))
    return judged


def objective(parameters: Parameters, queries: Sequence[JudgedQuery]) -> float:
    """Mean nDCG@10 of the queries, searched and scored as the index does it."""
    assert isinstance(parameters, SearchParameters)
    now = time.time_ns() // 1_000_000
    qualities = [_quality(query, parameters, now) for query in queries]
    return float(np.mean(qualities)) if qualities else 0.0


def _quality(query: JudgedQuery, parameters: SearchParameters, now: int) -> float:
    count, documents = parameters.candidates, query.documents
    positions = query.matching.tolist()
    texts = (documents.stems[i] for i in positions)
    found = bm25(query.stems, texts, documents.corpus, k1=parameters.bm25_k1, b=parameters.bm25_b)
    scores = dict(zip(positions, found, strict=True))
    near = np.argsort(-query.cosine, kind="stable")[:count].tolist()
    matching = sorted(scores, key=scores.__getitem__, reverse=True)[:count]
    candidates = list(dict.fromkeys([*near, *matching]))
    ranked = fuse(
        query.cosine[candidates],
        [scores.get(i, 0.0) for i in candidates],
        [now] * len(candidates),
        now=now,
        parameters=parameters,
    )
    return ndcg([documents.ids[candidates[i]] for i, _ in ranked], query.relevance)


STUDY = Study(load, objective, "nDCG@10", fixed=("recency_weight", "half_life_days"))
