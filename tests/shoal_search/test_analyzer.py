"""Analyzer."""

import re
import unicodedata
from collections import Counter

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


@pytest.mark.parametrize(
    "one, other",
    [
        ("ERR-4032", "err4032"),
        ("ERR-4032", "4032"),
        ("PROJ_123", "proj123"),
        ("version 2.10.1", "2.10.1"),
        ("Mu\u0308ller", "Müller"),
        ("résumé", "resume"),
        ("André", "Andre"),
        ("Kovačević", "Kovacevic"),
        ("Łukasz", "Lukasz"),
        ("Søren", "Soren"),
        ("Søren", "Soeren"),
        ("Đorđe", "Dorde"),
        ("Þór", "Thor"),
        ("Æther", "aether"),
        ("Straße", "Strasse"),
        ("München", "Muenchen"),
        ("München", "Munchen"),
        ("שָׁלוֹם", "שלום"),
        ("مُحَمَّد", "محمد"),
        ("أحمد", "احمد"),
        ("हिन्दी में", "हिन्दी"),
        ("Ёлка", "елка"),
        ("Ὀδυσσεύς", "ΟΔΥΣΣΕΥΣ"),
        ("ﾃﾞｰﾀﾍﾞｰｽ", "データベース"),
        ("co\u00adoperate", "cooperate"),
        ("한국어를 배웁니다", "한국어"),
        ("สวัสดีชาวโลก", "ชาวโลก"),
        ("İstanbul", "istanbul"),
        ("東京都", "東京"),
    ],
)
def test_one_spelling_has_a_term_of_the_other(one: str, other: str, analyzer: Analyzer) -> None:
    wanted, found = analyzer.stems(other), set(analyzer.stems(one))
    assert wanted
    assert set(wanted) & found
    assert set(analyzer.stems(other.upper())) & found


def test_a_long_sound_is_no_word(analyzer: Analyzer) -> None:
    assert not set(analyzer.stems("ラーメン")) & set(analyzer.stems("タワー"))


@pytest.mark.parametrize("one, other", [("मेल", "माल"), ("ก่อน", "กอน"), ("が", "か"), ("हूँ", "हू")])
def test_marks_that_make_another_word_are_kept(one: str, other: str) -> None:
    assert set(Analyzer("german").stems(one)) != set(Analyzer("german").stems(other))


@settings(deadline=None)
@given(st.text(max_size=100))
def test_terms_do_not_depend_on_the_form_of_unicode(text: str) -> None:
    terms = Counter(ANALYZER.stems(unicodedata.normalize("NFC", text)))
    assert Counter(ANALYZER.stems(unicodedata.normalize("NFD", text))) == terms


@settings(deadline=None)
@given(st.text(max_size=300))
def test_tokens_stand_where_they_say(text: str) -> None:
    text = unicodedata.normalize("NFC", text)
    for stem, start, end in ANALYZER.tokens(text):
        assert 0 <= start < end <= len(text)
        assert stem == "" or stem in ANALYZER.stems(text[start:end])


def test_scripts_without_spaces_are_split_into_characters_and_pairs(analyzer: Analyzer) -> None:
    assert set(analyzer.stems("产品")) == {"产", "品", "产品"}
    assert analyzer.words("产品路线图") == ["产", "品", "路", "线", "图"]


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
        ("zueg", "Züge"),
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
