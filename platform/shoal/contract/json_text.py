"""Reading JSON without losing digits."""

import re
from typing import Any

import msgspec
import orjson

from .errors import Invalid

LONG_NUMBER = re.compile(rb"\d{19}")
"""Integers of 64 bits have 19 digits or 20."""
SMALLEST, LARGEST = -(2**63), 2**64 - 1


def load_json(data: bytes) -> Any:
    """Parse strict JSON.

    Raises:
        orjson.JSONDecodeError: It is not JSON.
        Invalid: It has an integer beyond 64 bits, which orjson would read as a float.
    """
    value = orjson.loads(data)
    if LONG_NUMBER.search(data):
        try:
            found = _find_too_large(msgspec.json.decode(data))
        except RecursionError:
            raise Invalid.at("body", "is nested too deeply") from None
        if found is not None:
            raise Invalid.at(
                found, "is an integer beyond 64 bits, which would lose digits: send it as text"
            )
    return value


def _find_too_large(value: Any) -> str | None:
    """Where a value has an integer beyond 64 bits."""
    pending: list[tuple[str, Any]] = [("", value)]
    while pending:
        path, inner = pending.pop()
        if isinstance(inner, int) and not SMALLEST <= inner <= LARGEST:
            return path.removeprefix(".") or "body"
        if isinstance(inner, dict | list):
            items = inner.items() if isinstance(inner, dict) else enumerate(inner)
            pending += [(f"{path}.{str(key)[:128]}", below) for key, below in items]
    return None
