"""What may be typed next: titles and completed words, of what the asker may see."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shoal import AnyOf, Equals, VectorCondition

from .analyzer import Analyzer
from .query_text import QueryText, TypedWord, typed_words
from .scopes import Scope
from .snippets import find_highlights
from .word_keys import MIN_BEGINNING, beginning_key

MAX_WORDS = 8
"""Words before the last that an item must have."""
SAMPLE = 50
"""Items with what was typed that are read, the newest first."""
FIELDS = ("board", "type", "title", "surface")


@dataclass(frozen=True, slots=True)
class Suggested:
    """Suggestions: whole queries, and rows of items with their titles' highlights."""

    queries: list[str]
    rows: list[tuple[dict[str, Any], list[tuple[int, int]]]]


async def suggest(scope: Scope, query: QueryText, analyzer: Analyzer, limit: int) -> Suggested:
    """Suggest from the newest items that have what was typed.

    Args:
        scope: Where.
        query: What was typed; its last word may be only begun.
        analyzer: Finds words.
        limit: How many items, and how many queries at most.
    """
    words = typed_words(query.text, analyzer)
    begun = None if query.is_complete or not words else words[-1]
    having = [AnyOf("words", way) for word in words if word != begun for way in word.ways]
    conditions: list[VectorCondition] = [*having[-MAX_WORDS:]]
    if begun is not None and len(begun.text) >= MIN_BEGINNING:
        conditions.append(Equals("keys", beginning_key(begun.text)))
    elif not conditions:
        return Suggested([], [])
    page = await scope.stores.vectors.rows(
        scope.collection,
        limit=SAMPLE,
        sort="updated",
        descending=True,
        filter=[*scope.filter, *conditions],
        fields=FIELDS,
    )
    rows = page.rows
    if begun is not None:
        rows = [row for row in rows if _completions(row, begun)]
    titles = _titles(rows, words, begun, analyzer)[:limit]
    return Suggested(_queries(rows, query.text, begun)[:limit], titles)


def _completions(row: Mapping[str, Any], begun: TypedWord) -> list[str]:
    return [word for word in row["surface"].split() if word.startswith(begun.text)]


def _queries(rows: Sequence[Mapping[str, Any]], text: str, begun: TypedWord | None) -> list[str]:
    """The query with its last word completed, the most frequent words first."""
    if begun is None:
        return []
    counts = Counter(word for row in rows for word in _completions(row, begun))
    counts.pop(begun.text, None)
    ordered = sorted(counts, key=lambda word: (-counts[word], word))
    return [text[: begun.start] + word for word in ordered]


def _titles(
    rows: Sequence[dict[str, Any]],
    words: Sequence[TypedWord],
    begun: TypedWord | None,
    analyzer: Analyzer,
) -> list[tuple[dict[str, Any], list[tuple[int, int]]]]:
    """The titles that have what was typed: first those that begin so."""
    typed = [word.text for word in words]
    asked = {term for word in words if word != begun for term in word.terms}
    found = []
    for place, row in enumerate(rows):
        in_title = analyzer.words(row["title"])
        if begun is not None and not any(word.startswith(begun.text) for word in in_title):
            continue
        marks = find_highlights(row["title"], asked, analyzer)
        if begun is not None:
            marks = sorted({*marks, *_begun(row["title"], begun, analyzer)})
        if not marks:
            continue
        is_start = in_title[: len(typed) - 1] == typed[:-1] and (
            in_title[len(typed) - 1 : len(typed)] or [""]
        )[0].startswith(typed[-1])
        found.append((not is_start, place, row, marks))
    distinct: dict[str, tuple[dict[str, Any], list[tuple[int, int]]]] = {}
    for _, _, row, marks in sorted(found, key=lambda one: one[:2]):
        distinct.setdefault(row["title"], (row, marks))
    return list(distinct.values())


def _begun(title: str, begun: TypedWord, analyzer: Analyzer) -> list[tuple[int, int]]:
    """Where words of a title begin as the last word does, as far as it was typed."""
    size = begun.end - begun.start
    return [
        (word.start, min(word.start + size, word.end))
        for word in typed_words(title, analyzer)
        if word.text.startswith(begun.text)
    ]
