"""What was typed, as what is looked for."""

import re
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from .analyzer import Analyzer
from .words import pairs

MAX_QUERY = 4_096
"""Characters of a query."""
MAX_TYPED = 32
"""Words of a query that somebody types, as many as web search reads of one. A longer
one is pasted.
"""
MAX_OPERATORS = 20
"""Phrases and exclusions of one query; further ones are read as words."""
MAX_NAMES = 20
"""Pieces of one query that are looked up as an item's id or address."""
MIN_ID = 4
"""Characters of an id that is found among other words."""

QUOTES = str.maketrans("“”„‟«»", '""""""')
OPERATOR = re.compile(
    r'(?<!\S)(?P<minus>-?)"(?P<phrase>[^"]*[^"\s][^"]*)"|(?<!\S)-(?P<word>[^\W_][^\s"]+)'
)
URL = re.compile(r"https?://\S+", re.I)
AROUND = "()[]{}<>,;:.!?'\"`“”‘’«»"
"""What may stand around a pasted id without belonging to it."""


@dataclass(frozen=True, slots=True)
class TypedWord:
    """A word of a query.

    Attributes:
        text: The word, folded, as items' words are.
        terms: Its terms in the index; none of a stop word.
        start, end: Its place in `QueryText.text`, in characters.
    """

    text: str
    terms: tuple[str, ...]
    start: int
    end: int

    @property
    def ways(self) -> list[tuple[str, ...]]:
        """What an item must have that has the word: one term of each of these.

        Ideographs in another order are another word.
        """
        both: list[tuple[str, ...]] = [(term,) for term in self.terms if pairs(term) == [term]]
        return both or ([self.terms] if self.terms else [])


@dataclass(frozen=True, slots=True)
class QueryText:
    """A query in its parts.

    Attributes:
        text: What is searched by meaning and by words: all but the exclusions.
        phrases: The phrases that an item must have, word for word.
        excluded: The words and phrases that it must not have.
        is_complete: Whether the last word was typed to its end: a space or a mark
            follows.
        names: What may be the id or the address of an item.
        typed: All that was typed.
    """

    text: str
    phrases: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    is_complete: bool = True
    names: tuple[str, ...] = ()
    typed: str = ""


def read_query(typed: str, analyzer: Analyzer) -> QueryText:
    """Read a query.

    `"exact phrases"` and `-exclusions` are read only in a query of one line and of no
    more than `MAX_TYPED` words: pasted text has quotes and hyphens of its own.
    """
    typed = unicodedata.normalize("NFC", typed).strip("\r\n")
    is_pasted = "\n" in typed or len(typed.split()) > MAX_TYPED
    phrases: list[str] = []
    excluded: list[str] = []
    kept, at = [], 0
    for match in () if is_pasted else OPERATOR.finditer(typed.translate(QUOTES)):
        phrase = match["phrase"] or match["word"]
        if not analyzer.words(phrase) or len(phrases) + len(excluded) == MAX_OPERATORS:
            continue
        kept.append(typed[at : match.start()])
        if match["phrase"] and not match["minus"]:
            phrases.append(phrase)
            kept.append(f" {phrase} ")
        else:
            excluded.append(phrase)
            kept.append(" ")
        at = match.end()
    text = "".join([*kept, typed[at:]])
    return QueryText(
        text.strip(),
        tuple(dict.fromkeys(phrases)),
        tuple(dict.fromkeys(excluded)),
        is_complete=not text[-1:].isalnum(),
        names=tuple(dict.fromkeys(_names(typed)))[:MAX_NAMES],
        typed=typed,
    )


def _names(typed: str) -> Iterator[str]:
    """The query if it is one piece, addresses, their parts, and pieces with digits."""
    if len(typed.split()) == 1:
        yield typed.strip()
    pieces = [piece for raw in typed.split() for piece in (raw, raw.strip(AROUND))]
    addresses = [piece for piece in dict.fromkeys(pieces) if URL.fullmatch(piece)]
    is_alone = len(typed.split()) == 1
    for address in addresses:
        yield address
    for address in addresses:
        yield from _address_parts(address, is_alone=is_alone)
    for piece in pieces:
        if len(piece) >= MIN_ID and any(map(str.isdigit, piece)) and not URL.fullmatch(piece):
            yield piece


def _address_parts(address: str, *, is_alone: bool) -> Iterator[str]:
    """The parts of an address, the last first: one may be the id of what it shows."""
    try:
        parts = urlsplit(address)
    except ValueError:  # such as a bracket that is not closed
        return
    values = re.split(r"[&=]", parts.query)
    for part in reversed([*parts.path.split("/"), *values, *parts.fragment.split("/")]):
        if part and (is_alone or (len(part) >= MIN_ID and any(map(str.isdigit, part)))):
            yield unquote(part)


def typed_words(text: str, analyzer: Analyzer) -> list[TypedWord]:
    """The words of a text, in order; one word's spellings and parts come together."""
    found: dict[tuple[int, int], list[str]] = {}
    for stem, start, end in analyzer.tokens(text):
        found.setdefault((start, end), []).append(stem)
    return [
        TypedWord(
            "".join(analyzer.words(text[start:end])[:1]),
            tuple(dict.fromkeys(term for term in terms if term)),
            start,
            end,
        )
        for (start, end), terms in sorted(found.items())
    ]


def marked_terms(terms: Collection[str]) -> set[str]:
    """The terms of a query that are marked in an item.

    Of ideographs that stand side by side the two are, and neither by itself.
    """
    wide = [term for term in terms if not term.isascii()]
    single = {letter for term in wide for pair in pairs(term) for letter in pair}
    return {term for term in terms if term not in single}


def replace_words(text: str, replacements: Sequence[tuple[TypedWord, str]]) -> str:
    """The text with some of its words replaced."""
    for word, other in sorted(replacements, key=lambda pair: -pair[0].start):
        text = text[: word.start] + other + text[word.end :]
    return text
