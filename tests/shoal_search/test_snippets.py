"""Snippets."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal_search.analyzer import Analyzer
from shoal_search.query_text import marked_terms
from shoal_search.snippets import find_highlights, snippet

WORDS = Analyzer()
FILLER = "nothing of note happened here and " * 40


def test_a_short_text_is_its_own_snippet(analyzer: Analyzer) -> None:
    assert snippet("All  is\nwell.", ["well"], analyzer) == "All is well."


def test_it_shows_the_words_that_were_looked_for(analyzer: Analyzer) -> None:
    text = FILLER + "the invoices were late " + FILLER
    shown = snippet(text, analyzer.stems("late invoice"), analyzer)
    assert "the invoices were late" in shown
    assert shown.startswith("…")
    assert shown.endswith("…")


def test_where_more_of_the_words_stand_together_is_better(analyzer: Analyzer) -> None:
    text = "invoice " + FILLER + "a late invoice from the supplier " + FILLER
    assert "late invoice from the supplier" in snippet(
        text, analyzer.stems("late supplier invoice"), analyzer
    )


def test_without_any_of_the_words_it_is_the_beginning(analyzer: Analyzer) -> None:
    shown = snippet("Beginning. " + FILLER, analyzer.stems("zebra"), analyzer)
    assert shown.startswith("Beginning.")


def test_words_are_not_cut(analyzer: Analyzer) -> None:
    text = " ".join(f"word{i}" for i in range(500))
    shown = snippet(text, ["word250"], analyzer).strip("…").split()
    assert set(shown) <= set(text.split())
    assert "word250" in shown


@settings(deadline=None)
@given(st.text(max_size=800), st.text(max_size=20))
def test_any_text_has_a_snippet_of_bounded_length(text: str, query: str) -> None:
    assert len(snippet(text, WORDS.stems(query), WORDS)) <= 242


@pytest.mark.parametrize(
    ("text", "query", "marked"),
    [
        ("192.168.10.77 and v2.10.3, 10%", "10%", ["10", "10", "10"]),
        ("192.168.10.77 is up", "192.168.10.77", ["192.168.10.77"]),
        ("See ERR-4032, err4032", "ERR-4032", ["ERR-4032", "err4032"]),
        ("See ERR-4032", "4032", ["4032"]),
        ("Rock'n'roll O'Reilly", "reilly", ["Reilly"]),
        ("Rock'n'roll O'Reilly", "o'reilly", ["O'Reilly"]),
        ("snake_case_names", "case", ["case"]),
        ("東京タワー", "東京", ["東京"]),
        ("東京タワー", "ラーメン", []),
        ("京都の東", "東京", []),
        ("学习 大学", "大学", ["大学"]),
        ("한국어를 배웁니다", "한국어", ["한국어를"]),
    ],
)
def test_only_the_words_of_the_query_are_marked(text: str, query: str, marked: list[str]) -> None:
    places = find_highlights(text, marked_terms(WORDS.stems(query)), WORDS)
    assert [text[start:end] for start, end in places] == marked


@settings(deadline=None)
@given(st.text(max_size=60), st.data())
def test_highlights_are_in_order_apart_and_of_words(text: str, data: st.DataObject) -> None:
    terms = WORDS.stems(text)
    asked = data.draw(st.sets(st.sampled_from(terms))) if terms else set()
    places = find_highlights(unicodedata.normalize("NFC", text), asked, WORDS)
    flat = [place for pair in places for place in pair]
    assert flat == sorted(flat)
    assert all(start < end for start, end in places)
    assert bool(places) == bool(asked)
