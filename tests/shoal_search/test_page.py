"""The console's page, as far as it is pure. Its drawing is exercised in a browser by
the console's tests.
"""

from shoal_search.page import mark


def test_ranges_are_marked_and_html_escaped() -> None:
    shown = mark("<b>Plans</b> & planning", [[3, 8], [15, 23]])
    assert shown == "&lt;b&gt;<mark>Plans</mark>&lt;/b&gt; &amp; <mark>planning</mark>"


def test_a_text_without_ranges_is_escaped() -> None:
    assert mark("a < b", []) == "a &lt; b"
