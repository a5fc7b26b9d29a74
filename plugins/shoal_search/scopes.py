"""What a search is about: the items that pass its filters, phrases and exclusions."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from shoal import AnyOf, Equals, Not, Stores, VectorCondition, off_loop

from .analyzer import Analyzer
from .query_text import QueryText

MAX_PHRASE_ITEMS = 5_000
"""Items with all words of a phrase that are read to see whether they have it."""
MAX_PHRASE_TERMS = 12
"""Different terms of a phrase that are looked up; all its words are compared."""


@dataclass(frozen=True)
class Scope:
    """The items that a search is about.

    Attributes:
        stores: The tenant's.
        tenant: The tenant.
        collection: The collection.
        filter: What the asker may see, and what they filter by.
    """

    stores: Stores
    tenant: str
    collection: str
    filter: tuple[VectorCondition, ...]

    async def count(self, *more: VectorCondition) -> int:
        """How many of the items fulfil some more conditions."""
        return await self.stores.vectors.count(self.collection, filter=[*self.filter, *more])

    def within(self, *more: VectorCondition) -> "Scope":
        """Those of the items that fulfil some more conditions."""
        return replace(self, filter=(*self.filter, *more))

    @cached_property
    def key(self) -> bytes:
        """Identifies the scope among all tenants'."""
        name = repr((self.tenant, self.collection, self.filter))
        return hashlib.sha256(name.encode()).digest()


async def narrow(scope: Scope, query: QueryText, analyzer: Analyzer) -> Scope:
    """The scope without items that lack a phrase of the query or have an exclusion.

    What stands in an item as it was typed, hyphens included, was pasted and excludes
    nothing.
    """
    is_pasted = query.excluded and await _items_with(scope, query.typed, analyzer, literally=True)
    for excluded in () if is_pasted else query.excluded:
        words = analyzer.words(excluded)
        terms = analyzer.stems(excluded)
        if len(words) == 1 and terms:
            scope = scope.within(Not(AnyOf("words", terms)))
        elif ids := await _items_with(scope, excluded, analyzer):
            scope = scope.within(Not(AnyOf("id", ids)))
    for phrase in query.phrases:
        scope = scope.within(AnyOf("id", await _items_with(scope, phrase, analyzer)))
    return scope


async def _items_with(
    scope: Scope, phrase: str, analyzer: Analyzer, *, literally: bool = False
) -> list[str]:
    """The items whose title or text has a phrase, word for word, without regard to case
    and accents, or literally but for case and the width of spaces; of more than
    `MAX_PHRASE_ITEMS` with its words, the newest are read.
    """
    terms = list(dict.fromkeys(analyzer.stems(phrase)))[:MAX_PHRASE_TERMS]
    page = await scope.stores.vectors.rows(
        scope.collection,
        limit=MAX_PHRASE_ITEMS,
        sort="updated",
        descending=True,
        filter=[*scope.filter, *(Equals("words", term) for term in terms)],
        fields=["title", "body"],
    )
    wanted, text = analyzer.words(phrase), _in_one_case(phrase)

    def has_phrase(part: str) -> bool:
        return text in _in_one_case(part) if literally else _has(analyzer.words(part), wanted)

    def having(rows: Sequence[Mapping[str, Any]]) -> list[str]:
        return sorted(
            row["id"]
            for row in rows
            if any(has_phrase(row[part] or "") for part in ("title", "body"))
        )

    return await off_loop(having, page.rows)


def _in_one_case(text: str) -> str:
    return " ".join(text.split()).casefold()


def _has(words: Sequence[str], phrase: Sequence[str]) -> bool:
    size = len(phrase)
    return any(words[i : i + size] == phrase for i in range(len(words) - size + 1))
