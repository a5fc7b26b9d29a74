"""How large the values of a request may be: types with bounds, and their checks."""

from typing import Annotated, Any

from pydantic import AfterValidator, Field

from .errors import TooLarge

MAX_VALUES = 12_000
"""Fields and items in one JSON body or row, which is so checked within milliseconds."""
MAX_KEYS = 2_000
"""Fields of one JSON object."""
MAX_DEPTH = 32
"""Levels of nesting in a free-form JSON object."""
MAX_FIELDS = 200
"""Fields of a free-form JSON object."""
MAX_OBJECT_VALUES = 5_000
"""Fields and items in a free-form JSON object, over all its levels."""
MAX_OBJECT_CHARACTERS = 64 * 2**10
"""Characters in the names and texts of a free-form JSON object together."""


def check_size(value: Any) -> None:
    """Refuse a JSON value with too many fields and items.

    Raises:
        TooLarge: It has more than `MAX_VALUES` over all its levels, or more than
            `MAX_KEYS` fields in one object.
    """
    count, pending = 0, [value]
    while pending:
        inner = pending.pop()
        if isinstance(inner, dict | list):
            count += len(inner)
            if count > MAX_VALUES:
                raise TooLarge(f"more than {MAX_VALUES:,} fields and items in one JSON value")
            if len(inner) > MAX_KEYS and isinstance(inner, dict):
                raise TooLarge(f"more than {MAX_KEYS:,} fields in one JSON object")
            pending += inner.values() if isinstance(inner, dict) else inner


def check_object(value: dict[str, Any]) -> dict[str, Any]:
    """Refuse a free-form JSON object that is too large or nested too deeply.

    Raises:
        ValueError: What it has too much of.
    """
    count = characters = 0
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for inner in level:
            if isinstance(inner, str):
                characters += len(inner)
            elif isinstance(inner, dict | list):
                count += len(inner)
                if isinstance(inner, dict):
                    characters += sum(map(len, inner))
                    below += inner.values()
                else:
                    below += inner
            if count > MAX_OBJECT_VALUES:
                raise ValueError(f"has more than {MAX_OBJECT_VALUES:,} fields and items")
        if characters > MAX_OBJECT_CHARACTERS:
            raise ValueError(f"has more than {MAX_OBJECT_CHARACTERS:,} characters")
        if not below:
            return value
        level = below
    raise ValueError(f"is nested more than {MAX_DEPTH} levels deep")


Number = Annotated[float, Field(ge=-1e150, le=1e150, allow_inf_nan=False)]
"""A finite number whose square is finite too."""
Integer = Annotated[int, Field(ge=-(2**63), lt=2**63)]
"""A whole number of 64 bits."""
Text = Annotated[str, Field(max_length=512)]
"""A short text, which may be empty."""
JsonObject = Annotated[
    dict[str, Any],
    Field(max_length=MAX_FIELDS, json_schema_extra={"x-shoal-depth": MAX_DEPTH}),
    AfterValidator(check_object),
]
"""A free-form JSON object: at most `MAX_FIELDS` fields, `MAX_OBJECT_VALUES` values on
`MAX_DEPTH` levels, and `MAX_OBJECT_CHARACTERS` characters.
"""
