"""Which words of a query are so rare that they name what is looked for."""

import re
from collections.abc import Mapping, Sequence

from .query_text import TypedWord

MAX_CODE = 5
"""Items that may have a code, such as a ticket and what was written about it."""
SENTENCE = 12
"""Different terms of a query that is no longer than a sentence.

In a longer one a word that a single item has is often there by accident.
"""
CODE = re.compile(r"[^\W\d_]+.*\d.*|\d{4,}")
"""Letters, then digits; or a number of four digits and more."""
SENTENCE_END = frozenset('.!?:;"“”„«»()[]\n')


def rare_terms(
    text: str, words: Sequence[TypedWord], frequency: Mapping[str, int]
) -> tuple[set[str], set[str]]:
    """The terms of a query that few items have.

    Args:
        text: The query.
        words: Its words.
        frequency: In how many of the items that the asker may see a term occurs.

    Returns:
        The codes that at most five items have; and the other words that one item has,
        which are all in a query of a sentence, and in a longer one those with a capital
        inside a sentence, which are names.
    """
    short = is_short(words)
    codes: set[str] = set()
    others: set[str] = set()
    for word in words:
        is_name = short or _is_name(text, word)
        for term in word.terms:
            items = frequency.get(term, 0)
            if CODE.fullmatch(term) and 0 < items <= MAX_CODE:
                codes.add(term)
            elif items == 1 and is_name:
                others.add(term)
    return codes, others


def is_short(words: Sequence[TypedWord]) -> bool:
    """Whether a query is no longer than a sentence."""
    return len({term for word in words for term in word.terms}) <= SENTENCE


def _is_name(text: str, word: TypedWord) -> bool:
    before = text[: word.start].rstrip(" \t")
    return text[word.start].isupper() and bool(before) and before[-1] not in SENTENCE_END
