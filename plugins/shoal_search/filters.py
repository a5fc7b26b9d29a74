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

KEY = r"""[^\s.=<>!"'\x00-\x1f]{1,100}"""
QUOTED = r'"(?:[^"\\\x00-\x1f]|\\.){1,100}"'
PATH = rf"metadata(?:\.(?:{KEY}|{QUOTED})){{1,8}}"
FILTER = re.compile(rf"({PATH})\s*(!=|<=|>=|=|<|>)\s*(.*)", re.S)
FACET = re.compile(rf"board|type|month|{PATH}")
FACETS = re.compile(rf"(?:{QUOTED}|[^,])+")
FURTHER = re.compile(r"\s(AND|OR)\s|&&|\|\||\s(?i:and|or)\s+[^\s=<>!]+\s*[=<>!]")
"""What joins conditions elsewhere."""
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
IN_QUOTES = 'put a plain text in double quotes, such as metadata.status="[done]"'


def read_filters(filters: Sequence[str]) -> list[VectorCondition]:
    """Conditions on metadata.

    A value is JSON (`3`, `true`, `"3"`, `["open", "done"]`) or a plain text. A number
    without quotes is found as a number and as a text. With `=` and `!=`, a list is any
    of its values, and `null` is no value. Keys may be in quotes, as JSON.

    Raises:
        Invalid: One cannot be read; the error names it.
    """
    return [_read_filter(index, text) for index, text in enumerate(filters)]


def _read_filter(index: int, text: str) -> VectorCondition:
    match = FILTER.fullmatch(text.strip())
    if match is None:
        raise _fault(index, f"{text[:80]!r} is not a filter: {HELP}")
    field, operator, written = match.groups()
    if written[:1] in ("=", "<", ">", "~"):
        raise _fault(index, f"there is no operator {operator}{written[:1]}: {HELP}")
    try:
        field = field_name(field)
    except orjson.JSONDecodeError:
        raise _fault(index, f"{field[:80]!r} has a key that is not valid JSON") from None
    value = _read_value(index, written)
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


def _read_value(index: int, written: str) -> Any:
    """A JSON value, or else a text, which neither begins as JSON nor has conditions."""
    try:
        return load_json(written.encode())
    except Invalid:
        fault = "has an integer beyond 64 bits: put it in quotes, as it is found as a text only"
    except orjson.JSONDecodeError:
        if written[:1] in ("[", "{", '"'):
            fault = f"{written[:80]!r} is not valid JSON; {IN_QUOTES}"
        elif joined := FURTHER.search(written):
            fault = (
                f"has {joined[0].strip()[:80]!r}: send each condition as a filter of its own, all "
                f"of which must hold; {IN_QUOTES}"
            )
        else:
            return written
    raise _fault(index, fault)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def field_name(written: str) -> str:
    """The field of a path or facet, without the quotes of its keys.

    Raises:
        orjson.JSONDecodeError: A key in quotes is not JSON.
    """
    return re.sub(QUOTED, lambda key: str(orjson.loads(key[0])), written)


def read_facets(facets: str) -> dict[str, str]:
    """The fields of facets, by their names, which commas separate.

    Raises:
        Invalid: There is none of a name, or they are too many.
    """
    found = (name.strip() for name in FACETS.findall(facets))
    names = list(dict.fromkeys(name for name in found if name))
    for name in names:
        if not FACET.fullmatch(name):
            raise Invalid.at(
                "query.facets",
                f"there is no facet {name[:80]!r}: choose from board, type, month and "
                "metadata.NAME",
            )
    if len(names) > MAX_FACETS:
        raise Invalid.at("query.facets", f"are {len(names)}, over the limit of {MAX_FACETS}")
    try:
        return {name: field_name(name) for name in names}
    except orjson.JSONDecodeError:
        raise Invalid.at("query.facets", "have a key in quotes that is not valid JSON") from None


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
