"""The OpenAPI document of a capability: what FastAPI knows, and what the Router adds.

Credentials, the caller's headers, limits, and the errors of every operation are said
here once, so that the authors of capabilities need not. What only some operations
answer (409, or 404 without an id in the path), these declare:
`@router.post(…, responses={409: {}})`.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI

from shoal.contract.names import IDENTIFIER
from shoal.tenants.records import Limits

from .problems import MAX_ERRORS, MEDIA_TYPE
from .request_shape import JSON
from .route_guard import JSON_BYTES

METHODS = frozenset({"get", "put", "post", "patch", "delete"})
ALWAYS = (400, 401, 403, 414, 422, 429, 431, 503)
"""What the Router and the guard of a route may answer to any request."""
WITH_BODY = (413, 415)
RETRIED = (429, 503)
"""Statuses with a `Retry-After`."""

SECURITY_SCHEMES = {
    "apiKey": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "shoal_<id>_<secret>",
        "description": "An API key of a tenant.",
    },
    "jwt": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "A token of an issuer that the platform is configured to trust.",
    },
}
CALLER_HEADERS: list[dict[str, Any]] = [
    {
        "name": "Shoal-User",
        "in": "header",
        "required": False,
        "schema": IDENTIFIER,
        "description": "The user to act for, with a key that belongs to no user.",
    },
    {
        "name": "Shoal-Session",
        "in": "header",
        "required": False,
        "schema": IDENTIFIER,
        "description": "The visitor's session, for experiments that assign sessions.",
    },
]
HEADERS = {
    "X-Request-ID": {
        "description": "The request's id, also in logs and problems.",
        "required": True,
        "schema": {"type": "string", "minLength": 1, "maxLength": 128},
    },
    "Retry-After": {
        "description": "Seconds after which the request may succeed.",
        "required": False,
        "schema": {"type": "integer", "minimum": 1},
    },
    "WWW-Authenticate": {
        "description": "How to authenticate.",
        "required": True,
        "schema": {"const": "Bearer"},
    },
}
PROBLEM = {
    "type": "object",
    "title": "Problem",
    "description": "An error, as in RFC 9457.",
    "required": ["type", "title", "status", "detail", "request_id"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string", "description": "What is wrong, and what to do."},
        "request_id": {"type": "string"},
        "errors": {
            "type": "array",
            "maxItems": MAX_ERRORS,
            "description": "The faults of the request, each with its place.",
            "items": {
                "type": "object",
                "required": ["location", "message"],
                "properties": {
                    "location": {
                        "type": "string",
                        "description": "As in the request: `items.3.text` in the body,"
                        " `query.limit`, `path.id`, `header.shoal-user`; `body` for all of it.",
                    },
                    "message": {"type": "string"},
                },
            },
        },
        "retry_after": {"type": "number", "minimum": 0},
    },
}


def describe_application(app: FastAPI, limits: Limits) -> None:
    """Complete the document that an application gives of itself.

    Args:
        app: The application of a capability.
        limits: The platform's defaults, for the size of bodies.
    """
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _complete(generate(), limits)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _complete(document: dict[str, Any], limits: Limits) -> dict[str, Any]:
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):  # FastAPI's own, which is not sent
        schemas.pop(name, None)
    schemas["Problem"] = PROBLEM
    components["securitySchemes"] = SECURITY_SCHEMES
    components["headers"] = HEADERS
    document["security"] = [{name: []} for name in SECURITY_SCHEMES]
    used = set()
    for methods in document.get("paths", {}).values():
        for method, operation in methods.items():
            if method in METHODS:
                used |= _complete_operation(method, operation, limits)
    components["responses"] = {str(status): _problem(status) for status in sorted(used)}
    _link_operations(document.get("paths", {}))
    return document


def _link_operations(paths: Mapping[str, Any]) -> None:
    """Say what may follow a PUT, or a POST with an id: what is at or under its path."""
    for path, methods in paths.items():
        for method in {"put", "post"} & set(methods):
            parameters = methods[method]["parameters"]
            names = [parameter["name"] for parameter in parameters if parameter["in"] == "path"]
            links = {
                follower["operationId"]: {
                    "operationId": follower["operationId"],
                    "parameters": {f"path.{name}": f"$request.path.{name}" for name in names},
                }
                for other, followers in paths.items()
                if f"{other}/".startswith(f"{path}/") and other.count("{") == len(names)
                for follower in followers.values()
                if follower is not methods[method]
            }
            for status, response in methods[method]["responses"].items():
                if status < "300" and names and links:
                    response["links"] = links


def _complete_operation(method: str, operation: dict[str, Any], limits: Limits) -> set[int]:
    """Add what the Router does; returns the statuses of the operation's problems."""
    parameters = operation.setdefault("parameters", [])
    has_id = any(parameter["in"] == "path" for parameter in parameters)
    parameters += CALLER_HEADERS
    responses: dict[str, Any] = operation["responses"]
    for response in responses.values():
        _prefer_reference(response)
        response.setdefault("headers", {})["X-Request-ID"] = _reference("headers", "X-Request-ID")
    problems = {int(status) for status in responses if status >= "400"} | {*ALWAYS}
    if has_id and method != "put":
        problems.add(404)
    if "requestBody" in operation:
        problems |= {*WITH_BODY}
        of_platform = limits.body_bytes or JSON_BYTES
        only_json = set(operation["requestBody"]["content"]) == {JSON}
        operation["x-shoal-body-bytes"] = min(JSON_BYTES, of_platform) if only_json else of_platform
    for status in problems:
        responses[str(status)] = _reference("responses", str(status))
    operation["responses"] = dict(sorted(responses.items()))
    return problems


def _prefer_reference(response: Mapping[str, Any]) -> None:
    """Keep a declared model alone; FastAPI merges it with the annotation's schema."""
    for content in response.get("content", {}).values():
        schema = content.get("schema", {})
        if "$ref" in schema:
            content["schema"] = {"$ref": schema["$ref"]}


def _problem(status: int) -> dict[str, Any]:
    headers = ["X-Request-ID"]
    headers += ["Retry-After"] if status in RETRIED else []
    headers += ["WWW-Authenticate"] if status == HTTPStatus.UNAUTHORIZED else []
    return {
        "description": HTTPStatus(status).phrase,
        "headers": {name: _reference("headers", name) for name in headers},
        "content": {MEDIA_TYPE: {"schema": _reference("schemas", "Problem")}},
    }


def _reference(kind: str, name: str) -> dict[str, str]:
    return {"$ref": f"#/components/{kind}/{name}"}
