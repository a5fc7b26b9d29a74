"""The conditions of a filter in Milvus's expression language."""

from collections.abc import Collection, Sequence
from hashlib import blake2b
from typing import Any
from urllib.parse import quote

from shoal.contract.vectors import (
    AnyOf,
    Between,
    Condition,
    Equals,
    FieldKind,
    Not,
    VectorSchema,
)

from .condition_values import (
    Bounds,
    booleans_of,
    can_be_token,
    check_filter,
    field_kind,
    is_storable,
    number_bound,
    number_of,
    numbers_of,
    orderable,
    resolve,
    scalar_of,
    texts_of,
    type_bounds,
)
from .json_values import sortable, value_token

ALWAYS, NEVER = 'tenant != ""', 'tenant == ""'
ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"})
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
    check_filter(filter)
    return " and ".join(f"({_condition(schema, condition)})" for condition in filter)


def _inner(condition: Condition) -> Equals | AnyOf | Between:
    return condition.condition if isinstance(condition, Not) else condition


def _condition(schema: VectorSchema, condition: Condition) -> str:
    if isinstance(condition, Not):
        return f"not ({_condition(schema, condition.condition)})"
    name, kind, path, asked = resolve(schema, condition)
    if asked is None:
        return _absent(name, kind, path)
    if isinstance(asked, dict):
        return _between(name, kind, path, asked)
    return _any_of(name, kind, path, asked)


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
        tokens = {value_token(path, scalar_of(name, value)) for value in values}
        return _contains(f"v_{name}", tokens)
    if kind in ("string", "strings", "tokens"):
        texts = set(texts_of(name, values))
        if kind == "strings":
            return _contains(f"f_{name}", texts)
        if kind == "tokens":
            return has_tokens(name, set(filter(can_be_token, texts)))
        return _present(name, one_of(_column(name), sorted(t for t in texts if is_storable(t))))
    if kind == "boolean":
        parts = [f"f_{name} == {value}" for value in booleans_of(name, values)]
        return _present(name, " or ".join(parts)) if parts else NEVER
    exact = numbers_of(name, kind, values)
    return _present(name, f"f_{name} in [{', '.join(exact)}]") if exact else NEVER


def _contains(column: str, texts: Collection[str]) -> str:
    known = sorted(filter(is_storable, texts))
    return f"array_contains_any({column}, [{', '.join(map(literal, known))}])" if known else NEVER


def _between(name: str, kind: FieldKind, path: str, bounds: Bounds) -> str:
    if not bounds:
        return f"not ({_absent(name, kind, path)})"
    if kind == "json":
        return _json_between(name, path, bounds)
    if kind == "string":
        column = _column(name)
        parts = [f"{column} {sign} {literal(orderable(v))}" for sign, v in bounds.items()]
    else:
        parts = [_number_bound(name, kind, *bound) for bound in bounds.items()]
    return _present(name, " and ".join(parts))


def _json_between(name: str, path: str, bounds: Bounds) -> str:
    """Values are kept as texts that compare as they do; the first letter is a type."""
    if not is_storable(path):
        return NEVER
    value = f"p_{name}[{literal(json_key(path))}]"
    sought = [(sign, sortable(scalar_of(name, bound))) for sign, bound in bounds.items()]
    # `exists` first: milvus-lite knows no comparison of a missing value, nor `not`.
    parts = [f"(exists {value})"]
    parts += [
        f"{value} {sign} {literal(orderable(bound))}"
        for sign, bound in (*type_bounds(bounds), *sought)
    ]
    return " and ".join(parts)


def _number_bound(name: str, kind: FieldKind, sign: str, bound: Any) -> str:
    found = number_bound(kind, sign, number_of(name, bound))
    if isinstance(found, bool):
        return ALWAYS if found else NEVER
    return f"f_{name} {' '.join(found)}"
