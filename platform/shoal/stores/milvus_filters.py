"""The conditions of a filter in Milvus's expression language."""

import math
from collections.abc import Collection, Sequence
from hashlib import blake2b
from typing import Any
from urllib.parse import quote

from shoal.contract.errors import Invalid
from shoal.contract.vectors import (
    MAX_CONDITIONS,
    MAX_VALUES,
    AnyOf,
    Between,
    Condition,
    Equals,
    FieldKind,
    Not,
    VectorSchema,
)

from .json_values import sortable, value_token
from .vector_conditions import can_be_token, field_kind

ALWAYS, NEVER = 'tenant != ""', 'tenant == ""'
ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"})
MAX_INTEGER = 2**63 - 1
TOKEN_COLUMNS = 4
"""Columns of a field of tokens: a list of Milvus has at most 4,096 texts."""


def literal(value: str | int) -> str:
    """A value as a literal."""
    return f'"{value.translate(ESCAPES)}"' if isinstance(value, str) else str(value)


def one_of(column: str, values: Collection[str | int]) -> str:
    """The condition that a column has one of these values."""
    return f"{column} in [{', '.join(map(literal, values))}]" if values else NEVER


def json_key(path: str) -> str:
    """A path as a key of the column with the values of a JSON field."""
    return quote(path, safe="")


def token_column(field: str, token: str) -> str:
    """The column of a field's tokens that has this one."""
    digest = blake2b(token.encode("utf-8", "surrogatepass"), digest_size=1).digest()[0]
    return f"t{digest % TOKEN_COLUMNS}_{field}"


def has_tokens(field: str, tokens: Collection[str], every: bool = False) -> str:
    """The condition that a field of tokens has one of these, or all."""
    columns: dict[str, list[str]] = {}
    for token in sorted(set(tokens)):
        columns.setdefault(token_column(field, token), []).append(token)
    word, name = (" and ", "array_contains_all") if every else (" or ", "array_contains_any")
    parts = (f"{name}({c}, [{', '.join(map(literal, t))}])" for c, t in columns.items())
    return f"({word.join(parts)})" if columns else NEVER


def names_tokens(schema: VectorSchema, filter: Sequence[Condition]) -> bool:
    """Whether a condition is on a field of tokens."""
    return any(field_kind(schema, _inner(c).field)[1] == "tokens" for c in filter)


def without_tokens(schema: VectorSchema, filter: Sequence[Condition]) -> list[Condition]:
    """The conditions that are not on fields of tokens."""
    return [c for c in filter if field_kind(schema, _inner(c).field)[1] != "tokens"]


def to_expression(schema: VectorSchema, filter: Sequence[Condition]) -> str:
    """A filter as an expression; empty where it has no conditions.

    Raises:
        Invalid: A field is unknown, or has no values such as the condition's.
    """
    if len(filter) > MAX_CONDITIONS:
        raise Invalid(f"a filter has at most {MAX_CONDITIONS} conditions")
    return " and ".join(f"({_condition(schema, condition)})" for condition in filter)


def _inner(condition: Condition) -> Equals | AnyOf | Between:
    return condition.condition if isinstance(condition, Not) else condition


def _condition(schema: VectorSchema, condition: Condition) -> str:
    if isinstance(condition, Not):
        return f"not ({_condition(schema, condition.condition)})"
    name, kind, path = field_kind(schema, condition.field)
    if kind == "stored":
        raise Invalid(f"the field {name} is only stored: conditions cannot name it")
    if isinstance(condition, Between):
        return _between(name, kind, path, condition)
    if isinstance(condition, Equals):
        if condition.value is None:
            return _absent(name, kind, path)
        return _any_of(name, kind, path, [condition.value])
    if len(condition.values) > MAX_VALUES:
        raise Invalid(f"a condition on {name} has at most {MAX_VALUES} values")
    return _any_of(name, kind, path, condition.values)


def _absent(name: str, kind: FieldKind, path: str) -> str:
    if name == "id":
        return NEVER
    if kind == "json":
        return f"not array_contains(v_{name}, {literal(value_token(path, None))})"
    return f"a_{name} > 0"


def _present(name: str, condition: str) -> str:
    return condition if name == "id" else f"a_{name} == 0 and ({condition})"


def _column(name: str) -> str:
    return "id" if name == "id" else f"f_{name}"


def _any_of(name: str, kind: FieldKind, path: str, values: Collection[Any]) -> str:
    if kind == "json":
        tokens = {value_token(path, _scalar(name, value)) for value in values}
        return _contains(f"v_{name}", tokens)
    if kind in ("string", "strings", "tokens"):
        if any(not isinstance(value, str) for value in values):
            raise _wrong(name, "texts")
        texts = {value for value in values if _is_storable(value)}
        if kind == "strings":
            return _contains(f"f_{name}", texts)
        if kind == "tokens":
            return has_tokens(name, {text for text in texts if can_be_token(text)})
        return _present(name, one_of(_column(name), sorted(texts)))
    if kind == "boolean":
        if any(not isinstance(value, bool) for value in values):
            raise _wrong(name, "true or false")
        parts = [f"f_{name} == {str(value).lower()}" for value in sorted(set(values))]
        return _present(name, " or ".join(parts)) if parts else NEVER
    found = (_exact_literal(kind, _number(name, value)) for value in values)
    exact = sorted({text for text in found if text is not None})
    return _present(name, f"f_{name} in [{', '.join(exact)}]") if exact else NEVER


def _contains(column: str, texts: Collection[str]) -> str:
    known = sorted(filter(_is_storable, texts))
    return f"array_contains_any({column}, [{', '.join(map(literal, known))}])" if known else NEVER


def _between(name: str, kind: FieldKind, path: str, condition: Between) -> str:
    signs = {">=": condition.least, "<=": condition.most, ">": condition.above}
    signs["<"] = condition.below
    bounds = {sign: value for sign, value in signs.items() if value is not None}
    texts = sum(isinstance(value, str) for value in bounds.values())
    if texts not in (0, len(bounds)):
        raise Invalid(f"the bounds of {name} are texts and numbers: give one kind")
    if kind not in ("json", "string", "integer", "float"):
        raise Invalid(f"the field {name} has no order: it cannot be between bounds")
    if not bounds:
        return f"not ({_absent(name, kind, path)})"
    if kind == "json":
        return _json_between(name, path, bounds, "s" if texts else "n")
    if bool(texts) != (kind == "string"):
        raise _wrong(name, "texts" if kind == "string" else "numbers")
    if kind == "string":
        column = _column(name)
        parts = [f"{column} {sign} {literal(_orderable(str(v)))}" for sign, v in bounds.items()]
    else:
        parts = [_number_bound(name, kind, s, _number(name, v)) for s, v in bounds.items()]
    return _present(name, " and ".join(parts))


def _json_between(name: str, path: str, bounds: dict[str, Any], letter: str) -> str:
    """Values are kept as texts that compare as they do; the first letter is a type."""
    if not _is_storable(path):
        return NEVER
    value = f"p_{name}[{literal(json_key(path))}]"
    # `exists` first: milvus-lite knows no comparison of a missing value, nor `not`.
    parts = [f"(exists {value})", f'{value} >= "{letter}"', f'{value} < "{chr(ord(letter) + 1)}"']
    parts += [
        f"{value} {sign} {literal(_orderable(sortable(_scalar(name, bound))))}"
        for sign, bound in bounds.items()
    ]
    return " and ".join(parts)


def _number_bound(name: str, kind: FieldKind, sign: str, bound: int | float) -> str:
    """A bound as one that the column's type can express."""
    if kind == "integer":
        whole = math.ceil(bound) if sign in (">=", "<") else math.floor(bound)
        if abs(whole) > MAX_INTEGER:
            return ALWAYS if (whole < 0) == (sign[0] == ">") else NEVER
        return f"f_{name} {sign} {whole}"
    try:
        number = float(bound)
    except OverflowError:
        return ALWAYS if (bound < 0) == (sign[0] == ">") else NEVER
    if number != bound:  # an integer between two floats: no float equals it
        sign = sign[0] + ("=" if (number > bound) == (sign[0] == ">") else "")
    return f"f_{name} {sign} {number + 0.0!r}"


def _exact_literal(kind: FieldKind, number: int | float) -> str | None:
    """A number as a literal of the column's type; None where it has no such value."""
    if kind == "integer":
        return str(int(number)) if number == int(number) and abs(number) <= MAX_INTEGER else None
    try:
        return repr(float(number) + 0.0) if float(number) == number else None
    except OverflowError:
        return None


def _number(name: str, value: Any) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong(name, "numbers")
    if isinstance(value, float) and not math.isfinite(value):
        raise Invalid(f"a condition on {name} has a number that is not finite")
    return value


def _scalar(name: str, value: Any) -> str | int | float | bool:
    return value if isinstance(value, str | bool) else _number(name, value)


def _is_storable(text: str) -> bool:
    """Whether a row can have this text: none has lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _orderable(text: str) -> str:
    """A text for comparisons: lone surrogates become the character after them."""
    if _is_storable(text):
        return text
    return "".join("\ue000" if "\ud800" <= c <= "\udfff" else c for c in text)


def _wrong(name: str, expected: str) -> Invalid:
    return Invalid(f"a condition on {name} takes {expected}")
