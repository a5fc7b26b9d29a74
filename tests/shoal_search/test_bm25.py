"""BM25."""

import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal_search.bm25 import Corpus, QueryTerm, TermCounts
from shoal_search.bm25 import bm25 as score

CORPUS = Corpus(documents=10, mean_length=10, frequency={"rare": 1, "common": 9})


def bm25(
    query: list[str], documents: list[list[str]], corpus: Corpus, **options: float
) -> list[float]:
    asked = [QueryTerm(((term, 1.0),), times) for term, times in Counter(query).items()]
    counts = TermCounts.of([" ".join(d) for d in documents], set(query))
    return score(asked, counts, corpus, **options).tolist()


def test_it_is_the_formula() -> None:
    idf = math.log((10 - 1 + 0.5) / (1 + 0.5) + 1)
    document = ["rare"] * 2 + ["x"] * 18
    expected = idf * 2 * 1.9 / (2 + 0.9 * (1 - 0.4 + 0.4 * 20 / 10))
    assert bm25(["rare"], [document], CORPUS, k1=0.9, b=0.4) == [pytest.approx(expected)]


def test_a_rare_word_counts_more_than_a_common_one() -> None:
    document = ["rare", "common"]
    assert bm25(["rare"], [document], CORPUS) > bm25(["common"], [document], CORPUS)


def test_nothing_in_common_is_zero() -> None:
    assert bm25(["rare"], [["x", "y"], []], CORPUS) == [0, 0]
    assert bm25([], [["x"]], CORPUS) == [0]
    assert bm25(["rare"], [], CORPUS) == []


def test_a_word_that_is_asked_twice_counts_twice() -> None:
    assert bm25(["rare", "rare"], [["rare"]], CORPUS)[0] == pytest.approx(
        2 * bm25(["rare"], [["rare"]], CORPUS)[0]
    )


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(st.sampled_from(["a", "b", "ab", "ba", "ˑ"]), max_size=9), max_size=6))
def test_terms_are_counted_as_by_a_dictionary(documents: list[list[str]]) -> None:
    terms = ["ab", "a", "b", "missing"]
    found = TermCounts.of([" ".join(document) for document in documents], terms)
    assert found.lengths.tolist() == [len(document) for document in documents]
    for row, document in zip(found.counts.tolist(), documents, strict=True):
        assert {t: row[found.columns[t]] for t in terms} == {t: document.count(t) for t in terms}


@settings(deadline=None)
@given(
    st.integers(-3, 5),
    st.integers(-3, 50),
    st.integers(-3, 9),
    st.lists(st.sampled_from("ab"), max_size=4),
    st.lists(st.sampled_from("abc"), max_size=9),
)
def test_statistics_that_have_drifted_still_give_a_finite_score(
    documents: int, length: int, df: int, query: list[str], text: list[str]
) -> None:
    (score,) = bm25(query, [text], Corpus(max(documents, 0), max(length, 0), {"a": df}))
    assert math.isfinite(score)
    assert score >= 0
