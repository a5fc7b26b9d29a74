"""What an operation takes: the names in its query, and the media types of its body."""

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from fastapi import params
from fastapi.dependencies.utils import get_flat_params
from fastapi.routing import APIRoute, RouteContext
from starlette.types import Scope

from shoal.contract.errors import Invalid, UnsupportedMediaType

JSON = "application/json"
ANYTHING = re.compile("")
ALIASES = {
    "application/jsonl": "application/x-ndjson",
    "application/ndjson": "application/x-ndjson",
    "application/cloudevents+json": JSON,
    "application/cloudevents-batch+json": JSON,
}


@dataclass(frozen=True, slots=True)
class RequestShape:
    """What an operation's OpenAPI says that it takes.

    Attributes:
        query: The names of the query parameters.
        other_query: What further names must match; None where there are none.
        media_types: Of the body; empty where it takes none.
    """

    query: frozenset[str]
    other_query: re.Pattern[str] | None
    media_types: tuple[str, ...]

    def check(self, scope: Scope) -> None:
        """Check the names in the query, and the media type of a body.

        Raises:
            Invalid: The query has a parameter that the operation does not take.
            UnsupportedMediaType: The body is of another type.
        """
        if scope["query_string"]:
            self._check_query(scope["query_string"])
        if self.media_types:
            self._check_media_type(scope)

    def _check_query(self, query: bytes) -> None:
        names = {name for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True)}
        unknown = sorted(
            name
            for name in names - self.query - {"tenant"}
            if self.other_query is None or not self.other_query.search(name)
        )
        if unknown:
            taken = f"it takes {', '.join(sorted(self.query))}" if self.query else "it takes none"
            errors = [
                {"location": f"query.{name}", "message": f"unknown parameter; {taken}"}
                for name in unknown[:20]
            ]
            raise Invalid(
                f"unknown query parameter {unknown[0]!r} of this operation; {taken}", errors=errors
            )

    def _check_media_type(self, scope: Scope) -> None:
        given = b"".join(v for n, v in scope["headers"] if n == b"content-type")
        name = given.decode("latin-1").partition(";")[0].strip().lower()
        if name and ALIASES.get(name, name) not in self.media_types:
            taken = " or ".join(self.media_types)
            raise UnsupportedMediaType(
                f"this operation takes {taken}, not {name[:100]!r}: set the header Content-Type",
                errors=[{"location": "header.content-type", "message": f"must be {taken}"}],
            )


def request_shape(route: APIRoute, context: RouteContext) -> RequestShape:
    """The shape that a route's signature and its `openapi_extra` declare.

    Routes that are not in the OpenAPI document, such as SCIM's, check it themselves.

    A query parameter whose schema is an object stands for any names, or for those that
    match the pattern of its `propertyNames`.
    """
    if not context.include_in_schema:
        return RequestShape(frozenset(), ANYTHING, ())
    elsewhere = params.Path | params.Header | params.Cookie
    names = {
        field.alias
        for field in get_flat_params(context.dependant or route.dependant)
        if not isinstance(field.field_info, elsewhere)
    }
    extra: dict[str, Any] = route.openapi_extra or {}
    other = None
    for parameter in extra.get("parameters", ()):
        if parameter["in"] != "query":
            continue
        if parameter["schema"].get("type") == "object":
            other = re.compile(parameter["schema"].get("propertyNames", {}).get("pattern", ""))
        else:
            names.add(parameter["name"])
    content = extra.get("requestBody", {}).get("content")
    if content is None:
        content = (JSON,) if route.body_field is not None else ()
    return RequestShape(frozenset(names), other, tuple(content))
