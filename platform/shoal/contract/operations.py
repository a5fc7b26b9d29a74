"""The operations of a capability, read from its OpenAPI document."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import orjson

from .errors import Invalid, ShoalError
from .names import check_id

NDJSON = "application/x-ndjson"
IDEMPOTENT = {"GET", "HEAD", "PUT", "DELETE", "OPTIONS"}


@dataclass(frozen=True, slots=True)
class OperationRequest:
    """One HTTP request, relative to the platform's address."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    """Names and values in order; names may be repeated."""
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def idempotent(self) -> bool:
        return self.method in IDEMPOTENT


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of a capability, as its OpenAPI describes it."""

    id: str
    method: str
    path: str
    in_path: tuple[str, ...]
    required: frozenset[str]
    query: frozenset[str]
    has_body: bool
    raw_type: str
    """The media type of a body that is given as text or bytes."""
    fields: frozenset[str]
    summary: str
    safe: bool
    """Whether it changes nothing, so that it may be retried: GET, or `x-shoal-safe`."""

    def request(self, arguments: Mapping[str, Any]) -> OperationRequest:
        """Build the request for these arguments.

        Args:
            arguments: Path and query parameters by name, and either `body` or the
                body's fields by name. If the operation takes no body, other arguments
                become query parameters, since a capability may accept any name there.
                A `body` of text or bytes is sent as NDJSON, or where the operation
                does not take that, as the first other type that it takes.

        Raises:
            Invalid: A required parameter is missing, one of the path is not an id, or
                both `body` and fields of the body are given.
        """
        rest = dict(arguments)
        body = rest.pop("body", None)
        path = self.path
        for name in self.in_path:
            if rest.get(name) is None:
                raise Invalid(f"{self.id} needs the argument {name}")
            path = path.replace("{" + name + "}", _path_segment(name, rest.pop(name)))
        # A name of both is a field of the body, unless the body is given as a whole.
        in_query = self.query - (self.fields if body is None else frozenset())
        query = {k: rest.pop(k) for k in list(rest) if k in in_query}
        if self.has_body:
            fields = {k: v for k, v in rest.items() if v is not None}
            if body is not None and fields:
                names = ", ".join(fields)
                raise Invalid(
                    f"{self.id} takes either body= or the body's fields, not both: {names}"
                )
            body = fields if body is None else body
        else:
            query |= rest
        missing = sorted(n for n in self.required if query.get(n) is None)
        if missing:
            raise Invalid(f"{self.id} needs the argument {', '.join(missing)}")
        headers: tuple[tuple[str, str], ...] = ()
        raw = b""
        if isinstance(body, bytes | str):
            raw = body if isinstance(body, bytes) else body.encode()
            headers = (("content-type", self.raw_type),)
        elif body is not None:
            raw = orjson.dumps(
                body, default=_encode, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
            )
            headers = (("content-type", "application/json"),)
        return OperationRequest(self.method, path, tuple(_flatten(query)), raw, headers)


def _path_segment(name: str, value: Any) -> str:
    """A value as one segment of a path."""
    try:
        return quote(check_id(str(value)), safe="")
    except ValueError as error:
        raise Invalid.at(name, str(error)) from None


def _encode(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


def _flatten(query: Mapping[str, Any]) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for name, value in query.items():
        for item in value if isinstance(value, list | tuple | set | frozenset) else (value,):
            if item is not None:
                text = item.isoformat() if hasattr(item, "isoformat") else item
                pairs.append((name, str(text).lower() if isinstance(text, bool) else str(text)))
    return pairs


def operations(openapi: Mapping[str, Any]) -> dict[str, Operation]:
    """The operations of an OpenAPI 3 document, by operation id."""
    found: dict[str, Operation] = {}
    schemas = openapi.get("components", {}).get("schemas", {})
    for path, methods in openapi.get("paths", {}).items():
        for method, spec in methods.items():
            parameters = spec.get("parameters", [])
            # An object stands for parameters of any names.
            named = [
                p for p in parameters if p["in"] == "query" and p["schema"].get("type") != "object"
            ]
            content = spec.get("requestBody", {}).get("content", {})
            schema = content.get("application/json", {}).get("schema", {})
            if "$ref" in schema:
                schema = schemas.get(schema["$ref"].rsplit("/", 1)[-1], {})
            found[spec["operationId"]] = Operation(
                id=spec["operationId"],
                method=method.upper(),
                path=path,
                in_path=tuple(p["name"] for p in parameters if p["in"] == "path"),
                required=frozenset(p["name"] for p in named if p.get("required")),
                query=frozenset(p["name"] for p in named),
                has_body="requestBody" in spec,
                raw_type=_raw_type(content),
                fields=frozenset(schema.get("properties", {})),
                summary=spec.get("summary", ""),
                safe=method.upper() == "GET" or bool(spec.get("x-shoal-safe")),
            )
    return found


def _raw_type(content: Mapping[str, Any]) -> str:
    types = [name for name in content if name != "application/json"]
    return NDJSON if NDJSON in types or not types else types[0]


def decode(status: int, content_type: str, body: bytes) -> Any:
    """Decode the body of a response.

    Returns:
        The value of JSON, the bytes of other content types, or None for an empty body.

    Raises:
        ShoalError: The status is 400 or above.
    """
    value: Any = body
    if "json" in content_type and "ndjson" not in content_type:
        try:
            value = orjson.loads(body)
        except json.JSONDecodeError:
            value = {"detail": body[:200].decode(errors="replace")}
    if status >= 400:
        detail = (
            value if isinstance(value, dict) else {"detail": body[:200].decode(errors="replace")}
        )
        raise ShoalError.from_problem(status, detail)
    return value if body else None
