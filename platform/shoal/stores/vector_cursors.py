"""Where a listing goes on: a page's `next`."""

import base64
import binascii
import json
from typing import Any

from shoal.contract.errors import Invalid

Order = tuple[str, bool]
"""The field, and whether the greatest value comes first."""
Position = tuple[Any, str]
"""The value and the id of a page's last row."""


def write_position(order: Order, position: Position) -> str:
    """A page's `next`."""
    return base64.urlsafe_b64encode(json.dumps([*order, *position]).encode()).decode()


def read_position(order: Order, cursor: str) -> Position:
    """What a page's `next` stands for; Invalid where it is of another listing."""
    try:
        sort, descending, value, key = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        if (sort, descending) != order or not isinstance(key, str):
            raise ValueError
    except (ValueError, TypeError, binascii.Error):
        raise Invalid("`after` is not the `next` of such a listing") from None
    return value, key
