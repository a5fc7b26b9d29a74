import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import milvus_lite.db as database
import numpy as np
import pytest
from milvus_lite.exceptions import MilvusLiteError
from milvus_lite.schema.types import CollectionSchema, DataType, FieldSchema, Function, FunctionType

from shoal.local.milvus.search import SearchedCollection

WORDS = [f"w{i}" for i in range(12)]
K1, B = 0.9, 0.4


@pytest.fixture
def collection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SearchedCollection]:
    monkeypatch.setattr(database, "Collection", SearchedCollection)
    schema = CollectionSchema(
        fields=[
            FieldSchema("id", DataType.VARCHAR, is_primary=True, max_length=100),
            FieldSchema("vector", DataType.FLOAT_VECTOR, dim=4),
            FieldSchema("n", DataType.INT64, nullable=True),
            FieldSchema("text", DataType.VARCHAR, max_length=1000, enable_analyzer=True),
            FieldSchema("sparse", DataType.SPARSE_FLOAT_VECTOR, is_function_output=True),
        ],
        functions=[Function("bm25", FunctionType.BM25, ["text"], ["sparse"])],
    )
    db = database.MilvusLite(str(tmp_path))
    made = db.create_collection("items", schema)
    made.create_index("vector", {"index_type": "FLAT", "metric_type": "COSINE"})
    made.create_index(
        "sparse",
        {
            "index_type": "SPARSE_INVERTED_INDEX",
            "metric_type": "BM25",
            "params": {"bm25_k1": K1, "bm25_b": B},
        },
    )
    made.load()
    yield made
    db.close()


def row(key: str, random: np.random.Generator) -> dict[str, Any]:
    text = " ".join(random.choice(WORDS, random.integers(1, 9)))
    return {
        "id": key,
        "vector": random.normal(size=4).astype(np.float32).tolist(),
        "n": int(random.integers(10)),
        "text": text,
    }


def cosines(rows: dict[str, dict[str, Any]], query: list[float]) -> dict[str, float]:
    def cosine(v: list[float]) -> float:
        return float(np.dot(v, query) / (np.linalg.norm(v) * np.linalg.norm(query)))

    return {key: cosine(r["vector"]) for key, r in rows.items()}


def bm25(rows: dict[str, dict[str, Any]], query: str) -> dict[str, float]:
    """Robertson's BM25 as in Lucene, over all rows, written plainly."""
    texts = {key: r["text"].split() for key, r in rows.items()}
    average = sum(map(len, texts.values())) / len(texts)
    scores = {}
    for key, text in texts.items():
        score = 0.0
        for term, weight in Counter(query.split()).items():
            holders = sum(term in t for t in texts.values())
            idf = math.log(1 + (len(texts) - holders + 0.5) / (holders + 0.5))
            count = text.count(term)
            score += (
                weight * idf * count * (K1 + 1) / (count + K1 * (1 - B + B * len(text) / average))
            )
        if score > 0:
            scores[key] = score
    return scores


def agree(hits: list[dict[str, Any]], expected: dict[str, float]) -> None:
    assert {h["id"]: h["distance"] for h in hits} == pytest.approx(expected, abs=1e-4)
    found = [h["distance"] for h in hits]
    assert found == sorted(found, reverse=True)


@pytest.mark.parametrize("seed", range(3))
def test_scores_equal_a_plain_computation_after_any_writes(
    collection: SearchedCollection, seed: int
) -> None:
    random, rows = np.random.default_rng(seed), dict[str, dict[str, Any]]()
    for _ in range(30):
        match random.integers(6):
            case 0 | 1 | 2:
                batch = {str(k): row(str(k), random) for k in random.integers(60, size=7)}
                collection.upsert(list(batch.values()))
                rows |= batch
            case 3:
                gone = [str(k) for k in random.integers(60, size=3)]
                collection.delete(gone)
                rows = {k: r for k, r in rows.items() if k not in gone}
            case 4:
                collection.flush()
            case 5:
                collection._wait_for_bg()
        if not rows:
            continue
        query, words = random.normal(size=4).tolist(), " ".join(random.choice(WORDS, 3))
        agree(
            collection.search([query], 100, output_fields=["n"], anns_field="vector")[0],
            cosines(rows, query),
        )
        agree(
            collection.search([words], 100, output_fields=["n"], anns_field="sparse")[0],
            bm25(rows, words),
        )
        some = {k: s for k, s in bm25(rows, words).items() if rows[k]["n"] < 5}
        agree(collection.search([words], 100, expr="n < 5", anns_field="sparse")[0], some)
        assert collection.count_matching(None) == len(rows)
        assert collection.count_matching("n < 5") == sum(r["n"] < 5 for r in rows.values())
        keys = [str(k) for k in random.integers(60, size=9)]
        got = collection.get(keys, output_fields=["n", "text"])
        assert got == [
            {"id": k, "n": rows[k]["n"], "text": rows[k]["text"]} for k in keys if k in rows
        ]


def test_the_best_hits_come_first_up_to_the_limit(collection: SearchedCollection) -> None:
    random = np.random.default_rng(0)
    rows = {str(i): row(str(i), random) for i in range(200)}
    collection.upsert(list(rows.values()))
    query = random.normal(size=4).tolist()
    (hits,) = collection.search([query], 7, output_fields=["n"], anns_field="vector")
    expected = sorted(cosines(rows, query).items(), key=lambda pair: -pair[1])[:7]
    assert [h["id"] for h in hits] == [key for key, _ in expected]
    assert all(h["entity"] == {"n": rows[h["id"]]["n"]} for h in hits)


def test_of_equal_scores_the_older_row_comes_first(collection: SearchedCollection) -> None:
    same = {"vector": [1.0, 0, 0, 0], "n": 1, "text": "w1"}
    collection.upsert([{"id": key, **same} for key in "cab"])
    for column, query in (("vector", [1.0, 0, 0, 0]), ("sparse", "w1")):
        assert [h["id"] for h in collection.search([query], 2, anns_field=column)[0]] == ["c", "a"]


def test_a_vector_of_zeros_has_cosine_zero(collection: SearchedCollection) -> None:
    collection.upsert([{"id": "a", "vector": [0.0] * 4, "n": 1, "text": ""}])
    for query in ([1.0, 0, 0, 0], [0.0] * 4):
        assert collection.search([query], 5, anns_field="vector")[0][0]["distance"] == 0


def test_several_queries_are_answered_in_order(collection: SearchedCollection) -> None:
    collection.upsert(
        [{"id": str(i), "vector": np.eye(4)[i].tolist(), "n": i, "text": f"w{i}"} for i in range(4)]
    )
    answers = collection.search(
        [np.eye(4)[3].tolist(), np.eye(4)[1].tolist()], 1, anns_field="vector"
    )
    assert [hits[0]["id"] for hits in answers] == ["3", "1"]


def test_an_empty_collection_has_no_hits(collection: SearchedCollection) -> None:
    assert collection.search([[1.0, 0, 0, 0]], 5, anns_field="vector") == [[]]
    assert collection.search(["w1"], 5, anns_field="sparse") == [[]]
    assert collection.count_matching(None) == 0


def test_a_query_of_another_dimension_is_refused(collection: SearchedCollection) -> None:
    with pytest.raises(MilvusLiteError, match="dimension"):
        collection.search([[1.0, 0]], 5, anns_field="vector")


def test_other_searches_are_left_to_milvus_lite(collection: SearchedCollection) -> None:
    collection.upsert(
        [{"id": str(i), "vector": np.eye(4)[i].tolist(), "n": i % 2, "text": "w"} for i in range(4)]
    )
    (hits,) = collection.search(
        [[1.0, 0.5, 0.2, 0]], 5, anns_field="vector", group_by_field="n", output_fields=["n"]
    )
    assert sorted(h["entity"]["n"] for h in hits) == [0, 1]


def test_a_partial_row_updates_only_its_fields(collection: SearchedCollection) -> None:
    random = np.random.default_rng(0)
    collection.upsert([row("a", random)])
    collection.upsert([{"id": "a", "n": 77}])
    assert collection.count_matching("n == 77") == 1
