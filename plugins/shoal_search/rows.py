"""The rows of the index: which fields an item has in the vectors store."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC
from typing import Any

import orjson

from shoal import FieldKind, VectorSchema

from .analyzer import Analyzer
from .embedder import EmbeddedItem
from .items import Item
from .states import Version
from .word_keys import word_keys

FIELDS: dict[str, FieldKind] = {
    "board": "string",
    "type": "string",
    "updated": "integer",
    "month": "string",
    "title": "stored",
    "body": "stored",
    "url": "string",
    "metadata": "json",
    "words": "tokens",
    "keys": "strings",
    "surface": "stored",
    "passages": "stored",
    "digest": "string",
    "content": "stored",
}
"""By field, its kind.

- `updated`: milliseconds since 1970; `month`: that time's, such as `2026-11`.
- `words`: the stems of title and text, in order.
- `surface`: the different words of title and text, folded and not stemmed; `keys`:
  those by which words like them are found.
- `passages`: JSON, [[start, end], …]: the characters of the text that vectors are of.
- `digest`: of title and text, which all of `words` to `passages` and the vectors follow
  from. `content`: a digest of the whole item.
"""
SHOWN = ("board", "type", "updated", "title", "body", "url", "metadata")
"""The fields that an item is made of."""
MAX_FIELD_BYTES = 65_000
"""UTF-8 bytes that are kept of each of `words`, `keys` and `surface`."""


def schema(dimension: int) -> VectorSchema:
    """The collection's schema, for vectors of this length."""
    return VectorSchema(dimension, FIELDS)


def make_row(
    item: Item,
    version: Version,
    embedded: EmbeddedItem,
    analyzer: Analyzer,
) -> dict[str, Any]:
    """The row of an item.

    Args:
        item: The item.
        version: Of its state.
        embedded: Its passages and their vectors.
        analyzer: Finds the words.
    """
    surface = list(dict.fromkeys(analyzer.words(item.passage)))
    return {
        "id": item.id,
        "version": str(version),
        "vectors": embedded.vectors,
        **shown_fields(item),
        "month": f"{item.updated_at.astimezone(UTC):%Y-%m}",
        "words": analyzer.indexed(item.passage),
        "keys": some_texts(word_keys(surface)),
        "surface": join_tokens(surface),
        "passages": orjson.dumps(embedded.passages).decode(),
        "digest": digest(item),
        "content": content_digest(item),
    }


def read_passages(row: Mapping[str, Any]) -> list[tuple[int, int]]:
    """Where each passage of a row begins and ends in the text, in characters."""
    return [(start, end) for start, end in orjson.loads(row["passages"])]


def passage_range(row: Mapping[str, Any], number: int | None) -> tuple[int, int]:
    """Where a passage is in the text; the whole text where none is known."""
    passages = read_passages(row)
    if number is None or number >= len(passages):
        return 0, len(row["body"])
    return passages[number]


def shown_fields(item: Item) -> dict[str, Any]:
    """The fields of a row that an item is made of."""
    return {
        "board": item.board_id,
        "type": item.type,
        "updated": item.updated_ms,
        "title": item.title,
        "body": item.text,
        "url": item.url,
        "metadata": item.metadata,
    }


def digest(item: Item) -> str:
    """A digest of what is embedded and searched for words."""
    return _hash(f"{item.title}\0{item.text}")


def content_digest(item: Item) -> str:
    """A digest of all that an item is."""
    return _hash(item.model_dump_json())


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def join_tokens(tokens: Sequence[str]) -> str:
    """Tokens joined by spaces, cut at `MAX_FIELD_BYTES`."""
    joined = " ".join(tokens)
    if len(joined) * 4 <= MAX_FIELD_BYTES or len(data := joined.encode()) <= MAX_FIELD_BYTES:
        return joined
    return data[:MAX_FIELD_BYTES].decode(errors="ignore").rpartition(" ")[0]


def some_texts(texts: Sequence[str]) -> list[str]:
    """As many of the texts as together have no more than `MAX_FIELD_BYTES`."""
    size = 0
    for kept, text in enumerate(texts):
        size += len(text.encode())
        if size > MAX_FIELD_BYTES:
            return list(texts[:kept])
    return list(texts)
