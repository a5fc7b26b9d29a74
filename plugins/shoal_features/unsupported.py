"""What Feast's objects can ask for that Shoal does not do; none of it is ignored.

An option that is not among those that are done, and is not at its default, is a fault
that names it. So is one that a later version of Feast adds.
"""

import inspect
from collections.abc import Iterator
from typing import Any

from .errors import ErrorEntry, error_entry

FOR_PEOPLE = frozenset({"name", "description", "tags", "owner", "org"})
VIEW = {"source", "schema", "entities", "ttl", "online", "offline"}
TRANSFORMED = VIEW | {"aggregations", "mode", "udf", "udf_string", "feature_transformation"}
DONE = {
    "Entity": {"join_keys", "value_type"},
    "Field": {"dtype"},
    "FeatureView": VIEW,
    "BatchFeatureView": TRANSFORMED,
    "StreamFeatureView": TRANSFORMED | {"timestamp_field"},
    "Aggregation": {"column", "function", "time_window", "slide_interval"},
    "FeatureService": {"features"},
    "FileSource": {"path", "timestamp_field", "created_timestamp_column", "field_mapping"},
    "PushSource": {"batch_source"},
}
"""The options that are compiled, or checked in `definitions`, beside `FOR_PEOPLE`."""

EVENTS = "shoal://events/"
"""A source's path is this and the event types, separated by commas:
`shoal://events/board.created,board.opened`.
"""


def option_errors(at: str, definition: Any) -> list[ErrorEntry]:
    """A fault for every option of one of Feast's objects that is not done.

    Args:
        at: The location of the object.
        definition: An instance of one of the classes in `DONE`.
    """
    kind = next(c.__name__ for c in type(definition).__mro__ if c.__name__ in DONE)
    return [
        error_entry(at, f"{name} of a {kind} is not supported: leave it out")
        for name in _set_options(definition, {*DONE[kind], *FOR_PEOPLE})
    ]


def source_errors(at: str, source: Any) -> list[ErrorEntry]:
    """The faults of a view's source, and of the batch source within it."""
    if source is None:
        return []
    kind = type(source).__name__
    if kind not in ("FileSource", "PushSource"):
        message = (
            f"a {kind} is not read: append its rows as events and read these by a FileSource,"
            " or push values to the view"
        )
        return [error_entry(at, message)]
    if kind == "FileSource" and not source.path.startswith(EVENTS):
        return []  # Feast reads it, in `materialize`
    return option_errors(at, source) + source_errors(at, getattr(source, "batch_source", None))


def service_errors(service: Any) -> list[ErrorEntry]:
    """The faults of a feature service."""
    at = f"services.{service.name}"
    errors = option_errors(at, service)
    for projection in service.feature_view_projections:
        for option in ("name_alias", "join_key_map", "version_tag"):
            if getattr(projection, option, None):
                message = f"{projection.name}: a service has views under their own names and keys"
                errors.append(error_entry(at, f"{message}, without {option}"))
    return errors


def _set_options(definition: Any, done: set[str]) -> Iterator[str]:
    for name, default in _options(type(definition)).items():
        if name in done:
            continue
        value = getattr(definition, name, default)
        # An option that is an empty collection, text or duration asks for nothing.
        if value != default and (value or default):
            yield name


def _options(kind: type[Any]) -> dict[str, Any]:
    """The options of a class, with their defaults."""
    parameters = inspect.signature(kind).parameters.values()
    return {
        p.name: None if p.default is p.empty else p.default
        for p in parameters
        if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)
    }
