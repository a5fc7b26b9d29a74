"""The conditions of a filter as SQL of DataFusion, which LanceDB filters with."""

import math
from collections.abc import Callable, Collection, Sequence
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
    Not,
    VectorSchema,
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
MAX_INTEGER = 2**63 - 1
"""The greatest integer of a field, and less than 0 the smallest."""
TEXTS, NUMBERS = ("string", "strings", "tokens"), ("integer", "float")


def to_sql(schema: VectorSchema, filter: Sequence[Condition]) -> str:
    """A filter as SQL; empty where it has no conditions.

    Raises:
        Invalid: A field is unknown, or has no values such as the condition's.
    """
    if len(filter) > MAX_CONDITIONS:
        raise Invalid(f"a filter has at most {MAX_CONDITIONS} conditions")
    return " AND ".join(f"({_condition(schema, condition)})" for condition in filter)


def text_literal(value: str) -> str:
    """A text as a literal of SQL, which has no escapes but the doubled quote."""
    return "'" + value.replace("'", "''") + "'"


def column(name: str) -> str:
    return f"`{name}`"


def can_be_token(text: str) -> bool:
    """Whether a text could be a token: it has no white space."""
    return text.split() == [text] and _storable(text) is not None


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


def _condition(schema: VectorSchema, condition: Condition) -> str:
    if isinstance(condition, Not):
        return _negated(schema, condition.condition)
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
        token = _storable(value_token(path, None))
        return f"NOT {_has_any(column(values_column(name)), [token])}"
    if kind == "tokens":
        return f"NOT {_has_any(column(tokens_column(name)), [ANY_TOKEN])}"
    if kind == "strings":
        return f"(array_length({column(name)}) > 0) IS NOT TRUE"
    return f"{column(name)} IS NULL"


def _any_of(name: str, kind: FieldKind, path: str, values: Collection[Any]) -> str:
    if kind == "json":
        tokens = {_storable(value_token(path, _scalar(name, value))) for value in values}
        return _has_any(column(values_column(name)), tokens)
    if kind in TEXTS:
        if any(not isinstance(value, str) for value in values):
            raise _wrong(name, "texts")
        texts = {_storable(value) for value in values}
        if kind == "string":
            return _among(name, texts)
        if kind == "strings":
            return _has_any(column(name), texts)
        single = {text for text in values if can_be_token(text)}
        return _has_any(column(tokens_column(name)), single)
    if kind == "boolean":
        if any(not isinstance(value, bool) for value in values):
            raise _wrong(name, "true or false")
        return _among(name, {str(value).lower() for value in values}, literal=str)
    numbers = [_number(name, value) for value in values]
    exact = {text for number in numbers if (text := _exact_literal(kind, number)) is not None}
    return _among(name, exact, literal=str)


def _among(
    name: str, values: Collection[str | None], literal: Callable[[str], str] = text_literal
) -> str:
    known = sorted(value for value in values if value is not None)
    return f"{column(name)} IN ({', '.join(map(literal, known))})" if known else NEVER


def _has_any(array: str, texts: Collection[str | None]) -> str:
    known = sorted(text for text in texts if text is not None)
    return f"array_has_any({array}, [{', '.join(map(text_literal, known))}])" if known else NEVER


def _between(name: str, kind: FieldKind, path: str, condition: Between) -> str:
    bounds = {
        sign: value
        for sign, value in (
            (">=", condition.least),
            ("<=", condition.most),
            (">", condition.above),
            ("<", condition.below),
        )
        if value is not None
    }
    texts = sum(isinstance(value, str) for value in bounds.values())
    if texts not in (0, len(bounds)):
        raise Invalid(f"the bounds of {name} are texts and numbers: give one kind")
    if kind not in ("json", "string", *NUMBERS):
        raise Invalid(f"the field {name} has no order: it cannot be between bounds")
    if not bounds:
        return f"({_absent(name, kind, path)}) IS NOT TRUE"
    if kind == "json":
        return _json_between(name, path, bounds, "s" if texts else "n")
    if bool(texts) != (kind == "string"):
        raise _wrong(name, "texts" if kind == "string" else "numbers")
    if kind == "string":
        return " AND ".join(
            f"{column(name)} {sign} {text_literal(_orderable(str(value)))}"
            for sign, value in bounds.items()
        )
    return " AND ".join(
        _number_bound(name, kind, sign, _number(name, value)) for sign, value in bounds.items()
    )


def _json_between(name: str, path: str, bounds: dict[str, Any], letter: str) -> str:
    """Values are texts that compare as they do; the first letter is the type."""
    if _storable(path) is None:
        return NEVER
    text, start = column(single_values_column(name)), text_literal(f"{END}{path_start(path)}")
    value = f"split_part(split_part({text}, {start}, 2), {text_literal(END)}, 1)"
    parts = [f"{value} >= '{letter}'", f"{value} < '{chr(ord(letter) + 1)}'"]
    parts += [
        f"{value} {sign} {text_literal(_orderable(sortable(_scalar(name, bound))))}"
        for sign, bound in bounds.items()
    ]
    return " AND ".join(parts)


def _number_bound(name: str, kind: FieldKind, sign: str, bound: int | float) -> str:
    """A bound as one that the column's type can express."""
    if kind == "integer":
        whole = math.ceil(bound) if sign in (">=", "<") else math.floor(bound)
        if abs(whole) > MAX_INTEGER:
            return f"{column(name)} IS NOT NULL" if (whole < 0) == (sign[0] == ">") else NEVER
        return f"{column(name)} {sign} {whole}"
    try:
        number = float(bound)
    except OverflowError:
        return f"{column(name)} IS NOT NULL" if (bound < 0) == (sign[0] == ">") else NEVER
    if number != bound:  # an integer between two floats: no float equals it
        sign = sign[0] + ("=" if (number > bound) == (sign[0] == ">") else "")
    return f"{column(name)} {sign} {_float_literal(number)}"


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


def _number(name: str, value: Any) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong(name, "numbers")
    if isinstance(value, float) and not math.isfinite(value):
        raise Invalid(f"a condition on {name} has a number that is not finite")
    return value


def _scalar(name: str, value: Any) -> str | int | float | bool:
    if isinstance(value, str | bool):
        return value
    return _number(name, value)


def _storable(text: str) -> str | None:
    """The text; None for one with lone surrogates, which no row can have."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return None
    return text


def _orderable(text: str) -> str:
    """A text to compare with; lone surrogates become the first character after them."""
    return (
        text
        if _storable(text) is not None
        else "".join("\ue000" if "\ud800" <= c <= "\udfff" else c for c in text)
    )


def _wrong(name: str, expected: str) -> Invalid:
    return Invalid(f"a condition on {name} takes {expected}")
