"""Text as a list of stems, the unit of keyword search.

Milvus's own analyzers cannot stem, so it gets stems joined by spaces. Its `standard`
tokenizer splits exactly there: a stem consists of letters and digits only.
"""

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import snowballstemmer

HAN = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
TOKEN = re.compile(rf"[{HAN}]|[^\W_{HAN}]+")
"""A run of letters and digits; of scripts written without spaces, each character."""
MAX_TOKEN = 64
"""Characters of a token that count."""
MAX_STEMS_BYTES = 65_000
"""UTF-8 bytes of stems kept of one text; a Milvus VARCHAR takes 65,535."""

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

Token = tuple[str, int, int]
"""(stem, start, end): a word's stem and its place in the text, in characters. The stem
of a stop word is empty.
"""


class Analyzer:
    """Splits text into words and reduces them to stems, for one language.

    >>> Analyzer("english").stems("The wings, swept back, were flying")
    ['wing', 'swept', 'back', 'fli']
    """

    def __init__(self, language: str = "english") -> None:
        try:
            stemmer: Any = snowballstemmer.stemmer(language)
        except KeyError:
            raise ValueError(
                f"{language!r} is not a language of Snowball: "
                f"{', '.join(snowballstemmer.algorithms())}"
            ) from None
        stop = ENGLISH if language == "english" else frozenset()

        @lru_cache(maxsize=200_000)
        def stem(word: str) -> str:
            word = unicodedata.normalize("NFKC", word).casefold()
            return "" if word in stop else fold(stemmer.stemWord(word[:MAX_TOKEN]))

        self._stem = stem

    def tokens(self, text: str) -> Iterator[Token]:
        """The words of a text, in order."""
        for match in TOKEN.finditer(text):
            yield self._stem(match[0]), match.start(), match.end()

    def stems(self, text: str) -> list[str]:
        """The stems of a text, in order, without stop words."""
        return [stem for word in TOKEN.findall(text) if (stem := self._stem(word))]

    def indexed(self, text: str) -> str:
        """The stems joined by spaces, as Milvus gets them, cut at `MAX_STEMS_BYTES`."""
        joined = " ".join(self.stems(text))
        if len(joined) * 4 <= MAX_STEMS_BYTES or len(data := joined.encode()) <= MAX_STEMS_BYTES:
            return joined
        return data[:MAX_STEMS_BYTES].decode(errors="ignore").rpartition(" ")[0]


def fold(word: str) -> str:
    """The letters and digits of a word without accents: `café` becomes `cafe`."""
    if word.isascii():
        return word
    return "".join(c for c in unicodedata.normalize("NFKD", word) if c.isalnum())
