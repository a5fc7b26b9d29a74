"""JSON responses."""

from typing import Any

import orjson
from fastapi import Response


def json_response(value: Any, status: int = 200) -> Response:
    """A response with a value as JSON."""
    return raw_response(orjson.dumps(value), status)


def raw_response(value: bytes, status: int = 200) -> Response:
    """A response with JSON that is encoded already."""
    return Response(value, status, media_type="application/json")


def answers(model: Any, status: int = 200) -> dict[int | str, dict[str, Any]]:
    """What an operation answers, for OpenAPI."""
    return {status: {"model": model}}
