"""Filters in Milvus's expression language, with values as literals."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shoal.contract.errors import Invalid

TOKEN = re.compile(r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|\{([A-Za-z_]\w*)\}""", re.DOTALL)
"""A quoted text, or a placeholder."""
ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"})


def literal(value: Any) -> str:
    """A value as a literal of Milvus's expression language; Invalid for other types."""
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, int | np.integer):
        return str(int(value))
    if isinstance(value, float | np.floating):
        if not math.isfinite(value):
            raise Invalid("a filter's value is not finite")
        return repr(float(value))
    if isinstance(value, str):
        return f'"{value.translate(ESCAPES)}"'
    if isinstance(value, Sequence | set | frozenset) and not isinstance(value, bytes):
        return f"[{', '.join(map(literal, value))}]"
    raise Invalid(
        "a filter's value may be a string, number, boolean or list of them, "
        f"not {type(value).__name__}"
    )


def fill_placeholders(filter: str, values: Mapping[str, Any] | None) -> str:
    """Replace the `{name}` placeholders of a filter outside its quotes by literals.

    Milvus has filter templates, but milvus-lite 3.2 ignores them.
    """
    values = values or {}
    used = set()

    def fill(match: re.Match[str]) -> str:
        name = match[1]
        if name is None:
            return match[0]
        used.add(name)
        return literal(values[name])

    try:
        expression = TOKEN.sub(fill, filter)
    except KeyError as error:
        raise ValueError(f"the filter's placeholder {error} has no value") from None
    if unused := set(values) - used:
        raise ValueError(f"the filter has no placeholder for {', '.join(sorted(unused))}")
    return expression
