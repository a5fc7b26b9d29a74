"""What is wrong with a request, in plain English."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

_TIME = "must be a time with an offset, such as 2026-11-23T09:30:00Z"
_MESSAGES = {
    "extra_forbidden": "unknown field",
    "finite_number": "must be a number, not NaN or infinite",
    "invalid_key": "the names of an object must be text",
    **dict.fromkeys(("model_type", "model_attributes_type", "dict_type"), "must be an object"),
    **dict.fromkeys(("list_type", "tuple_type", "set_type", "frozen_set_type"), "must be a list"),
    **dict.fromkeys(("string_type", "string_unicode"), "must be text"),
    **dict.fromkeys(
        ("int_type", "int_parsing", "int_parsing_size", "int_from_float"), "must be a whole number"
    ),
    **dict.fromkeys(("float_type", "float_parsing"), "must be a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "must be true or false"),
    **dict.fromkeys(("datetime_type", "datetime_parsing", "timezone_aware"), _TIME),
    **dict.fromkeys(("datetime_from_date_parsing", "datetime_object_invalid"), _TIME),
    **dict.fromkeys(("date_type", "date_parsing"), "must be a date, such as 2026-11-23"),
    **dict.fromkeys(("time_type", "time_parsing"), "must be a time of day, such as 09:30"),
}
"""By pydantic's type of error, where its own message speaks of Python."""
_PREFIXES = {
    "Value error, ": "",
    "Input should be ": "must be ",
    "String should ": "must ",
    "List should ": "must ",
    "Dictionary should ": "must ",
    "Tuple should ": "must ",
    "Set should ": "must ",
}
_JSON = {
    "input is a zero-length, empty document": "it is empty",
    "input data is empty": "it is empty",
    "depth limit exceeded": "it is nested too deeply",
    "str is not valid utf-8: surrogates not allowed": "it is not UTF-8",
    "no low surrogate in string": "a text has half of a surrogate pair",
    "number is infinity when parsed as double": "a number is too large",
}


def fault_message(fault: Mapping[str, Any]) -> str:
    """What is wrong, for one of pydantic's errors; never the value that was sent."""
    if fault["type"] in _MESSAGES:
        return _MESSAGES[fault["type"]]
    message = str(fault["msg"])
    for prefix, words in _PREFIXES.items():
        if message.startswith(prefix):
            message = words + message.removeprefix(prefix)
            break
    return message.replace(" after validation", "")


def fault_location(parts: Iterable[int | str]) -> str:
    """Where it is: `items.3.text`. An empty name is `""`."""
    return ".".join(str(part) or '""' for part in parts)


def json_message(error: json.JSONDecodeError) -> str:
    """Why a text is not JSON, and where."""
    cause = _JSON.get(error.msg.lower(), error.msg)
    return f"{cause} (line {error.lineno}, column {error.colno})"
