"""The passage of a text that shows why it was found."""

from collections import Counter, deque
from collections.abc import Collection

from .analyzer import Analyzer

LENGTH = 240
MAX_SCANNED = 20_000
"""Characters of a text that are scanned."""


def snippet(text: str, query: Collection[str], analyzer: Analyzer, *, length: int = LENGTH) -> str:
    """The earliest passage of `text` with the most different stems of the query.

    Args:
        text: The whole text.
        query: Stems to show; without any of them the beginning is shown.
        analyzer: Finds the stems of `text`.
        length: About how many characters.

    Returns:
        The passage, cut between words, with `…` where text is omitted.
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
