"""The console's page, as far as it is pure. Its drawing is exercised in a browser by
the console's tests.
"""

from shoal_search.analyzer import Words
from shoal_search.page import marked


def test_the_words_of_the_query_are_marked_and_all_is_escaped(words: Words) -> None:
    shown = marked("<b>Plans</b> & planning", {"plan"}, words)
    assert shown == "&lt;b&gt;<mark>Plans</mark>&lt;/b&gt; &amp; <mark>planning</mark>"
