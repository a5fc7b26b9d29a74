"""The part of a text that shows why it was found, and the words to mark in it."""

from collections import Counter, deque
from collections.abc import Collection

from .analyzer import Analyzer

LENGTH = 240
MAX_SCANNED = 20_000
"""Characters of a text that are scanned."""


def snippet(text: str, query: Collection[str], analyzer: Analyzer, *, length: int = LENGTH) -> str:
    """The earliest part of `text` with the most different terms of the query.

    Args:
        text: The whole text, or a passage of it.
        query: Terms to show; without any of them the beginning is shown.
        analyzer: Finds the terms of `text`.
        length: About how many characters.

    Returns:
        The part, cut between words, with `…` where text is omitted.
    """
    if len(text) <= length:
        return " ".join(text.split())
    wanted = set(query)
    window: deque[tuple[str, int, int]] = deque()
    counts: Counter[str] = Counter()
    best, best_found = (0, 0), 0
    for token in analyzer.tokens(text[:MAX_SCANNED]) if wanted else ():
        stem, _, end = token
        if stem not in wanted:
            continue
        window.append(token)
        counts[stem] += 1
        while end - window[0][1] > length:
            gone = window.popleft()[0]
            counts[gone] -= 1
            if not counts[gone]:
                del counts[gone]
        if len(counts) > best_found:
            best, best_found = (window[0][1], end), len(counts)
            if best_found == len(wanted):
                break
    margin = max(length - (best[1] - best[0]), 0)
    start = max(best[0] - margin // 3, 0)
    start = max(min(start, len(text) - length), 0)
    end = min(max(start + length, best[1]), len(text))
    if 0 < start < best[0]:
        start = _after_space(text, start, best[0])
    if best[1] < end < len(text):
        end = _before_space(text, best[1], end)
    passage = " ".join(text[start:end].split())
    return ("…" if start > 0 else "") + passage + ("…" if end < len(text) else "")


def _after_space(text: str, start: int, stop: int) -> int:
    if text[start - 1].isspace():
        return start
    return next((i + 1 for i in range(start, stop) if text[i].isspace()), start)


def _before_space(text: str, start: int, stop: int) -> int:
    if text[stop].isspace():
        return stop
    return next((i for i in range(stop, start, -1) if text[i - 1].isspace()), stop)


def find_highlights(text: str, query: Collection[str], analyzer: Analyzer) -> list[tuple[int, int]]:
    """Where the words of a query are in a text.

    Args:
        text: A title or a snippet.
        query: The terms of the query.
        analyzer: Finds the terms of `text`.

    Returns:
        [start, end) of each word, in characters (Unicode code points), in order and
        apart from each other.
    """
    found: list[tuple[int, int]] = []
    for start, end in analyzer.places(text, frozenset(query)) if query else ():
        if found and start < found[-1][1]:
            found[-1] = (min(found[-1][0], start), max(found[-1][1], end))
        else:
            found.append((start, end))
    return found
