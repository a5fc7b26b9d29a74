"""The embedder."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal_search.embedder import BATCH_CHARACTERS, BATCH_ITEMS, Embedder, item_batches
from shoal_search.parameters import SearchSettings

from .long_texts import FACTS, long_text


def test_vectors_have_length_one_whatever_the_text(embedder: Embedder) -> None:
    vectors = embedder.encode(["a plan", "", "路线图", "word " * 5000])
    assert vectors.dtype == np.float32
    assert vectors.shape == (4, embedder.dimension)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(4), abs=1e-5)


def test_near_meanings_are_near(embedder: Embedder) -> None:
    car, automobile, poem = embedder.encode(
        ["the car is fast", "a quick automobile", "a poem about autumn"]
    )
    assert car @ automobile > 0.6 > car @ poem


def test_a_text_has_the_same_vector_alone_and_among_many(embedder: Embedder) -> None:
    texts = [f"How do I change the colour of board {n}?" for n in range(9)]
    many = embedder.encode(texts, "query")
    for text, vector in zip(texts, many, strict=True):
        assert float(embedder.encode([text], "query")[0] @ vector) > 0.999


def test_each_call_gets_its_own_texts_back(embedder: Embedder) -> None:
    answers = embedder.embed(
        [
            ("query", ["red"]),
            ("document", ["green", "blue and more"]),
            ("query", []),
            ("query", ["blue and more"]),
        ]
    )
    assert [len(answer) for answer in answers] == [1, 2, 0, 1]
    assert answers[1][1] @ answers[3][0] == pytest.approx(1, abs=0.01)
    assert answers[0][0] @ embedder.encode(["red"])[0] == pytest.approx(1, abs=0.01)


def test_bfloat16_moves_no_cosine_by_more_than_a_hundredth(embedder: Embedder) -> None:
    exact = Embedder(SearchSettings(precision="float32"))
    texts = [
        "sign-in is slow on mobile",
        "quarterly budget for marketing",
        "the wing in a slipstream",
    ]
    a, b = embedder.encode(texts), exact.encode(texts)
    assert np.abs(a @ a.T - b @ b.T).max() < 0.01


def test_items_have_a_vector_for_each_passage(embedder: Embedder) -> None:
    long = long_text(FACTS[0][0], 0)
    items = [("Plan", "For the quarter."), ("Report", long), ("", "Alone")]
    found, texts, query = embedder.embed(
        [("item", items), ("document", ["Plan\nFor the quarter.", "Alone"]), ("query", ["Alone"])]
    )
    assert [len(item.vectors) for item in found] == [len(item.passages) for item in found]
    assert [len(item.passages) for item in found][::2] == [1, 1]
    assert found[1].passages[0][0] == 0
    assert found[1].passages[-1][1] == len(long)
    assert found[0].vectors[0] @ texts[0] > 0.99
    assert found[2].vectors[0] @ texts[1] > 0.99
    assert query.shape == (1, embedder.dimension)


def test_facts_deep_in_long_texts_are_found_by_meaning(embedder: Embedder) -> None:
    documents = [long_text(fact, seed) for seed, (fact, _) in enumerate(FACTS)]
    whole = embedder.encode(documents)
    items = embedder.embed_items([("", text) for text in documents])
    asked = embedder.encode([fact for fact, _ in FACTS], "query")
    best = np.stack([(asked @ item.vectors.T).max(axis=1) for item in items], axis=1)
    expected = np.arange(len(FACTS))
    assert ((asked @ whole.T).argmax(axis=1) == expected).sum() < 10
    assert (best.argmax(axis=1) == expected).sum() > 75  # 83 when this was written


@given(st.lists(st.integers(0, 100_000), max_size=200))
def test_requests_of_items_are_bounded_and_complete(sizes: list[int]) -> None:
    items = [("t", "x" * size) for size in sizes]
    batches = list(item_batches(items))
    assert [item for batch in batches for item in batch] == items
    for batch in batches:
        assert 1 <= len(batch) <= BATCH_ITEMS
        assert len(batch) == 1 or sum(len(t) + 1 for _, t in batch) <= BATCH_CHARACTERS
