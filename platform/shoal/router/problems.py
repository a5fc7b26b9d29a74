"""Error responses: RFC 9457 `application/problem+json`."""

import logging
import math
from http import HTTPStatus
from json import JSONDecodeError
from typing import Any, ClassVar

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.routing import compile_path
from starlette.types import Receive, Scope, Send

from shoal.contract.errors import (
    InternalError,
    Invalid,
    Malformed,
    ShoalError,
    UnsupportedMediaType,
)
from shoal.contract.faults import fault_location, fault_message, json_message
from shoal.contract.names import mask_keys

log = logging.getLogger(__name__)


class UnsupportedEncoding(UnsupportedMediaType):
    """The body's Content-Encoding is not one of those in `TAKEN`."""

    location = "header.content-encoding"
    TAKEN: ClassVar[str] = "gzip, snappy, zstd"

    def __init__(self) -> None:
        super().__init__(f"Content-Encoding must be one of {self.TAKEN}, or absent")


MEDIA_TYPE = "application/problem+json"
MAX_ERRORS = 100
"""The largest number of errors listed for one request."""


class JSON(JSONResponse):
    """The JSON of a route's result; NaN and infinities become null."""

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY)


def respond(
    error: ShoalError, request_id: str | None, status: int | None = None
) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Status, headers and body of an error's response.

    The error itself is left unchanged, since several requests may share it.
    """
    problem = error.problem()
    if status is not None and status != error.status:
        problem["status"] = status
        problem["title"] = HTTPStatus(status).phrase.capitalize()
    if request_id:
        problem["request_id"] = request_id
    text = orjson.dumps(problem, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    body = mask_keys(text).encode()
    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode())]
    if error.retry_after is not None:
        headers.append((b"retry-after", str(max(1, math.ceil(error.retry_after))).encode()))
    if error.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if isinstance(error, UnsupportedEncoding):
        headers.append((b"accept-encoding", error.TAKEN.encode()))
    return status or error.status, headers, body


class RefusedBody(HTTPException):
    """An error found while a body is read, where FastAPI takes any other for a 400."""

    def __init__(self, error: ShoalError) -> None:
        super().__init__(error.status, error.detail)
        self.error = error


def from_validation_error(error: RequestValidationError) -> ShoalError:
    """Convert a validation error of FastAPI, omitting the values that were sent.

    Locations are as in the request: `3.text` in a body, `query.limit` elsewhere.
    """
    faults = error.errors()
    for fault in faults:
        if fault["type"] == "json_invalid":
            cause = error.__cause__
            why = json_message(cause) if isinstance(cause, JSONDecodeError) else "it cannot be read"
            return Malformed(f"the body is not JSON: {why}")
    errors = []
    for fault in faults[:MAX_ERRORS]:
        errors.append(
            {
                "location": fault_location(fault, "body", error.body),
                "message": fault_message(fault),
            }
        )
    first = errors[0]
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return Invalid(f"{first['location']}: {first['message']}{more}", errors=errors)


def from_http_exception(error: HTTPException, request: Request) -> ShoalError:
    """Convert an HTTP exception to the error of its status, or the nearest one.

    If the exception has no detail of its own, the detail names the request's path.
    """
    if isinstance(error, RefusedBody):
        return error.error
    detail = str(error.detail)
    if detail == HTTPStatus(error.status_code).phrase:
        detail = f"{request.method} {request.scope['path']}: {detail.lower()}"
    return ShoalError.from_problem(error.status_code, {"detail": detail})


def allowed_methods(app: FastAPI, path: str) -> str:
    """The methods that a path answers, for the header Allow; empty without any."""
    found: set[str] = set()
    for context in iter_route_contexts(app.routes):
        template = context.path_format
        if template is not None and compile_path(template)[0].match(path):
            found |= context.methods or set()
    if "GET" in found:
        found.add("HEAD")
    return ", ".join(sorted(found | {"OPTIONS"})) if found else ""


def install_problem_handlers(app: FastAPI) -> None:
    """Install handlers that respond to all errors of an application with problems."""

    def response(request: Request, error: ShoalError, status: int | None = None) -> Response:
        status, headers, body = respond(error, request.scope.get("shoal.request_id"), status)
        result = Response(body, status)
        result.raw_headers = headers
        return result

    async def shoal_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, ShoalError)
        return response(request, error)

    async def validation_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return response(request, from_validation_error(error))

    async def http_exception(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code < 400:
            return Response(status_code=error.status_code, headers=error.headers)
        result = response(request, from_http_exception(error, request), error.status_code)
        for name, value in (error.headers or {}).items():
            result.headers[name] = value
        if error.status_code == 405:
            result.headers["allow"] = allowed_methods(app, request.scope["path"])
        return result

    async def unknown(request: Request, error: Exception) -> Response:
        return response(
            request, InternalError("internal error; it was logged with the request's id")
        )

    app.add_exception_handler(ShoalError, shoal_error)
    app.add_exception_handler(RequestValidationError, validation_error)
    app.add_exception_handler(HTTPException, http_exception)
    app.add_exception_handler(Exception, unknown)


async def reject_websocket(
    scope: Scope, receive: Receive, send: Send, error: ShoalError, request_id: str
) -> None:
    """Reject a WebSocket's handshake, with a problem if the server can send one."""
    if (await receive())["type"] != "websocket.connect":
        return
    if "websocket.http.response" in scope.get("extensions", {}):
        status, headers, body = respond(error, request_id)
        headers.append((b"x-request-id", request_id.encode()))
        await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": body})
    else:
        await send({"type": "websocket.close", "code": 1008, "reason": error.title})
