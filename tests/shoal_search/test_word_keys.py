"""Keys of words: whatever the mistake, a key of the right word remains."""

from string import ascii_lowercase
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz.distance import OSA

from shoal_search.word_keys import (
    MAX_BEGINNING,
    beginning_key,
    similar_words,
    typo_keys,
    word_keys,
    words_beginning,
)

# Few letters, so that halves of different words are often the same.
words = st.text("abc", min_size=4, max_size=12)


mistakes = st.tuples(st.integers(0, 11), st.sampled_from("abcd"), st.sampled_from("idst"))


def mistype(word: str, at: int, letter: str, mistake: str) -> str:
    at %= len(word)
    swapped = word[at + 1 : at + 2] + word[at]
    return {
        "i": word[:at] + letter + word[at:],
        "d": word[:at] + word[at + 1 :],
        "s": word[:at] + letter + word[at + 1 :],
        "t": word[:at] + swapped + word[at + 2 :],
    }[mistake]


@given(st.text("abc", min_size=9, max_size=14), mistakes, mistakes)
def test_two_mistakes_in_a_longer_word_leave_a_key(word: str, one: Any, other: Any) -> None:
    mistyped = mistype(mistype(word, *one), *other)
    are_swaps = one[2] == other[2] == "t"
    if OSA.distance(word, mistyped) == 2 and len(mistyped) >= 9 and not are_swaps:
        assert typo_keys(mistyped) & set(word_keys([word]))
        assert [found.word for found in similar_words(mistyped, [word])] == [word]


@given(words, mistakes)
def test_one_mistake_leaves_a_key(word: str, mistake: Any) -> None:
    mistyped = mistype(word, *mistake)
    if mistyped != word and len(mistyped) >= 4:
        assert typo_keys(mistyped) & set(word_keys([word]))
        assert [found.word for found in similar_words(mistyped, [word])] == [word]


@given(st.text(ascii_lowercase, min_size=2, max_size=30), st.integers(2, 30))
def test_every_beginning_has_a_key(word: str, size: int) -> None:
    assert beginning_key(word[:size]) in word_keys([word])


def test_a_word_has_few_keys() -> None:
    assert len(word_keys(["responsibilities"])) == MAX_BEGINNING - 1 + 3 + 3


@given(st.lists(st.text("abc", min_size=3, max_size=10), max_size=20), words)
def test_similar_words_are_those_within_the_distance(found: list[str], typed: str) -> None:
    most = 2 if len(typed) >= 9 else 1
    near = {word for word in found if 0 < OSA.distance(word, typed) <= most}
    similar = similar_words(typed, found, limit=100)
    assert {one.word for one in similar} == near
    assert [one.edits for one in similar] == sorted(one.edits for one in similar)


@pytest.mark.parametrize(
    ("typed", "found", "expected"),
    [
        ("paymnt", ["payment", "pavement", "payment"], ["payment"]),
        ("plna", ["plan", "plane", "play"], ["plan"]),
        ("form", ["form"], []),
    ],
)
def test_the_most_likely_word_is_first(typed: str, found: list[str], expected: list[str]) -> None:
    assert [one.word for one in similar_words(typed, found)][:1] == expected


def test_the_most_frequent_completion_is_first() -> None:
    found = ["payment", "payments", "payment", "pay", "paymaster", "repayment"]
    assert words_beginning("paym", found) == ["payment", "paymaster", "payments"]
