"""The words of a text, by Unicode's rules, without case, width and accents."""

import re
import unicodedata
from collections.abc import Iterator, Sequence

from anyascii import anyascii
from icu4py.breakers import WordBreaker

MAX_PARTS = 5
"""Parts of a compound such as `ERR-4032`; those of a longer one count apart only."""
HYPHENS = frozenset("-\u2010\u2011")
APOSTROPHE = re.compile("['\u2019]")
POINT = "\u02d1"
"""A letter to tokenizers that stands in no text: between the numbers of `2.10.1`, and
before the code of a mark that is no accent.
"""
_HAN_AND_KANA = "[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
IDEOGRAPH, IDEOGRAPHS = re.compile(_HAN_AND_KANA), re.compile(f"{_HAN_AND_KANA}{{2,}}")
"""One, or several, of Han, Hiragana and Katakana."""
PIECE = re.compile(rf"{_HAN_AND_KANA}|(?:(?!{_HAN_AND_KANA})\S)+")
Word = tuple[str, int, int]

PROLONGED = "ー"
"""Makes the sound before it longer; by itself it is nothing."""
HANGUL = re.compile("[\uac00-\ud7a3]{2,}")
CODE = re.compile(r"([^\W\d_]{2,})(\d{2,})")
"""Letters, then digits."""


def find_words(text: str) -> Iterator[list[Word]]:
    """Split a text into words; those that single hyphens join come together.

    Each is the word and its place, [start, end) in characters of the text's composed
    form (NFC), which items have.

    >>> [[word for word, _, _ in words] for words in find_words("See ERR-4032, please")]
    [['See'], ['ERR', '4032'], ['please']]

    Source: Unicode Standard Annex #29, with ICU's dictionaries for Thai, Lao, Khmer,
    Burmese, Chinese and Japanese.
    """
    joined: list[Word] = []
    after_hyphen = False
    end = 0
    for segment in WordBreaker(unicodedata.normalize("NFC", text), "root"):
        start, end = end, end + len(segment)
        is_word = segment.isalnum() or (len(segment) > 1 and any(map(str.isalnum, segment)))
        if joined and not (after_hyphen if is_word else segment in HYPHENS and not after_hyphen):
            yield joined
            joined = []
        after_hyphen = not is_word and bool(joined)
        if is_word:
            joined.append((segment, start, end))
    if joined:
        yield joined


def parts(word: str) -> list[str]:
    """The runs of letters, marks and digits of a word, in one case and width.

    An ideograph is a part of its own. Of Korean words every two syllables in a row are,
    as particles are joined to them. Letters followed by digits come whole and apart.

    >>> parts("e.g"), parts("ERR4032")
    (['e', 'g'], ['err4032', 'err', '4032'])
    """
    found: list[str] = []
    for run in _runs(word):
        if IDEOGRAPH.search(run):
            parted = IDEOGRAPH.sub(r" \g<0> ", run).split()
            found += [part for part in parted if part != PROLONGED]
        elif HANGUL.fullmatch(run):
            found += [run[i : i + 2] for i in range(len(run) - 1)]
        else:
            found.append(run)
            if code := CODE.fullmatch(run):
                found += code.groups()
    return found


def pieces(word: str) -> list[Word]:
    """What of a word can be marked by itself: its runs, and each ideograph.

    Each is as it is written, with its place in the word, [start, end).

    >>> pieces("O'Reilly"), [piece for piece, _, _ in pieces("Q京都")]
    ([('O', 0, 1), ('Reilly', 2, 8)], ['Q', '京', '都'])
    """
    kept = "".join(c if _is_kept(c) or _is_ignorable(c) else " " for c in word)
    return [
        (match[0], match.start(), match.end())
        for match in PIECE.finditer(kept)
        if any(map(str.isalnum, match[0]))
    ]


def pairs(word: str) -> list[str]:
    """The ideographs of a word that stand side by side, two and two.

    >>> pairs("会社員"), pairs("社")
    (['会社', '社員'], [])
    """
    runs = (run for whole in _runs(word) for run in IDEOGRAPHS.findall(whole))
    return [run[i : i + 2] for run in runs for i in range(len(run) - 1)]


def compound(words: Sequence[str]) -> str | None:
    """A code as one word: parts of which some have digits, or three numbers and more.

    Words without digits are not joined: on judged collections that finds less.

    >>> compound(["ERR", "4032"]), compound(["proj_7b"]), compound(["2.10.1"])
    ('err4032', 'proj7b', '2ˑ10ˑ1')
    """
    if any(APOSTROPHE.search(word) for word in words):
        return None
    found = [run for word in words for run in _runs(word)]
    if not 2 <= len(found) <= MAX_PARTS or any(IDEOGRAPH.search(run) for run in found):
        return None
    if all(run.isdigit() for run in found):
        return POINT.join(found) if len(found) > 2 else None
    return "".join(found) if any(c.isdigit() for run in found for c in run) else None


def fold(word: str) -> str:
    """A word of one case as letters and digits, without accents.

    Latin letters become ASCII: `łódź` becomes `lodz`, `straße` `strasse`. The points of
    Hebrew and Arabic go. The marks of Indic scripts, Thai and kana are not accents but
    part of a word's spelling, and stay, as letters.
    """
    if word.isascii():
        return word
    composed = unicodedata.normalize(
        "NFC", "".join(c for c in unicodedata.normalize("NFD", word) if not _is_accent(c))
    )
    return "".join(
        anyascii(c).lower()
        if unicodedata.name(c, "").startswith("LATIN ")
        else (c if c.isalnum() else f"{POINT}{ord(c):x}")
        for c in composed
    )


def _runs(word: str) -> list[str]:
    """The runs of letters, marks and digits, in compatibility form and without case."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", word).casefold())
    kept = [c if _is_kept(c) else " " for c in folded if not _is_ignorable(c)]
    return [run for run in "".join(kept).split() if any(c.isalnum() for c in run)]


def _is_kept(c: str) -> bool:
    return c.isalnum() or unicodedata.category(c)[0] == "M"


def _is_ignorable(c: str) -> bool:
    """Soft hyphens, joiners, marks of direction; selectors of variants; tatweel."""
    return unicodedata.category(c) == "Cf" or "\ufe00" <= c <= "\ufe0f" or c in "\u034f\u0640\u02d1"


def _is_accent(c: str) -> bool:
    """Whether a mark is one that readers leave out, by its class of combining.

    From 10 on these are the points of Hebrew and Arabic and the accents of European
    scripts. Below are the signs of Indic scripts and kana; those of Thai, Lao and
    Tibetan are 103 to 132.
    """
    place = unicodedata.combining(c)
    return place >= 10 and not 103 <= place <= 132
