"""Passages of texts: what a model reads at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from semantic_text_splitter import TextSplitter

MAX_PASSAGES = 256
"""Passages of one text, as many as a row has vectors."""
TITLE_SHARE, OVERLAP_SHARE = 4, 6
"""The title takes at most a fourth of a passage; two passages share about a sixth."""


@dataclass(frozen=True)
class PassageLimit:
    """How much a model reads at once, in its own measure; can be pickled.

    Args:
        size: Word pieces, without the special ones; characters if there is no
            `tokenizer`.
        tokenizer: JSON of the library `tokenizers`.
    """

    size: int
    tokenizer: str | None = None

    def ends(self, text: str) -> Sequence[int]:
        """Where each piece of a text ends, in characters."""
        if self.tokenizer is None:
            return range(1, len(text) + 1)
        pieces = self._tokenizer.encode(text, add_special_tokens=False)
        return [end for _, end in pieces.offsets]

    def split(self, text: str, size: int, overlap: int) -> list[tuple[int, str]]:
        """The parts of a text with their places, of at most `size` pieces each."""
        if self.tokenizer is None:
            return TextSplitter(size, overlap).chunk_indices(text)
        splitter = TextSplitter.from_huggingface_tokenizer(self._tokenizer, size, overlap)
        return splitter.chunk_indices(text)

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        assert self.tokenizer is not None
        tokenizer = Tokenizer.from_str(self.tokenizer)
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    def __getstate__(self) -> dict[str, Any]:
        return {"size": self.size, "tokenizer": self.tokenizer}


class Passage(NamedTuple):
    """A part of a text.

    Attributes:
        embedded: What the model reads: the title's beginning, and the part.
        start: Where the part begins in the text without the title, in characters.
        end: Where it ends.
    """

    embedded: str
    start: int
    end: int


def passages(title: str, text: str, limit: PassageLimit) -> list[Passage]:
    """Split a title and a text so that a model reads all of each part.

    What fits is one passage. The rest is split between sections (at blank lines), else
    between sentences, else words, and passages overlap. The time grows with the length,
    whatever the text is.

    Args:
        title: Stands before each passage; where it is long, its beginning does.
        text: Not blank.
        limit: How much the model reads.

    Returns:
        1 to `MAX_PASSAGES` passages, in order.
    """
    whole = f"{title}\n{text}" if title else text
    if len(limit.ends(whole)) <= limit.size:
        return [Passage(whole, 0, len(text))]
    heading = _heading(title, limit)
    size = limit.size - len(limit.ends(heading))
    # A title that is cut has passages of its own.
    whole = text if len(heading) > len(title) or not title else whole
    offset = len(whole) - len(text)
    return [
        Passage(
            heading + part if start >= offset else part,
            max(start - offset, 0),
            max(start + len(part) - offset, 0),
        )
        for start, part in limit.split(whole, size, size // OVERLAP_SHARE)[:MAX_PASSAGES]
    ]


def _heading(title: str, limit: PassageLimit) -> str:
    """The title as a line, cut to its share of a passage."""
    if not title:
        return ""
    ends, most = limit.ends(title), limit.size // TITLE_SHARE
    return f"{title[: ends[most - 1]] if len(ends) > most else title}\n"
