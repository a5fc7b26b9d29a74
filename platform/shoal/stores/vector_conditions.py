"""The conditions of a filter as SQL of DataFusion, which LanceDB filters with."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

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
from .json_values import (
    ANY_TOKEN,
    END,
    path_start,
    single_values_column,
    sortable,
    tokens_column,
    value_token,
    values_column,
)

NEVER = "false"
TEXTS = ("string", "strings", "tokens")


def to_sql(schema: VectorSchema, filter: Sequence[Condition]) -> str:
    """A filter as SQL; empty where it has no conditions.

    Raises:
        Invalid: A field is unknown, or has no values such as the condition's.
    """
    check_filter(filter)
    return " AND ".join(f"({_condition(schema, condition)})" for condition in filter)


def text_literal(value: str) -> str:
    """A text as a literal of SQL, which has no escapes but the doubled quote."""
    return "'" + value.replace("'", "''") + "'"


def column(name: str) -> str:
    return f"`{name}`"


def _condition(schema: VectorSchema, condition: Condition) -> str:
    if isinstance(condition, Not):
        return _negated(schema, condition.condition)
    name, kind, path, asked = resolve(schema, condition)
    if asked is None:
        return _absent(name, kind, path)
    if isinstance(asked, dict):
        return _between(name, kind, path, asked)
    return _any_of(name, kind, path, asked)


def _negated(schema: VectorSchema, condition: Equals | AnyOf | Between) -> str:
    """A condition that does not hold, as indexes answer it where they can."""
    sql = _condition(schema, condition)
    name, kind, _ = field_kind(schema, condition.field)
    if kind == "strings" or (kind == "json" and isinstance(condition, Between)):
        return f"({sql}) IS NOT TRUE"
    is_known = kind in ("json", "tokens") or name == "id"
    is_known |= isinstance(condition, Equals) and condition.value is None
    return f"NOT ({sql})" if is_known else f"NOT ({sql}) OR {column(name)} IS NULL"


def _absent(name: str, kind: FieldKind, path: str) -> str:
    if kind == "json":
        return f"NOT {_has_any(column(values_column(name)), [value_token(path, None)])}"
    if kind == "tokens":
        return f"NOT {_has_any(column(tokens_column(name)), [ANY_TOKEN])}"
    if kind == "strings":
        return f"(array_length({column(name)}) > 0) IS NOT TRUE"
    return f"{column(name)} IS NULL"


def _any_of(name: str, kind: FieldKind, path: str, values: Collection[Any]) -> str:
    if kind == "json":
        tokens = {value_token(path, scalar_of(name, value)) for value in values}
        return _has_any(column(values_column(name)), tokens)
    if kind in TEXTS:
        texts = set(texts_of(name, values))
        if kind == "string":
            return _among(name, sorted(filter(is_storable, texts)), text_literal)
        if kind == "strings":
            return _has_any(column(name), texts)
        return _has_any(column(tokens_column(name)), set(filter(can_be_token, texts)))
    if kind == "boolean":
        return _among(name, booleans_of(name, values))
    return _among(name, numbers_of(name, kind, values))


def _among(name: str, values: Sequence[str], literal: Callable[[str], str] = str) -> str:
    return f"{column(name)} IN ({', '.join(map(literal, values))})" if values else NEVER


def _has_any(array: str, texts: Collection[str]) -> str:
    known = sorted(filter(is_storable, texts))
    return f"array_has_any({array}, [{', '.join(map(text_literal, known))}])" if known else NEVER


def _between(name: str, kind: FieldKind, path: str, bounds: Bounds) -> str:
    if not bounds:
        return f"({_absent(name, kind, path)}) IS NOT TRUE"
    if kind == "json":
        return _json_between(name, path, bounds)
    if kind == "string":
        return " AND ".join(
            f"{column(name)} {sign} {text_literal(orderable(value))}"
            for sign, value in bounds.items()
        )
    return " AND ".join(_number_bound(name, kind, *bound) for bound in bounds.items())


def _json_between(name: str, path: str, bounds: Bounds) -> str:
    """Values are texts that compare as they do; the first letter is the type."""
    if not is_storable(path):
        return NEVER
    text, start = column(single_values_column(name)), text_literal(f"{END}{path_start(path)}")
    value = f"split_part(split_part({text}, {start}, 2), {text_literal(END)}, 1)"
    sought = [(sign, sortable(scalar_of(name, bound))) for sign, bound in bounds.items()]
    parts = [
        f"{value} {sign} {text_literal(orderable(bound))}"
        for sign, bound in (*type_bounds(bounds), *sought)
    ]
    return " AND ".join(parts)


def _number_bound(name: str, kind: FieldKind, sign: str, bound: Any) -> str:
    found = number_bound(kind, sign, number_of(name, bound))
    if isinstance(found, bool):
        return f"{column(name)} IS NOT NULL" if found else NEVER
    return f"{column(name)} {' '.join(found)}"
