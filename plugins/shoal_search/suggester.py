"""What may be typed next: titles and completed words, of what the asker may see."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shoal import AnyOf, Equals, VectorCondition

from .analyzer import Analyzer
from .query_text import QueryText, marked_terms, typed_words
from .scopes import Scope
from .snippets import find_highlights
from .word_keys import MIN_BEGINNING, beginning_key
from .words import IDEOGRAPH, find_words, pieces

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


@dataclass(frozen=True, slots=True)
class _Typed:
    """What was typed.

    Attributes:
        words: All words, the parts of codes and names apart, folded.
        ways: One term of each of these an item must have.
        begun: The last word, where it may be only begun.
        start: Where that begins, in characters.
    """

    words: list[str]
    ways: list[tuple[str, ...]]
    begun: str | None = None
    start: int = 0


def _read(query: QueryText, analyzer: Analyzer) -> _Typed:
    """The words of a query; of a last one such as `O'Re` or `ERR-40`, the last part is
    begun, and those before it are not. Ideographs are words that are complete.
    """
    text = query.text
    words, typed = typed_words(text, analyzer), _parts(text, analyzer)
    last = [word for word in words if word.end == words[-1].end]
    before = [way for word in words if word not in last for way in word.ways]
    if not last or query.is_complete or IDEOGRAPH.search(text, last[-1].start):
        return _Typed(typed, before + [way for word in last for way in word.ways])
    *known, begun = _parts(text[last[-1].start :], analyzer)
    before += [tuple(terms) for part in known if (terms := analyzer.stems(part))]
    start = last[-1].end - len(begun) if known else last[-1].start
    return _Typed(typed, before, begun, start)


def _parts(text: str, analyzer: Analyzer) -> list[str]:
    """The words of a text; codes in their parts only."""
    words = analyzer.words(text)
    return [
        w for i, w in enumerate(words) if len(words) < i + 3 or w != words[i + 1] + words[i + 2]
    ]


async def suggest(scope: Scope, query: QueryText, analyzer: Analyzer, limit: int) -> Suggested:
    """Suggest from the newest items that have what was typed.

    Args:
        scope: Where.
        query: What was typed; its last word may be only begun.
        analyzer: Finds words.
        limit: How many items, and how many queries at most.
    """
    typed = _read(query, analyzer)
    conditions: list[VectorCondition] = [AnyOf("words", way) for way in typed.ways[-MAX_WORDS:]]
    if typed.begun is not None and len(typed.begun) >= MIN_BEGINNING:
        conditions.append(Equals("keys", beginning_key(typed.begun)))
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
    if typed.begun is not None:
        rows = [row for row in rows if _completions(row, typed.begun)]
    return Suggested(
        _queries(rows, query.text, typed)[:limit], _titles(rows, typed, analyzer)[:limit]
    )


def _completions(row: Mapping[str, Any], begun: str) -> list[str]:
    return [word for word in row["surface"].split() if word.startswith(begun)]


def _queries(rows: Sequence[Mapping[str, Any]], text: str, typed: _Typed) -> list[str]:
    """The query with its last word completed, the most frequent words first."""
    if typed.begun is None:
        return []
    counts = Counter(word for row in rows for word in _completions(row, typed.begun))
    counts.pop(typed.begun, None)
    ordered = sorted(counts, key=lambda word: (-counts[word], word))
    return [text[: typed.start] + word for word in ordered]


def _titles(
    rows: Sequence[dict[str, Any]], typed: _Typed, analyzer: Analyzer
) -> list[tuple[dict[str, Any], list[tuple[int, int]]]]:
    """The titles that have what was typed: first those that begin so."""
    asked = marked_terms({term for way in typed.ways for term in way})
    found = []
    for place, row in enumerate(rows):
        in_title = _parts(row["title"], analyzer)
        marks = find_highlights(row["title"], asked, analyzer)
        if typed.begun is not None:
            begun = _begun(row["title"], typed.begun, analyzer)
            if not begun:
                continue
            apart = [
                (a, b) for a, b in begun if all(b <= start or end <= a for start, end in marks)
            ]
            marks = sorted([*marks, *apart])
        if not marks:
            continue
        found.append((not _begins(in_title, typed), place, row, marks))
    distinct: dict[str, tuple[dict[str, Any], list[tuple[int, int]]]] = {}
    for _, _, row, marks in sorted(found, key=lambda one: one[:2]):
        distinct.setdefault(row["title"], (row, marks))
    return list(distinct.values())


def _begins(title: Sequence[str], typed: _Typed) -> bool:
    """Whether a title begins with what was typed."""
    *before, last = typed.words
    size = len(before)
    return title[:size] == before and title[size : size + 1] != [] and title[size].startswith(last)


def _begun(title: str, begun: str, analyzer: Analyzer) -> list[tuple[int, int]]:
    """Where words of a title begin as the last word does, as far as it was typed."""
    marks = []
    for word, at, _ in (word for words in find_words(title) for word in words):
        for piece, start, end in pieces(word):
            first, *others = analyzer.words(piece) or [""]
            if first.startswith(begun):
                marks.append((at + start, at + min(start + len(begun), end)))
            elif any(other.startswith(begun) for other in others):
                marks.append((at + start, at + end))
    return marks
