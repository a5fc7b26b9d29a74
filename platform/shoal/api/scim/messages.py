"""Requests and responses of SCIM: bodies, queries, preconditions and errors."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

import orjson
from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import ValidationError
from scim2_models import (
    Context,
    Error,
    InvalidFilterException,
    InvalidSyntaxException,
    ListResponse,
    PayloadTooLargeException,
    PreconditionFailedException,
    Resource,
    ResponseParameters,
    SCIMException,
    SearchRequest,
)

from shoal.contract.errors import InternalError, Invalid, ShoalError
from shoal.contract.faults import fault_message
from shoal.contract.json_text import load_json

from .resources import PAGE, POLICY, PROVIDER

MEDIA_TYPE = "application/scim+json"
SMALL_BYTES = 2**16
MAX_BYTES = 2 * 2**20
"""The largest body: of a user, and of a group with its members."""
MAX_FILTER = 1000
"""The most characters of a filter or a list of attributes."""
MAX_VALUES = 100
"""The most values of an attribute, besides the members of a group."""
MAX_DETAIL = 500
MAX_DEPTH = 20
"""The most nested arrays and objects of a body."""
R = TypeVar("R", bound=Resource[Any])


class ScimRoute(APIRoute):
    """A route whose errors are those of SCIM (RFC 7644, section 3.12)."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                with PROVIDER:
                    return await handler(request)
            except SCIMException as error:
                if isinstance(error.__cause__, ValidationError):
                    return error_response(_fault(error.__cause__))
                return error_response(error.to_error())
            except ValidationError as error:
                return error_response(_fault(error))
            except RecursionError:
                return error_response(InvalidSyntaxException().to_error())
            except InternalError:
                raise
            except ShoalError as error:
                kind = "uniqueness" if error.status == 409 else None
                return error_response(
                    Error(status=error.status, scim_type=kind, detail=error.detail),
                    _retry_after(error),
                )

        return handle


def _fault(error: ValidationError) -> Error:
    """The first fault that pydantic found, in the words of the other errors."""
    fault = error.errors(include_url=False)[0]
    return Error.from_validation_error({**fault, "msg": fault_message(fault)})


def error_response(error: Error, headers: Mapping[str, str] | None = None) -> Response:
    """The response of an error. Its detail may repeat what was sent, and is cut."""
    if error.detail is not None and len(error.detail) > MAX_DETAIL:
        error.detail = error.detail[:MAX_DETAIL] + "…"
    body = orjson.dumps(error.model_dump(scim_ctx=Context.DEFAULT))
    return Response(body, error.status or 400, headers, MEDIA_TYPE)


def _retry_after(error: ShoalError) -> dict[str, str]:
    seconds = error.retry_after
    return {} if seconds is None else {"Retry-After": str(max(1, round(seconds)))}


async def read_body(request: Request, limit: int = SMALL_BYTES) -> dict[str, Any]:
    """The object that a request carries.

    Raises:
        SCIMException: It is no JSON object, over `limit` bytes, or nested too deeply.
    """
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise PayloadTooLargeException(detail=f"the body is over {limit:,} bytes")
    return await asyncio.to_thread(_parse, body) if len(body) > SMALL_BYTES else _parse(body)


def _parse(body: bytes) -> dict[str, Any]:
    try:
        document = load_json(body)
    except Invalid as error:
        raise InvalidSyntaxException(detail=error.detail) from None
    except ValueError:
        raise InvalidSyntaxException(detail="the body is not JSON") from None
    if not isinstance(document, dict):
        raise InvalidSyntaxException(detail="the body must be a JSON object")
    if _is_deeper(document, MAX_DEPTH):
        raise InvalidSyntaxException(detail=f"the body is nested over {MAX_DEPTH} levels deep")
    return document


def check_small(document: dict[str, Any]) -> None:
    """Raise PayloadTooLargeException where a group is large besides its members."""
    if len(orjson.dumps(document)) > SMALL_BYTES:
        raise PayloadTooLargeException(
            detail=f"the body is over {SMALL_BYTES:,} bytes, its members not counted"
        )


def _is_deeper(value: Any, levels: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels == 0 or any(_is_deeper(each, levels - 1) for each in inner)


def read_search(request: Request, model: type[R]) -> SearchRequest[R]:
    """The query of a list: filter, page and attributes.

    Raises:
        SCIMException, ValidationError: A parameter is not valid.
    """
    parameters = dict(request.query_params)
    if len(parameters.get("filter", "")) > MAX_FILTER:
        raise InvalidFilterException(detail=f"the filter is over {MAX_FILTER} characters")
    _check_attributes(parameters)
    known = ("filter", "startIndex", "count", "attributes", "excludedAttributes")
    given = {name: parameters[name] for name in known if name in parameters}
    try:
        return SearchRequest[model].model_validate(given)  # type: ignore[valid-type]
    except RecursionError:
        raise InvalidFilterException(detail="the filter is nested too deeply") from None


def _check_attributes(parameters: dict[str, str]) -> None:
    for name in ("attributes", "excludedAttributes"):
        if len(parameters.get(name, "")) > MAX_FILTER:
            raise InvalidSyntaxException(detail=f"{name} is over {MAX_FILTER} characters")


def read_attributes(request: Request, model: type[R]) -> ResponseParameters[R]:
    """The attributes that a response is to have."""
    parameters = dict(request.query_params)
    _check_attributes(parameters)
    names = ("attributes", "excludedAttributes")
    given = {name: parameters[name] for name in names if name in parameters}
    return ResponseParameters[model].model_validate(given)  # type: ignore[valid-type]


def wants(parameters: ResponseParameters[Any], attribute: str, *, default: bool) -> bool:
    """Whether a response is to have an attribute."""

    def names(paths: list[Any] | None) -> set[str]:
        return {str(path).rsplit(":", 1)[-1].split(".")[0].lower() for path in paths or ()}

    if parameters.attributes:
        return attribute in names(parameters.attributes)
    return default and attribute not in names(parameters.excluded_attributes)


def check_precondition(request: Request, version: str | None) -> None:
    """Raise PreconditionFailedException where If-Match names another version."""
    wanted = request.headers.get("if-match")
    if wanted is None or wanted.strip() == "*":
        return
    if version not in {tag.strip() for tag in wanted.split(",")}:
        raise PreconditionFailedException(detail="the resource has changed since: read it again")


def is_unchanged(request: Request, version: str | None) -> bool:
    """Whether the client has this version already (If-None-Match)."""
    known = request.headers.get("if-none-match", "")
    return version is not None and version in {tag.strip() for tag in known.split(",")}


def resource_response(
    request: Request,
    resource: Resource[Any],
    context: Context,
    status: int = 200,
    members: list[dict[str, str]] | None = None,
) -> Response:
    """The response of one resource; of a group with its members."""
    parameters = read_attributes(request, type(resource))
    meta = resource.meta
    headers = {}
    if meta is not None and meta.location:
        headers["Location"] = meta.location
    if meta is not None and meta.version:
        headers["ETag"] = meta.version
        if context is Context.RESOURCE_QUERY_RESPONSE and is_unchanged(request, meta.version):
            return Response(status_code=304, headers={"ETag": meta.version})
    document = document_of(resource, context, parameters, members)
    return Response(orjson.dumps(document), status, headers, MEDIA_TYPE)


def document_of(
    resource: Resource[Any],
    context: Context,
    parameters: ResponseParameters[Any],
    members: list[dict[str, str]] | None = None,
) -> dict[str, Any]:
    """A resource with the attributes that a response is to have."""
    document = resource.model_dump(scim_ctx=context, response_parameters=parameters)
    if members and wants(parameters, "members", default=True):
        document["members"] = members
    return document


def list_response(
    search: SearchRequest[Any], documents: list[dict[str, Any]], total: int
) -> Response:
    """The response of a page of resources."""
    body = {
        "schemas": [str(ListResponse.__schema__)],
        "totalResults": total,
        "startIndex": search.start_index or 1,
        "itemsPerPage": len(documents),
        "Resources": documents,
    }
    return Response(orjson.dumps(body), media_type=MEDIA_TYPE)


def page_of(search: SearchRequest[Any]) -> tuple[int, int]:
    """The position of a page's first resource, from 0, and how many it has at most."""
    count = PAGE if search.count is None else min(search.count, PAGE)
    return max(search.start_index or 1, 1) - 1, max(count, 0)


def read_resource(model: type[R], document: dict[str, Any], context: Context) -> R:
    """The resource that a request carries, without a group's members.

    Raises:
        SCIMException, ValidationError: It is not valid.
    """
    for name, value in document.items():
        if isinstance(value, list) and len(value) > MAX_VALUES:
            raise InvalidSyntaxException(detail=f"{name[:100]} has over {MAX_VALUES} values")
    return model.model_validate(document, scim_ctx=context, scim_policy=POLICY)
