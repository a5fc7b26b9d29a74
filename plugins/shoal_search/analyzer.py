"""Text as a list of stems, the unit of keyword search.

Milvus' own analysers cannot stem, so it is given stems joined by spaces; its `standard`
tokenizer then splits exactly there, because a stem here is made of letters and digits
only.
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
LONGEST = 64
"""Characters of a token that count: what is longer is no word."""
STEMS_BYTES = 65_000
"""UTF-8 bytes of stems kept of one text; a Milvus VARCHAR holds 65,535."""

ENGLISH = frozenset(
    """i me my myself we our ours ourselves you your yours yourself yourselves he him his himself she her hers herself it its
    itself they them their theirs themselves what which who whom this that these those am is are was were be been being have
    has had having do does did doing would should could ought a an the and but if or because as until while of at by for with
    about against between into through during before after above below to from up down in out on off over under again further
    then once here there when where why how all any both each few more most other some such no nor not only own same so than
    too very don isn aren wasn weren hasn haven hadn doesn didn wouldn shouldn couldn mustn ll ve re s t""".split()  # noqa: SIM905
)
"""The stop words of Snowball's English stemmer
(https://snowballstem.org/algorithms/english/stop.txt), contractions in pieces.
"""

Token = tuple[str, int, int]
"""(stem, start, end): a word of the text as its stem, and where it stands, in
characters. A stop word's stem is empty.
"""


class Words:
    """Stems of one language's text.

    >>> Words("english").stems("The wings, swept back, were flying")
    ['wing', 'swept', 'back', 'fli']
    """

    def __init__(self, language: str = "english") -> None:
        try:
            stemmer: Any = snowballstemmer.stemmer(language)
        except KeyError:
            raise ValueError(
                f"{language!r} is none of Snowball's languages: {', '.join(snowballstemmer.algorithms())}"
            ) from None
        stop = ENGLISH if language == "english" else frozenset()

        @lru_cache(maxsize=200_000)
        def stem(word: str) -> str:
            word = unicodedata.normalize("NFKC", word).casefold()
            return "" if word in stop else folded(stemmer.stemWord(word[:LONGEST]))

        self._stem = stem

    def tokens(self, text: str) -> Iterator[Token]:
        """The words of a text, in order."""
        for match in TOKEN.finditer(text):
            yield self._stem(match[0]), match.start(), match.end()

    def stems(self, text: str) -> list[str]:
        """The stems of a text, in order, without stop words."""
        return [stem for word in TOKEN.findall(text) if (stem := self._stem(word))]

    def indexed(self, text: str) -> str:
        """The stems as Milvus is given them: joined by spaces, cut at `STEMS_BYTES`."""
        joined = " ".join(self.stems(text))
        if len(joined) * 4 <= STEMS_BYTES or len(data := joined.encode()) <= STEMS_BYTES:
            return joined
        return data[:STEMS_BYTES].decode(errors="ignore").rpartition(" ")[0]


def folded(word: str) -> str:
    """Without accents and other marks, so that `café` is found by `cafe`; only letters
    and digits are left.
    """
    if word.isascii():
        return word
    return "".join(c for c in unicodedata.normalize("NFKD", word) if c.isalnum())
