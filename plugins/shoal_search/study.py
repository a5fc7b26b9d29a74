"""The offline study: which parameters rank judged queries best."""

import time
from dataclasses import dataclass

import numpy as np

from shoal import Parameters, Study

from .analyzer import Analyzer
from .beir import load_collection, ndcg
from .bm25 import Corpus, bm25
from .fusion import fuse
from .parameters import SearchParameters


@dataclass(frozen=True, slots=True)
class Trial:
    """One judged query against all documents of a collection."""

    stems: list[str]
    cosine: np.ndarray
    """Shape (documents,)."""
    matching: np.ndarray
    """Positions of the documents that share a stem with the query."""
    relevance: dict[str, int]


@dataclass(frozen=True, slots=True)
class Data:
    ids: list[str]
    stems: list[list[str]]
    corpus: Corpus
    trials: list[Trial]


def load(folder: str) -> Data:
    """Read and embed a collection in BEIR's layout. It has no dates for recency."""
    from .embedder import Embedder

    collection, analyzer, embedder = load_collection(folder), Analyzer(), Embedder()
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
    trials = []
    for text, row, relevance in zip(texts, cosine, collection.relevance.values(), strict=True):
        query = analyzer.stems(text)
        found: set[int] = set().union(*(postings.get(term, ()) for term in query))
        trials.append(Trial(query, row, np.array(sorted(found), int), relevance))
    return Data([id for id, _, _ in collection.documents], stems, corpus, trials)


def objective(parameters: Parameters, data: Data) -> float:
    """Mean nDCG@10 of the queries, searched and scored as the index does it."""
    assert isinstance(parameters, SearchParameters)
    now = time.time_ns() // 1_000_000
    qualities = [_quality(trial, data, parameters, now) for trial in data.trials]
    return float(np.mean(qualities)) if qualities else 0.0


def _quality(trial: Trial, data: Data, parameters: SearchParameters, now: int) -> float:
    count = parameters.candidates
    positions = trial.matching.tolist()
    documents = (data.stems[i] for i in positions)
    found = bm25(trial.stems, documents, data.corpus, k1=parameters.bm25_k1, b=parameters.bm25_b)
    scores = dict(zip(positions, found, strict=True))
    near = np.argsort(-trial.cosine, kind="stable")[:count].tolist()
    matching = sorted(scores, key=scores.__getitem__, reverse=True)[:count]
    candidates = list(dict.fromkeys([*near, *matching]))
    ranked = fuse(
        trial.cosine[candidates],
        [scores.get(i, 0.0) for i in candidates],
        [now] * len(candidates),
        now=now,
        parameters=parameters,
    )
    return ndcg([data.ids[candidates[i]] for i, _ in ranked], trial.relevance)


STUDY = Study(load, objective, "nDCG@10")
