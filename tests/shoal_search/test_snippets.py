"""Snippets."""

from hypothesis import given, settings
from hypothesis import strategies as st

from shoal_search.analyzer import Analyzer
from shoal_search.snippets import snippet

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
