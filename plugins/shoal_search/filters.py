"""The filters of a search, as they are written in its query parameters."""

import math
import re
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Literal

import orjson

from shoal import AnyOf, Between, Equals, Invalid, Not, VectorCondition, load_json

MAX_FILTERS = 20
"""Conditions on metadata in one search."""
MAX_VALUES = 100
"""Values of one condition."""
MAX_FACETS = 10
"""Facets of one search."""
FACET_VALUES = 50
"""Values of one facet that are counted: the most frequent."""

PATH = r"metadata(?:\.[^\s.=<>!\"'\x00-\x1f]{1,100}){1,8}"
FILTER = re.compile(rf"({PATH})\s*(!=|<=|>=|=|<|>)\s*(.*)", re.S)
FACET = re.compile(rf"board|type|month|{PATH}")
BOUNDS: dict[str, Literal["least", "most", "above", "below"]] = {
    ">=": "least",
    "<=": "most",
    ">": "above",
    "<": "below",
}
HELP = (
    "write a field, an operator (=, !=, <, <=, >, >=) and a value, such as "
    'metadata.status=done, metadata.size>=3 or metadata.status=["open","done"]'
)

Scalar = str | int | float | bool


def read_filters(filters: Sequence[str]) -> list[VectorCondition]:
    """Conditions on metadata.

    A value is JSON (`3`, `true`, `"3"`, `["open", "done"]`) or a plain text. A number
    without quotes is found as a number and as a text. With `=` and `!=`, a list is any
    of its values, and `null` is no value.

    Raises:
        Invalid: One cannot be read; the error names it.
    """
    return [_read_filter(index, text) for index, text in enumerate(filters)]


def _read_filter(index: int, text: str) -> VectorCondition:
    match = FILTER.fullmatch(text.strip())
    if match is None:
        raise _fault(index, f"{text[:80]!r} is not a filter: {HELP}")
    field, operator, written = match.groups()
    if written[:1] in ("=", "<", ">"):
        raise _fault(index, f"there is no operator {operator}{written[:1]}: {HELP}")
    try:
        value = _read_value(written)
    except Invalid:
        raise _fault(
            index, "has an integer beyond 64 bits: put it in quotes, as it is found as a text only"
        ) from None
    if operator in BOUNDS:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise _fault(index, f"{operator} needs a number or a text after it, such as 3")
        return Between(field, **{BOUNDS[operator]: value})
    condition = _any_of(index, field, value, written)
    return Not(condition) if operator == "!=" else condition


def _any_of(index: int, field: str, value: Any, written: str) -> Equals | AnyOf:
    if value is None:
        return Equals(field, None)
    values = value if isinstance(value, list) else [value]
    if not 1 <= len(values) <= MAX_VALUES:
        raise _fault(index, f"give 1 to {MAX_VALUES} values, not {len(values)}")
    if not all(isinstance(one, str | int | float | bool) for one in values):
        raise _fault(index, "values are texts, numbers, true and false")
    both = [written] if _is_number(value) and not written.startswith('"') else []
    return AnyOf(field, [*values, *both])


def _read_value(written: str) -> Any:
    """A JSON value; anything else is a text."""
    try:
        value = load_json(written.encode())
    except orjson.JSONDecodeError:
        return written
    return written if isinstance(value, dict) else value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def read_facets(facets: str) -> list[str]:
    """The names of facets, separated by commas.

    Raises:
        Invalid: There is none of a name, or they are too many.
    """
    names = list(dict.fromkeys(name.strip() for name in facets.split(",") if name.strip()))
    for name in names:
        if not FACET.fullmatch(name):
            raise Invalid.at(
                "query.facets",
                f"there is no facet {name[:80]!r}: choose from board, type, month and "
                "metadata.NAME",
            )
    if len(names) > MAX_FACETS:
        raise Invalid.at("query.facets", f"are {len(names)}, over the limit of {MAX_FACETS}")
    return names


def conditions(
    boards: Collection[str] | None,
    types: Collection[str] | None,
    after: datetime | None,
    before: datetime | None,
) -> list[VectorCondition]:
    """The other filters as conditions. Boards and types: None is all of them."""
    found: list[VectorCondition] = []
    for name, wanted in (("board", boards), ("type", types)):
        if wanted is not None:
            found.append(AnyOf(name, sorted(wanted)))
    if after is not None or before is not None:
        found.append(Between("updated", above=_milliseconds(after), below=_milliseconds(before)))
    return found


def _milliseconds(time: datetime | None) -> int | None:
    return None if time is None else round(time.timestamp() * 1000)


def _fault(index: int, message: str) -> Invalid:
    return Invalid.at(f"query.filter.{index}", message)
