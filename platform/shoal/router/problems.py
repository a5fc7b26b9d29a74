"""Errors on the wire: RFC 9457 `application/problem+json`."""

import logging
import math
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from shoal.contract.errors import InternalError, Invalid, Malformed, ShoalError

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
SHOWN = 100
"""Of more faults than this in one request, the first are listed."""


class JSON(JSONResponse):
    """What a route's plain return value is sent as: NaN and infinities become null,
    which JSON has no other word for.
    """

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY)


def respond(
    error: ShoalError, request_id: str | None, status: int | None = None
) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Status, headers and body of an error's response. Does not change the error, which
    may be shared.
    """
    problem = error.problem()
    if status is not None:
        problem["status"] = status
    if request_id:
        problem["request_id"] = request_id
    body = orjson.dumps(problem, default=str, option=orjson.OPT_NON_STR_KEYS)
    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode())]
    if error.retry_after is not None:
        headers.append((b"retry-after", str(max(1, math.ceil(error.retry_after))).encode()))
    if error.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    return status or error.status, headers, body


def invalid(error: RequestValidationError) -> ShoalError:
    """FastAPI's complaint as ours. Locations are as in the request: `3.text` in a body,
    `query.limit` elsewhere. The values complained of are not repeated.
    """
    faults = error.errors()
    for fault in faults:
        if fault["type"] == "json_invalid":
            where = fault["loc"][-1] if len(fault["loc"]) > 1 else 0
            return Malformed(
                f"the body is not JSON: {fault.get('ctx', {}).get('error', fault['msg'])} (at {where})"
            )
    errors = []
    for fault in faults[:SHOWN]:
        location = (
            fault["loc"][1:]
            if len(fault["loc"]) > 1 and fault["loc"][0] == "body"
            else fault["loc"]
        )
        errors.append(
            {
                "location": ".".join(map(str, location)),
                "message": fault["msg"].removeprefix("Value error, "),
            }
        )
    first = errors[0]
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return Invalid(f"{first['location']}: {first['message']}{more}", errors=errors)


def of_status(error: HTTPException, request: Request) -> ShoalError:
    """An HTTP exception as ours: the kind of its status, or the nearest. One that says
    no more than its status gets told where.
    """
    detail = str(error.detail)
    if detail == HTTPStatus(error.status_code).phrase:
        detail = f"{request.method} {request.scope['path']}: {detail.lower()}"
    return ShoalError.from_problem(error.status_code, {"detail": detail})


def install_problem_handlers(app: FastAPI) -> None:
    """Make every error of the application a problem."""

    def response(
        request: Request, error: ShoalError, status: int | None = None, title: str | None = None
    ) -> Response:
        status, headers, body = respond(error, request.scope.get("shoal.request_id"), status)
        result = Response(body, status)
        result.raw_headers = headers
        return result

    async def shoal_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, ShoalError)
        return response(request, error)

    async def validation_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return response(request, invalid(error))

    async def http_exception(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code < 400:
            return Response(status_code=error.status_code, headers=error.headers)
        result = response(request, of_status(error, request), error.status_code)
        for name, value in (error.headers or {}).items():
            result.headers[name] = value
        return result

    async def unknown(request: Request, error: Exception) -> Response:
        return response(
            request,
            InternalError("an error of the platform's; it was logged under the request's id"),
        )

    app.add_exception_handler(ShoalError, shoal_error)
    app.add_exception_handler(RequestValidationError, validation_error)
    app.add_exception_handler(HTTPException, http_exception)
    app.add_exception_handler(Exception, unknown)
