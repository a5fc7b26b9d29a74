"""The platform's errors as a person reads them."""

import re

from shoal.contract.errors import ShoalError

_PATTERN = re.compile(r"(must|String should) match (the )?pattern .*")
_PARTS_OF_REQUESTS = ("body", "path", "query", "header")
_PREDICATES = ("is ", "must ", "may ", "has ")


def plain_message(message: str) -> str:
    """A message about a field without the regular expression of its pattern."""
    return _PATTERN.sub("has characters that are not allowed, such as spaces", message)


def plain_field(location: str) -> str:
    """A field's name as a form has it: "body.match.metric" is "match metric"."""
    parts = location.split(".")
    if parts[0] in _PARTS_OF_REQUESTS:
        parts = parts[1:]
    return " ".join(parts).replace("_", " ")


def describe_error(error: ShoalError) -> str:
    """What went wrong, and in which field: a sentence for each."""
    faults = []
    for fault in error.errors:
        message = plain_message(str(fault.get("message", "")))
        field = plain_field(str(fault.get("location", "")))
        joint = " " if message.startswith(_PREDICATES) else ": "
        faults.append(sentence(f"{field}{joint}{message}" if field else message))
    return " ".join(faults) or sentence(error.detail)


def sentence(text: str) -> str:
    """The text with a capital letter and a full stop."""
    text = text.strip()
    return f"{text[:1].upper()}{text[1:]}" + ("" if text.endswith((".", "!", "?")) else ".")
