"""Keys by which the store finds items with words like one that was typed.

A word's keys are its beginnings, its two halves, and what is around its middle. One
mistake (a letter too many, too few or wrong, or two swapped) leaves one of the last
three as it is, so a mistyped word has a key of the right one. Two mistakes leave one of
a longer word's three parts as it is, unless two swaps are across both of their borders.
The keys of halves and parts have the word's length, so that few other words share them.
"""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from rapidfuzz.distance import OSA

MIN_BEGINNING, MAX_BEGINNING = 2, 6
"""Letters of a beginning that is a key; of a longer one, the first six count."""
MIN_TYPO, MIN_TWO_TYPOS = 4, 9
"""Letters of words, as typed, in which one mistake, and two, are put right."""
MIN_PARTS = MIN_TWO_TYPOS - 1
"""Letters of words with keys of their parts: in shorter ones these have two letters."""
MAX_WORD = 32
"""Letters of the longest word that has keys."""


class SimilarWord(NamedTuple):
    """A word that may have been meant, and the edits between it and what was typed."""

    word: str
    edits: int


def word_keys(words: Iterable[str]) -> list[str]:
    """The keys of some words of one text, sorted.

    >>> word_keys(["plan"])
    ['<pl', '<pla', '<plan', '4an', '4p-n', '4pl']
    """
    keys: set[str] = set()
    for word in set(words):
        if is_keyed(word):
            keys.update(_beginnings(word))
            if len(word) >= MIN_TYPO - 1 and word.isalpha():
                keys.update(_halves(word, len(word)))
                if len(word) >= MIN_PARTS:
                    keys.update(_parts(word, len(word), 0))
    return sorted(keys)


def is_keyed(word: str) -> bool:
    """Whether a word has keys."""
    return MIN_BEGINNING <= len(word) <= MAX_WORD


def beginning_key(beginning: str) -> str:
    """The key of the words that begin so, where it has at least two letters."""
    return f"<{beginning[:MAX_BEGINNING]}"


def typo_keys(word: str) -> set[str]:
    """The keys that a word has one of, if a mistake made it this one, or two did."""
    keys = {key for size in (-1, 0, 1) for key in _halves(word, len(word) + size)}
    if len(word) >= MIN_TWO_TYPOS:
        lengths = range(max(len(word) - 2, MIN_PARTS), len(word) + 3)
        keys |= {key for size in lengths for at in range(-2, 3) for key in _parts(word, size, at)}
    return keys


def may_be_typo(word: str) -> bool:
    """Whether a word is one in which mistakes are put right: letters, four or more."""
    return MIN_TYPO <= len(word) < MAX_WORD and word.isalpha()


def similar_words(word: str, found: Iterable[str], *, limit: int = 3) -> list[SimilarWord]:
    """The words that a mistyped one may stand for, the most likely first.

    Args:
        word: As typed, at least four letters.
        found: Words that were read, as often as they were.
        limit: How many at most.

    Returns:
        Those one edit away, or two where the word has nine letters and more; the fewest
        edits first, then those with the same first letter, then the most frequent.
    """
    most = 2 if len(word) >= MIN_TWO_TYPOS else 1
    counts = Counter(found)
    similar = [
        (edits, other[:1] != word[:1], -times, other)
        for other, times in counts.items()
        if other.isalpha() and 0 < (edits := OSA.distance(word, other, score_cutoff=most)) <= most
    ]
    return [SimilarWord(other, edits) for edits, _, _, other in sorted(similar)[:limit]]


def words_beginning(beginning: str, found: Iterable[str], *, limit: int = 5) -> list[str]:
    """The words that begin so and are longer, the most frequent first."""
    counts = Counter(
        word for word in found if len(word) > len(beginning) and word.startswith(beginning)
    )
    return [word for word, _ in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))][
        :limit
    ]


def _beginnings(word: str) -> Iterable[str]:
    return (f"<{word[:size]}" for size in range(MIN_BEGINNING, min(len(word), MAX_BEGINNING) + 1))


def _parts(word: str, length: int, shift: int) -> tuple[str, str, str]:
    """The first third, the last, and what is between them.

    Args:
        word: Gives the letters.
        length: Of the word whose keys these would be.
        shift: How many letters later the part between them is.
    """
    third = length // 3
    return (
        f"{length}^{word[:third]}",
        f"{length}${word[-third:]}",
        f"{length}~{word[third + shift : length - third + shift]}",
    )


def _halves(word: str, length: int) -> tuple[str, str, str]:
    """The first half, the second, and the ends without the middle two letters.

    Args:
        word: Gives the letters.
        length: Of the word whose keys these would be.
    """
    half = length // 2
    rest = length - half
    return (
        f"{length}{word[:half]}",
        f"{length}{word[-rest:]}",
        f"{length}{word[: half - 1]}-{word[-(rest - 1) :]}",
    )
