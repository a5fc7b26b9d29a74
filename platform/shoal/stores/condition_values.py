"""What a condition asks for, checked once for every backend."""

import math
from collections.abc import Collection, Sequence
from typing import Any

from shoal.contract.errors import Invalid
from shoal.contract.vectors import (
    MAX_CONDITIONS,
    MAX_VALUES,
    AnyOf,
    Between,
    Condition,
    Equals,
    FieldKind,
    VectorSchema,
)

MAX_INTEGER = 2**63 - 1
"""The greatest integer of a field, and less than 0 the smallest."""
Bounds = dict[str, Any]
"""The bounds that are given, by their signs: `>=`, `<=`, `>` and `<`."""


def check_filter(filter: Sequence[Condition]) -> None:
    """Invalid where a filter has too many conditions."""
    if len(filter) > MAX_CONDITIONS:
        raise Invalid(f"a filter has at most {MAX_CONDITIONS} conditions")


def field_kind(schema: VectorSchema, name: str) -> tuple[str, FieldKind, str]:
    """A field's name, its kind, and the path below it (of kind `json`).

    Raises:
        Invalid: There is none.
    """
    if name == "id":
        return name, "string", ""
    own, dot, path = name.partition(".")
    kind = schema.fields.get(own)
    if kind is None or (dot and kind != "json") or (kind == "json" and not path):
        raise Invalid(f"the collection has no field {name!r} for conditions")
    return own, kind, path


def resolve(
    schema: VectorSchema, condition: Equals | AnyOf | Between
) -> tuple[str, FieldKind, str, list[Any] | Bounds | None]:
    """A field as `field_kind` has it, and what is asked of it.

    That is the values of which it must have one, the bounds of its value, or None where
    it must have none.

    Raises:
        Invalid: A field is unknown, or has no values such as the condition's.
    """
    name, kind, path = field_kind(schema, condition.field)
    if kind == "stored":
        raise Invalid(f"the field {name} is only stored: conditions cannot name it")
    if isinstance(condition, Between):
        return name, kind, path, _bounds(name, kind, condition)
    if isinstance(condition, Equals):
        return name, kind, path, None if condition.value is None else [condition.value]
    if len(condition.values) > MAX_VALUES:
        raise Invalid(f"a condition on {name} has at most {MAX_VALUES} values")
    return name, kind, path, list(condition.values)


def _bounds(name: str, kind: FieldKind, condition: Between) -> Bounds:
    signs = {">=": condition.least, "<=": condition.most, ">": condition.above}
    signs["<"] = condition.below
    bounds = {sign: value for sign, value in signs.items() if value is not None}
    texts = sum(isinstance(value, str) for value in bounds.values())
    if texts not in (0, len(bounds)):
        raise Invalid(f"the bounds of {name} are texts and numbers: give one kind")
    if kind not in ("json", "string", "integer", "float"):
        raise Invalid(f"the field {name} has no order: it cannot be between bounds")
    if bounds and kind != "json" and bool(texts) != (kind == "string"):
        raise wrong_values(name, "texts" if kind == "string" else "numbers")
    return bounds


def texts_of(name: str, values: Collection[Any]) -> list[str]:
    """Values that must be texts."""
    if any(not isinstance(value, str) for value in values):
        raise wrong_values(name, "texts")
    return list(values)


def booleans_of(name: str, values: Collection[Any]) -> list[str]:
    """Values that must be booleans, as literals."""
    if any(not isinstance(value, bool) for value in values):
        raise wrong_values(name, "true or false")
    return sorted({str(value).lower() for value in values})


def numbers_of(name: str, kind: FieldKind, values: Collection[Any]) -> list[str]:
    """Values that must be numbers, as literals, without those that no row can have."""
    found = (_exact_literal(kind, number_of(name, value)) for value in values)
    return sorted({text for text in found if text is not None})


def number_of(name: str, value: Any) -> int | float:
    """A value that must be a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong_values(name, "numbers")
    if isinstance(value, float) and not math.isfinite(value):
        raise Invalid(f"a condition on {name} has a number that is not finite")
    return value


def scalar_of(name: str, value: Any) -> str | int | float | bool:
    """A value that must be a text, a boolean or a finite number."""
    return value if isinstance(value, str | bool) else number_of(name, value)


def type_bounds(bounds: Bounds) -> list[tuple[str, str]]:
    """The bounds of all sortable texts of the type that a JSON value's bounds have."""
    letter = "s" if any(isinstance(value, str) for value in bounds.values()) else "n"
    return [(">=", letter), ("<", chr(ord(letter) + 1))]


def number_bound(kind: FieldKind, sign: str, bound: int | float) -> tuple[str, str] | bool:
    """A bound as a sign and a literal of the column's type.

    True where every number of the column is within it, False where none is.
    """
    if kind == "integer":
        whole = math.ceil(bound) if sign in (">=", "<") else math.floor(bound)
        if abs(whole) > MAX_INTEGER:
            return (whole < 0) == (sign[0] == ">")
        return sign, str(whole)
    try:
        number = float(bound)
    except OverflowError:
        return (bound < 0) == (sign[0] == ">")
    if number != bound:  # an integer between two floats: no float equals it
        sign = sign[0] + ("=" if (number > bound) == (sign[0] == ">") else "")
    return sign, _float_literal(number)


def _exact_literal(kind: FieldKind, number: int | float) -> str | None:
    """A number as a literal of the column's type; None where it has no such value."""
    if kind == "integer":
        return str(int(number)) if number == int(number) and abs(number) <= MAX_INTEGER else None
    try:
        return _float_literal(float(number)) if float(number) == number else None
    except OverflowError:
        return None


def _float_literal(number: float) -> str:
    return repr(number + 0.0)  # -0.0 is 0.0


def can_be_token(text: str) -> bool:
    """Whether a text could be a token: it has no white space."""
    return text.split() == [text] and is_storable(text)


def is_storable(text: str) -> bool:
    """Whether a row can have this text: none has lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def orderable(text: str) -> str:
    """A text to compare with; lone surrogates become the first character after them."""
    if is_storable(text):
        return text
    return "".join("\ue000" if "\ud800" <= c <= "\udfff" else c for c in text)


def wrong_values(name: str, expected: str) -> Invalid:
    return Invalid(f"a condition on {name} takes {expected}")
