"""The console's page, as far as it is pure. Its drawing is exercised in a browser by
the console's tests.
"""

from shoal_search.analyzer import Analyzer
from shoal_search.page import highlight


def test_words_of_the_query_are_marked_and_html_escaped(analyzer: Analyzer) -> None:
    shown = highlight("<b>Plans</b> & planning", {"plan"}, analyzer)
    assert shown == "&lt;b&gt;<mark>Plans</mark>&lt;/b&gt; &amp; <mark>planning</mark>"


def test_a_word_of_several_terms_is_marked_once(analyzer: Analyzer) -> None:
    assert highlight("see ERR-4032", {"err", "4032", "err4032"}, analyzer).count("4032") == 1
