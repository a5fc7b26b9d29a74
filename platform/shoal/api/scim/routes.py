"""The addresses of a tenant's SCIM service, below `/platform/scim/v2`."""

from typing import Any

import orjson
from fastapi import APIRouter, Depends, Request, Response
from scim2_models import (
    Context,
    Error,
    ForbiddenException,
    ListResponse,
    NotFoundException,
    NotImplementedException,
    Resource,
    ResourceType,
    Schema,
)

from shoal.contract.context import TenantContext, requires

from . import groups, users
from .messages import MEDIA_TYPE, ScimRoute, error_response
from .resources import CONFIG, PROVIDER

router = APIRouter(prefix="/scim/v2", route_class=ScimRoute, include_in_schema=False)
router.include_router(users.router)
router.include_router(groups.router)
Caller = Depends(requires("admin:tenant"))

_WRITABLE = ("GET, POST", "GET, PUT, PATCH, DELETE")
ALLOWED = {"Users": _WRITABLE, "Groups": _WRITABLE} | dict.fromkeys(
    ("ServiceProviderConfig", "Schemas", "ResourceTypes"), ("GET", "GET")
)
"""The methods of each collection, and of one of its resources."""


@router.get("/ServiceProviderConfig")
async def get_config(ctx: TenantContext = Caller) -> Response:
    return _document(CONFIG)


@router.get("/Schemas")
async def list_schemas(request: Request, ctx: TenantContext = Caller) -> Response:
    return _documents(request, list(PROVIDER.schemas), Schema)


@router.get("/Schemas/{id}")
async def get_schema(id: str, ctx: TenantContext = Caller) -> Response:
    return _document(_find(PROVIDER.schemas, id, "schema"))


@router.get("/ResourceTypes")
async def list_resource_types(request: Request, ctx: TenantContext = Caller) -> Response:
    return _documents(request, list(PROVIDER.resource_types), ResourceType)


@router.get("/ResourceTypes/{id}")
async def get_resource_type(id: str, ctx: TenantContext = Caller) -> Response:
    return _document(_find(PROVIDER.resource_types, id, "resource type"))


@router.api_route(
    "/{path:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE"], operation_id="scim_other"
)
async def refuse_other(path: str, request: Request, ctx: TenantContext = Caller) -> Response:
    """Refuse what the service does not have: `/Me`, `/Bulk`, `/.search` and others."""
    first, _, rest = path.partition("/")
    if first in ALLOWED and "/" not in rest and rest != ".search":
        error = Error(status=405, detail=f"{request.method} is not allowed here")
        return error_response(error, headers={"Allow": ALLOWED[first][bool(rest)]})
    if first in ("Me", "Bulk", ".search") or rest == ".search":
        raise NotImplementedException(detail=f"{request.method} {path[:100]!r} is not supported")
    raise NotFoundException(detail=f"{request.method} {path[:100]!r} does not exist")


def _find(known: tuple[Any, ...], wanted: str, noun: str) -> Any:
    for document in known:
        if wanted in (document.id, getattr(document, "name", None)):
            return document
    raise NotFoundException(detail=f"no {noun} {wanted[:100]!r}")


def _document(document: Resource[Any]) -> Response:
    body = document.model_dump(scim_ctx=Context.RESOURCE_QUERY_RESPONSE)
    return Response(orjson.dumps(body), media_type=MEDIA_TYPE)


def _documents(request: Request, documents: list[Any], model: type[Any]) -> Response:
    if "filter" in request.query_params:  # RFC 7644, section 4
        raise ForbiddenException(detail="these cannot be filtered")
    answer = ListResponse[model](  # type: ignore[valid-type]
        total_results=len(documents),
        start_index=1,
        items_per_page=len(documents),
        resources=documents,
    )
    body = answer.model_dump(scim_ctx=Context.RESOURCE_QUERY_RESPONSE)
    return Response(orjson.dumps(body), media_type=MEDIA_TYPE)
