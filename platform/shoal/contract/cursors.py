"""Cursors of lists: where the next page begins.

A cursor names its list, so that none of another list is taken for a position in this.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Annotated, TypeVar

import orjson
from fastapi import Query
from pydantic import WithJsonSchema

from .errors import Invalid

P = TypeVar("P", int, str)

MAX_CURSOR = 6_000
"""Characters."""
Cursor = Annotated[
    Annotated[str, WithJsonSchema({"type": "string", "maxLength": MAX_CURSOR})] | None,
    Query(description="From the page before."),
]
"""The parameter of a list; `read_cursor` checks it."""
MESSAGE = "not a cursor of this list: take it from the page before, or leave it out"


def write_cursor(list_name: str, position: int | str) -> str:
    """The cursor for a position.

    Args:
        list_name: Of the list, such as `anomalies.alerts`.
        position: Where the next page begins.
    """
    return urlsafe_b64encode(orjson.dumps([list_name, position])).decode().rstrip("=")


def read_cursor(list_name: str, cursor: str | None, kind: type[P]) -> P | None:
    """The position that a cursor of this list stands for; None without one.

    Args:
        list_name: As it was given to `write_cursor`.
        cursor: What the caller sent.
        kind: Of the position.

    Raises:
        Invalid: It is not a cursor of this list.
    """
    if not cursor:
        return None
    try:
        if len(cursor) <= MAX_CURSOR:
            padded = cursor + "=" * (-len(cursor) % 4)
            read: tuple[str, P] = orjson.loads(urlsafe_b64decode(padded.encode("ascii")))
            name, position = read
            is_negative = isinstance(position, int) and position < 0
            if name == list_name and type(position) is kind and not is_negative:
                return position
    except (ValueError, TypeError):  # not base64, not JSON, or not a pair
        pass
    raise Invalid.at("query.cursor", MESSAGE)
