"""Test collections in BEIR's layout: corpus.jsonl, queries.jsonl, qrels/test.tsv.

Source: Thakur et al., BEIR: A Heterogeneous Benchmark for Zero-shot Evaluation of
Information Retrieval Models (2021).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson


@dataclass(frozen=True, slots=True)
class JudgedCollection:
    """A test collection.

    Attributes:
        documents: (id, title, text) of each.
        queries: Texts by id.
        relevance: For each judged query the grades of documents; 0 is not relevant.
    """

    documents: list[tuple[str, str, str]]
    queries: dict[str, str]
    relevance: dict[str, dict[str, int]]


def read_json_lines(path: Path) -> Iterator[Any]:
    """The values of a JSON Lines file. ValueError names an invalid line."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    yield orjson.loads(line)
                except orjson.JSONDecodeError as error:
                    raise ValueError(f"{path}, line {number}: {error}") from None


def load_collection(folder: str | Path) -> JudgedCollection:
    """Read a collection.

    Raises:
        FileNotFoundError: A part is missing.
        ValueError: A line is invalid.
    """
    folder = Path(folder)
    documents = [
        (row["_id"], row.get("title") or "", row.get("text") or "")
        for row in read_json_lines(folder / "corpus.jsonl")
    ]
    queries = {row["_id"]: row["text"] for row in read_json_lines(folder / "queries.jsonl")}
    table = next(
        (path for path in (folder / "qrels" / "test.tsv", folder / "qrels.tsv") if path.is_file()),
        None,
    )
    if table is None:
        raise FileNotFoundError(f"{folder} has neither qrels/test.tsv nor qrels.tsv")
    relevance: dict[str, dict[str, int]] = {}
    for number, line in enumerate(table.read_text().splitlines(), 1):
        try:
            query, document, grade = line.split("\t")
            relevance.setdefault(query, {})[document] = int(grade)
        except ValueError:
            if number > 1:  # the first may be a header
                raise ValueError(
                    f"{table}, line {number}: expected query, document and grade, tab-separated"
                ) from None
    return JudgedCollection(
        documents,
        queries,
        {q: r for q, r in relevance.items() if q in queries and max(r.values()) > 0},
    )


def ndcg(ranking: Sequence[str], relevance: Mapping[str, int], k: int = 10) -> float:
    """Normalized discounted cumulative gain of the first `k`, in [0, 1].

    The gain is the grade and the discount log2(rank + 1), as in trec_eval. Source:
    Järvelin & Kekäläinen (2002).
    """
    gains = [max(relevance.get(document, 0), 0) for document in ranking[:k]]
    ideal = sorted((grade for grade in relevance.values() if grade > 0), reverse=True)[:k]
    best = _discounted(ideal)
    return _discounted(gains) / best if best else 0.0


def _discounted(gains: Sequence[float]) -> float:
    return sum(gain / math.log2(rank + 2) for rank, gain in enumerate(gains))
