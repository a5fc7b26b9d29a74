"""Text as a list of terms, the unit of keyword search.

A word that people write in several ways has several terms, so that each way finds
the others: `München` is `munchen` and `muenchen`; `ERR-4032` is `err`, `4032` and
`err4032`; `会社` is `会`, `社` and `会社`, which tells it from `社会`.

Milvus's own analyzers cannot do this, so it gets terms joined by spaces. Its `standard`
tokenizer splits exactly there: a term consists of letters and digits only.
"""

from collections.abc import Iterator, Set
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import snowballstemmer

from .words import compound, find_words, fold, pairs, parts, pieces

MAX_TOKEN = 64
"""Characters of a word that count."""
MAX_STEMS_BYTES = 65_000
"""UTF-8 bytes of terms kept of one text; a Milvus VARCHAR takes 65,535."""

ENGLISH = frozenset(
    """
    i me my myself we our ours ourselves you your yours yourself yourselves he him his
    himself she her hers herself it its itself they them their theirs themselves what
    which who whom this that these those am is are was were be been being have has had
    having do does did doing would should could ought a an the and but if or because as
    until while of at by for with about against between into through during before after
    above below to from up down in out on off over under again further then once here
    there when where why how all any both each few more most other some such no nor not
    only own same so than too very don isn aren wasn weren hasn haven hadn doesn didn
    wouldn shouldn couldn mustn ll ve re s t
    """.split()  # noqa: SIM905
)
"""The stop words of Snowball's English stemmer
(https://snowballstem.org/algorithms/english/stop.txt), contractions in pieces.
"""

SPELLED_OUT = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ø": "oe", "å": "aa"})
"""How these letters are written where a keyboard lacks them."""


class Token(NamedTuple):
    """A term and the place of its word in the text, in characters.

    The term of a stop word is empty. A word with several terms has a token for each.
    """

    stem: str
    start: int
    end: int


class Analyzer:
    """Splits text into words and reduces them to terms, for one language.

    >>> Analyzer("english").stems("The wings, swept back, were flying")
    ['wing', 'swept', 'back', 'fli']
    """

    def __init__(self, language: str = "english") -> None:
        try:
            self._stemmer: Any = snowballstemmer.stemmer(language)
        except KeyError:
            raise ValueError(
                f"{language!r} is not a language of Snowball: "
                f"{', '.join(snowballstemmer.algorithms())}"
            ) from None
        self._english = language == "english"
        self._terms_of_word = lru_cache(maxsize=200_000)(self._find_terms)
        self._folded_parts = lru_cache(maxsize=200_000)(_fold_parts)
        self._terms_of_compound = lru_cache(maxsize=50_000)(self._join_terms)

    def tokens(self, text: str) -> Iterator[Token]:
        """The terms of a text, in order, each with the place of its word."""
        for words in find_words(text):
            for word, start, end in words:
                for term in self._terms_of_word(word):
                    yield Token(term, start, end)
            if len(words) > 1:
                for term in self._terms_of_compound(tuple(word for word, _, _ in words)):
                    yield Token(term, words[0][1], words[-1][2])

    def places(self, text: str, terms: Set[str]) -> Iterator[tuple[int, int]]:
        """Where the words with some terms are in a text, in order; of a word of several
        parts such as `10.2.0.7`, only the parts with these terms.
        """
        for words in find_words(text):
            joined = len(words) > 1 and self._terms_of_compound(tuple(w for w, _, _ in words))
            if joined and not terms.isdisjoint(joined):
                yield words[0][1], words[-1][2]
                continue
            for word, start, end in words:
                if not terms.isdisjoint(self._terms_of_word(word)):
                    yield from self._places_in(word, start, end, terms)

    def _places_in(
        self, word: str, start: int, end: int, terms: Set[str]
    ) -> Iterator[tuple[int, int]]:
        parted = pieces(word)
        marks = [
            (start + place, start + stop)
            for piece, place, stop in parted
            if not terms.isdisjoint(self._terms_of_word(piece))
        ]
        marks += [
            (start + place, start + stop)
            for (one, place, _), (other, _, stop) in pairwise(parted)
            if not terms.isdisjoint(pairs(one + other))
        ]
        is_whole = len(marks) == len(parted) or not terms.isdisjoint(self._join_terms((word,)))
        yield from [(start, end)] if is_whole or not marks else sorted(marks)

    def stems(self, text: str) -> list[str]:
        """The terms of a text, in order, without stop words."""
        return [token.stem for token in self.tokens(text) if token.stem]

    def words(self, text: str) -> list[str]:
        """The words of a text as they are written, but for case, width and accents.

        >>> Analyzer("english").words("The Café's wings, ERR-4032")
        ['the', 'cafe', 's', 'wings', 'err', '4032']
        """
        return [
            part
            for words in find_words(text)
            for word, _, _ in words
            for part in self._folded_parts(word)
        ]

    def indexed(self, text: str) -> str:
        """The terms joined by spaces, as Milvus gets them, cut at `MAX_STEMS_BYTES`."""
        joined = " ".join(self.stems(text))
        if len(joined) * 4 <= MAX_STEMS_BYTES or len(data := joined.encode()) <= MAX_STEMS_BYTES:
            return joined
        return data[:MAX_STEMS_BYTES].decode(errors="ignore").rpartition(" ")[0]

    def _find_terms(self, word: str) -> tuple[str, ...]:
        found = [term for part in parts(word) for term in self._spellings(part)]
        return (*found, *pairs(word), *self._join_terms((word,)))

    def _join_terms(self, words: tuple[str, ...]) -> tuple[str, ...]:
        whole = compound(words)
        return tuple(self._spellings(whole)) if whole else ()

    def _spellings(self, word: str) -> list[str]:
        """The stems of the ways to write a word; an empty one of a stop word.

        A stemmer may know its language's accents, so it sees the word with and without.
        """
        word = word[:MAX_TOKEN]
        if self._english and word in ENGLISH:
            return [""]
        ways = [fold(word)]
        if not word.isascii():
            ways += [fold(word.translate(SPELLED_OUT)), *([] if self._english else [word])]
        return list(dict.fromkeys(fold(self._stemmer.stemWord(way)) for way in ways))


def _fold_parts(word: str) -> tuple[str, ...]:
    return tuple(fold(part[:MAX_TOKEN]) for part in parts(word))
