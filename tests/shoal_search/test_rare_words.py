"""Which words of a query name what is looked for."""

import pytest

from shoal_search.analyzer import Analyzer
from shoal_search.query_text import typed_words
from shoal_search.rare_words import rare_terms

ANALYZER = Analyzer()
MAIL = (
    "hello, the page of the invoices is slow since our team moved to the new office in spring, "
    "although the network people doubled every line, "
)


@pytest.mark.parametrize(
    ("text", "frequency", "codes", "others"),
    [
        ("why does ERR-4032 happen", {"err4032": 2, "err": 90, "4032": 2}, "err4032 4032", ""),
        (MAIL + "see ERR-4032", {"err4032": 1, "err": 90, "4032": 1}, "err4032 4032", ""),
        ("why does ERR-4032 happen", {"err4032": 6, "4032": 6}, "", ""),
        ("invoice 312 is wrong", {"312": 1}, "", "312"),
        (MAIL + "page 312", {"312": 1}, "", ""),
        ("what in the 1960s", {"1960s": 2}, "", ""),
        ("ask kovacevic", {"kovacev": 1, "ask": 4}, "", "kovacev"),
        (MAIL + "ask Kovacevic", {"kovacev": 1, "ask": 4}, "", "kovacev"),
        (MAIL + "ask kovacevic", {"kovacev": 1, "ask": 4}, "", ""),
        (MAIL.rstrip(", ") + ". Kovacevic asks", {"kovacev": 1, "ask": 4}, "", ""),
        ("nobody has this", {}, "", ""),
    ],
)
def test_codes_and_names_are_rare(
    text: str, frequency: dict[str, int], codes: str, others: str
) -> None:
    found = rare_terms(text, typed_words(text, ANALYZER), frequency)
    assert found == (set(codes.split()), set(others.split()))
