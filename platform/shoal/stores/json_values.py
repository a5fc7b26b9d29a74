"""The values inside JSON objects, as texts that can be indexed and compared."""

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

SEPARATOR, END = "\x00", "\x01"
"""Between a path and a value, and around both."""
ESCAPES = str.maketrans({"\x00": "\x02\x03", "\x01": "\x02\x04", "\x02": "\x02\x05"})
"""These and the separators compare as the characters do."""
UNESCAPES = {escaped: chr(plain) for plain, escaped in ESCAPES.items()}
ANY_TOKEN = ""
"""Stands beside the tokens of each text that has some."""
EXPONENT = 20_000
"""More than the smallest exponent of a number is below zero."""

Scalar = str | int | float | bool


def values_column(name: str) -> str:
    """The column with the values of a JSON field."""
    return f"_{name}_values"


def single_values_column(name: str) -> str:
    """The column with the values of a JSON field that are not in lists, as one text."""
    return f"_{name}_single_values"


def tokens_column(name: str) -> str:
    """The column with the tokens of a field of tokens, each once, and `ANY_TOKEN`."""
    return f"_{name}_tokens"


def leaves(document: Mapping[str, Any]) -> Iterator[tuple[str, Scalar, bool]]:
    """Each value with its path (keys joined by dots), and whether it is in a list."""
    stack: list[tuple[str, Any, bool]] = [("", document, False)]
    while stack:
        path, value, listed = stack.pop()
        if isinstance(value, Mapping):
            start = f"{path}." if path else ""
            stack += [(f"{start}{key}", inner, listed) for key, inner in value.items()]
        elif isinstance(value, list | tuple):
            stack += [(path, inner, True) for inner in value]
        elif value is not None:
            yield path, value, listed


def value_token(path: str, value: Scalar | None) -> str:
    """The token of a path with this value, or (None) with any."""
    return f"{path_start(path)}{'' if value is None else sortable(value)}"


def path_start(path: str) -> str:
    """The beginning of all tokens of a path."""
    return f"{path.translate(ESCAPES)}{SEPARATOR}"


def sortable(value: Scalar) -> str:
    """A text that compares with others as the values do.

    Its first letter is the type's; equal numbers have the same text, 1 and 1.0 too.
    """
    if isinstance(value, str):
        return f"s{value.translate(ESCAPES)}"
    if isinstance(value, bool):
        return f"b{value:d}"
    number = Decimal(value) if isinstance(value, int) else Decimal(repr(float(value)))
    if not number:
        return "n1"
    _, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)
    size = len(digits) + exponent + EXPONENT
    text = f"{size:06d}" + "".join(map(str, digits)).rstrip("0")
    if number > 0:
        return f"n2{text}"
    return f"n0{text.translate(COMPLEMENT)}:"  # `:` comes after the digits


def original(text: str) -> Scalar:
    """The value of a sortable text."""
    letter, rest = text[0], text[1:]
    if letter == "s":
        return re.sub("\x02.", lambda match: UNESCAPES[match[0]], rest, flags=re.DOTALL)
    if letter == "b":
        return rest == "1"
    if rest == "1":
        return 0
    sign, digits = rest[0], rest[1:]
    if sign == "0":
        digits = digits[:-1].translate(COMPLEMENT)
    size, digits = int(digits[:6]) - EXPONENT, digits[6:]
    number = Decimal((int(sign == "0"), tuple(map(int, digits)), size - len(digits)))
    return int(number) if size >= len(digits) else float(number)


COMPLEMENT = str.maketrans("0123456789", "9876543210")
