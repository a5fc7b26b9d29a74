"""Analyzer."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal_search.analyzer import MAX_STEMS_BYTES, Analyzer

ANALYZER = Analyzer()


def test_inflections_have_one_stem(analyzer: Analyzer) -> None:
    assert set(analyzer.stems("plan planned planning plans")) == {"plan"}


def test_stop_words_and_contractions_have_no_stem(analyzer: Analyzer) -> None:
    text = "The team's plan isn't to be for all of us, don't"
    assert analyzer.stems(text) == ["team", "plan", "us"]


def test_case_width_and_accents_do_not_matter(analyzer: Analyzer) -> None:
    assert analyzer.stems("CAFÉ café cafe ｃａｆｅ") == ["cafe"] * 4


def test_identifiers_are_split_as_milvus_splits_them(analyzer: Analyzer) -> None:
    assert analyzer.stems("user_id SHOAL-1234 v2.3") == ["user", "id", "shoal", "1234", "v2", "3"]


def test_scripts_without_spaces_are_split_into_characters(analyzer: Analyzer) -> None:
    assert analyzer.stems("产品路线图") == ["产", "品", "路", "线", "图"]


def test_another_language_has_its_own_stems() -> None:
    assert Analyzer("german").stems("Rechnungen Rechnung") == ["rechnung", "rechnung"]


def test_an_unknown_language_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"klingon.*english"):
        Analyzer("klingon")


def test_tokens_say_where_each_word_stands(analyzer: Analyzer) -> None:
    text = "Plans for Züge"
    assert [(stem, text[a:b]) for stem, a, b in analyzer.tokens(text)] == [
        ("plan", "Plans"),
        ("", "for"),
        ("zuge", "Züge"),
    ]


@settings(deadline=None)
@given(st.text(max_size=300))
def test_milvus_standard_tokenizer_gives_back_the_stems(text: str) -> None:
    stems = ANALYZER.stems(text)
    assert re.findall(r"\w+", ANALYZER.indexed(text)) == stems


def test_what_is_indexed_fits_a_varchar(analyzer: Analyzer) -> None:
    for text in ("路" * 60_000, "ﷺ " * 30_000, "word " * 30_000, "x" * 200_000):
        indexed = analyzer.indexed(text)
        assert len(indexed.encode()) <= MAX_STEMS_BYTES
        assert "\ufffd" not in indexed
