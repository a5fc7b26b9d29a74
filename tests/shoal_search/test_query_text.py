"""What was typed, as what is looked for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal_search.analyzer import Analyzer
from shoal_search.query_text import MAX_NAMES, MAX_OPERATORS, read_query, replace_words, typed_words

ANALYZER = Analyzer()


@pytest.mark.parametrize(
    ("typed", "text", "phrases", "excluded"),
    [
        ("login page", "login page", (), ()),
        ('the "sign-in form" is slow', "the  sign-in form  is slow", ("sign-in form",), ()),
        ("“sign-in form”", "sign-in form", ("sign-in form",), ()),
        ("login -page", "login", (), ("page",)),
        ('login -"sign-in form" slow', "login   slow", (), ("sign-in form",)),
        ('"a" "a" -b2 -b2', "a    a", ("a",), ("b2",)),
        # What is no operator
        ("ERR-4032 well-known", "ERR-4032 well-known", (), ()),
        ("git push --force -v", "git push --force -v", (), ()),
        ("at -5 degrees", "at -5 degrees", (), ()),
        ("a - b", "a - b", (), ()),
        ('5" pipe', '5" pipe', (), ()),
        ('"" and " "', '"" and " "', (), ()),
        ("plan " * 31 + "-page", "plan " * 31, (), ("page",)),
        ('see "page" ' * 16 + "-b2", 'see "page" ' * 16 + "-b2", (), ()),
        ('he said "yes"\n-cancelled', 'he said "yes"\n-cancelled', (), ()),
    ],
)
def test_operators_are_read(
    typed: str, text: str, phrases: tuple[str, ...], excluded: tuple[str, ...]
) -> None:
    query = read_query(typed, ANALYZER)
    assert (query.text.split(), query.phrases, query.excluded) == (text.split(), phrases, excluded)


@pytest.mark.parametrize(
    ("typed", "is_complete"),
    [("pay", False), ("pay ", True), ("pay.", True), ('"pay"', True), ("pay -bill", True)],
)
def test_a_last_word_may_be_only_begun(typed: str, is_complete: bool) -> None:
    assert read_query(typed, ANALYZER).is_complete == is_complete


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("42", "42"),
        ("item-7f3a", "item-7f3a"),
        ("what is item-7f3a?", "item-7f3a"),
        ("https://x.example/b/1/items/42?tab=a", "42"),
        ("https://x.example/b/1/items/a%20b", "a b"),
        ("https://x.example/#/items/42", "42"),
        ("https://x.example/?item=42", "42"),
        ("see <https://x.example/items/item-42>, please", "item-42"),
        ("see https://x.example/items/item-42.", "https://x.example/items/item-42"),
    ],
)
def test_pasted_ids_and_addresses_are_found(typed: str, name: str) -> None:
    assert name in read_query(typed, ANALYZER).names


@pytest.mark.parametrize("typed", ["phase 3 plan", "the https://x.example/items/42 page"])
def test_a_short_number_among_words_is_no_id(typed: str) -> None:
    assert not {"3", "42"} & set(read_query(typed, ANALYZER).names)


@given(st.text(max_size=200))
def test_every_text_can_be_read(typed: str) -> None:
    query = read_query(typed, ANALYZER)
    assert len(query.phrases) + len(query.excluded) <= MAX_OPERATORS
    assert len(query.names) <= MAX_NAMES
    for word in typed_words(query.text, ANALYZER):
        assert query.text[word.start : word.end].strip()


@given(st.lists(st.sampled_from(["pay", "ERR-4032", "Zürich", "the"]), max_size=8))
def test_words_are_replaced_in_their_places(typed: list[str]) -> None:
    text = " ".join(typed)
    words = [word for word in typed_words(text, ANALYZER) if word.text == "pay"]
    replaced = replace_words(text, [(word, "payment") for word in words])
    assert replaced.split() == [{"pay": "payment"}.get(word, word) for word in typed]
