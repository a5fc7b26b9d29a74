"""What is wrong with a request, in plain English."""

import json
from collections.abc import Iterable, Iterator, Mapping
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
    "union_tag_not_found": "Field required",
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
    if fault["type"] == "union_tag_invalid":
        return f"must be one of {fault['ctx']['expected_tags']}"
    message = str(fault["msg"])
    for prefix, words in _PREFIXES.items():
        if message.startswith(prefix):
            message = words + message.removeprefix(prefix)
            break
    return message.replace(" after validation", "")


def fault_location(fault: Mapping[str, Any], within: str = "", sent: Any = None) -> str:
    """Where one of pydantic's errors is: `items.3.text`. An empty name is `""`.

    Args:
        fault: The error.
        within: The first part of its location, which is left out.
        sent: What was validated. With it, the location is without the tags of unions
            that pydantic adds.
    """
    parts = list(fault["loc"])
    if within and parts[:1] == [within]:
        parts = parts[1:]
    named = 1 if fault["type"] == "missing" else 0  # parts that `sent` does not have
    end = len(parts) - named
    parts = [*_without_tags(parts[:end], sent), *parts[end:]]
    if fault["type"] in ("union_tag_invalid", "union_tag_not_found"):
        parts.append(fault["ctx"]["discriminator"].strip("'"))
    return ".".join(str(part) or '""' for part in parts) or within


def _without_tags(parts: Iterable[int | str], sent: Any) -> Iterator[int | str]:
    """The parts except the `type` of an object, where the object has no such field."""
    for part in parts:
        if isinstance(sent, dict):
            if part not in sent and part == sent.get("type"):
                continue
            sent = sent.get(part)
        else:
            is_index = isinstance(sent, list) and isinstance(part, int) and part < len(sent)
            sent = sent[part] if is_index else None
        yield part


def json_message(error: json.JSONDecodeError) -> str:
    """Why a text is not JSON, and where."""
    cause = _JSON.get(error.msg.lower(), error.msg)
    return f"{cause} (line {error.lineno}, column {error.colno})"
