"""What was meant by words that were mistyped or only begun."""

import asyncio
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Literal

from shoal import AnyOf, Equals, Not, VectorCondition, off_loop

from .analyzer import Analyzer
from .query_text import QueryText, TypedWord
from .scopes import Scope
from .word_keys import (
    MIN_BEGINNING,
    beginning_key,
    may_be_typo,
    similar_words,
    typo_keys,
    word_keys,
    words_beginning,
)

MAX_CORRECTED = 8
"""Unknown words of one query that are corrected."""
MAX_MEANT = 5
"""Words that one may be the beginning of."""
SAMPLE = 50
"""Of the items with such words, how many are read, the newest first."""
ROUNDS = 4
"""Times that they are read, without the words of those before, until one is like it."""
CERTAINTY: dict[str, float] = {"typo": 0.9, "beginning": 0.9}
"""What the words that may have been meant weigh, beside 1 as typed."""


Kind = Literal["typo", "beginning"]


@dataclass(frozen=True, slots=True)
class Correction:
    """What may have been meant by a word that no item has.

    Attributes:
        word: As it was typed.
        meant: The words that it may stand for, the most likely first.
        terms: The terms of these.
        kind: Whether it has a mistake, or is only begun.
    """

    word: TypedWord
    meant: tuple[str, ...]
    terms: tuple[str, ...]
    kind: Kind


async def find_corrections(
    scope: Scope,
    query: QueryText,
    words: Sequence[TypedWord],
    frequency: Mapping[str, int],
    analyzer: Analyzer,
) -> list[Correction]:
    """What may have been meant by those words of a query that no item has.

    Only words of the scope's items are considered. The last word may be only begun,
    unless something was typed after it.
    """
    unknown = [
        word
        for word in words
        if word.terms
        and not any(frequency.get(term, 1) for term in word.terms)
        and analyzer.words(query.text[word.start : word.end]) == [word.text]
    ]
    last = None if query.is_complete or not words else words[-1].end
    known = min(((count, term) for term, count in frequency.items() if count), default=(0, None))[1]

    async def correct(word: TypedWord) -> Correction | None:
        kind: Kind = "beginning"
        meant = await _complete(scope, word, known) if word.end == last else []
        if not meant:
            kind, meant = "typo", await _without_typos(scope, word, analyzer)
        terms = dict.fromkeys(term for other in meant for term in analyzer.stems(other))
        return Correction(word, tuple(meant), tuple(terms), kind) if terms else None

    found = await asyncio.gather(*(correct(word) for word in unknown[:MAX_CORRECTED]))
    return [correction for correction in found if correction is not None]


async def _complete(scope: Scope, word: TypedWord, beside: str | None) -> list[str]:
    """What a word may be the beginning of, first in items with another of the words."""
    meant: list[str] = []
    if len(word.text) >= MIN_BEGINNING:
        begun = Equals("keys", beginning_key(word.text))
        places = [scope, *([scope.within(Equals("words", beside))] if beside else [])]
        seen = await asyncio.gather(*(words_near(place, begun) for place in places))
        meant = [
            other for words, _ in reversed(seen) for other in words_beginning(word.text, words)
        ]
    return list(dict.fromkeys(meant))[:MAX_MEANT]


async def _without_typos(scope: Scope, word: TypedWord, analyzer: Analyzer) -> list[str]:
    """What a word with a mistake may stand for."""
    if not may_be_typo(word.text):
        return []
    keys = typo_keys(word.text)
    unlike = set[str]()
    for _ in range(ROUNDS):
        place = scope.within(Not(AnyOf("words", unlike))) if unlike else scope
        seen, items = await words_near(place, AnyOf("keys", keys))
        meant = [other for other, _ in similar_words(word.text, seen)]
        if meant or items < SAMPLE:
            return meant
        # Words with the same keys fill the sample, without being like this one.
        others = await off_loop(_with_keys, set(seen), keys)
        terms = {term for other in others for term in analyzer.stems(other)}
        if terms <= unlike:
            break
        unlike |= terms
    return []


def _with_keys(words: Collection[str], keys: Set[str]) -> list[str]:
    return [word for word in words if not keys.isdisjoint(word_keys([word]))]


async def words_near(scope: Scope, condition: VectorCondition) -> tuple[list[str], int]:
    """The words of the newest items that fulfil a condition, once for each item.

    Returns:
        The words, and the number of items.
    """
    page = await scope.stores.vectors.rows(
        scope.collection,
        limit=SAMPLE,
        sort="updated",
        descending=True,
        filter=[*scope.filter, condition],
        fields=["surface"],
    )
    words = [word for row in page.rows for word in (row["surface"] or "").split()]
    return words, len(page.rows)
