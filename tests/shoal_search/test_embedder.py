"""The embedder."""

import numpy as np
import pytest

from shoal_search.embedder import Embedder
from shoal_search.parameters import SearchSettings


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
