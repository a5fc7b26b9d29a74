"""The users of a tenant, as SCIM resources."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from scim2_models import (
    Context,
    NotFoundException,
    PreconditionFailedException,
    UniquenessException,
)

from shoal.contract.context import TenantContext, requires
from shoal.contract.errors import Conflict
from shoal.tenants.directory import Directory
from shoal.tenants.members import MemberChanges
from shoal.tenants.records import UserRecord
from shoal.tenants.users import Modified

from ..changes import audit_changes
from ..dependencies import Platform
from .filters import matching, required_value
from .messages import (
    ScimRoute,
    check_precondition,
    document_of,
    list_response,
    page_of,
    read_attributes,
    read_body,
    read_resource,
    read_search,
    resource_response,
    wants,
)
from .patches import read_patch
from .resources import (
    PAGE,
    POLICY,
    ROLE_PREFIX,
    User,
    decode_id,
    user_record,
    user_resource,
)

router = APIRouter(prefix="/Users", route_class=ScimRoute, include_in_schema=False)
Caller = Depends(requires("admin:tenant"))


@router.get("")
async def list_users(request: Request, platform: Platform, ctx: TenantContext = Caller) -> Response:
    search = read_search(request, User)
    start, count = page_of(search)
    directory, base = platform.directory, base_of(request)
    if search.filter is None:
        records, total = await directory.users.page(ctx.tenant, start, count)
        found = [user_resource(record, base) for record in records]
    else:
        names = await _candidates(directory, ctx.tenant, search.filter.ast)
        matches = await matching(search.filter, _resources(directory, ctx.tenant, base, names))
        found, total = matches[start : start + count], len(matches)
    documents = [document_of(user, Context.RESOURCE_QUERY_RESPONSE, search) for user in found]
    return list_response(search, documents, total)


@router.post("")
async def create_user(
    request: Request, platform: Platform, ctx: TenantContext = Caller
) -> Response:
    sent = read_resource(User, await read_body(request), Context.RESOURCE_CREATION_REQUEST)
    record = user_record(sent)
    try:
        await platform.directory.users.create(ctx.tenant, record)
    except Conflict as error:
        raise UniquenessException(detail=error.detail) from None
    audit_changes(request, MemberChanges(added=(record.id,)))
    created = await _resource(request, platform.directory, ctx.tenant, record)
    return resource_response(request, created, Context.RESOURCE_CREATION_RESPONSE, 201)


@router.get("/{id}")
async def get_user(
    id: str, request: Request, platform: Platform, ctx: TenantContext = Caller
) -> Response:
    record = await _record(platform.directory, ctx.tenant, id)
    found = await _resource(request, platform.directory, ctx.tenant, record)
    return resource_response(request, found, Context.RESOURCE_QUERY_RESPONSE)


@router.put("/{id}")
async def replace_user(
    id: str, request: Request, platform: Platform, ctx: TenantContext = Caller
) -> Response:
    before = await _record(platform.directory, ctx.tenant, id)
    sent = read_resource(User, await read_body(request), Context.RESOURCE_REPLACEMENT_REQUEST)
    sent.replace(user_resource(before, base_of(request)))
    return await _store(
        request, platform.directory, ctx.tenant, before, sent, Context.RESOURCE_REPLACEMENT_RESPONSE
    )


@router.patch("/{id}")
async def patch_user(
    id: str, request: Request, platform: Platform, ctx: TenantContext = Caller
) -> Response:
    before = await _record(platform.directory, ctx.tenant, id)
    patch = await asyncio.to_thread(read_patch, User, await read_body(request))
    user = user_resource(before, base_of(request))
    await asyncio.to_thread(partial(patch.patch, user, scim_policy=POLICY))
    return await _store(
        request, platform.directory, ctx.tenant, before, user, Context.RESOURCE_PATCH_RESPONSE
    )


@router.delete("/{id}")
async def delete_user(
    id: str, request: Request, platform: Platform, ctx: TenantContext = Caller
) -> Response:
    before = await _record(platform.directory, ctx.tenant, id)
    check_precondition(request, _version(request, before))
    await platform.directory.users.delete(ctx.tenant, before)
    audit_changes(request, MemberChanges(removed=(before.id,)))
    return Response(status_code=204)


def base_of(request: Request) -> str:
    """The address of the tenant's SCIM service."""
    return f"{request.url.scheme}://{request.url.netloc}/platform/scim/v2"


def _version(request: Request, record: UserRecord) -> str | None:
    meta = user_resource(record, base_of(request)).meta
    return None if meta is None else meta.version


async def _store(
    request: Request,
    directory: Directory,
    tenant: str,
    before: UserRecord,
    user: User,
    context: Context,
) -> Response:
    """Store a changed user, and answer with it."""
    check_precondition(request, _version(request, before))
    if user.active is None and before.active is False:
        user.active = False  # only `true` lets a deactivated user in again
    record = user_record(user, before)
    if record.model_copy(update={"modified": before.modified}) == before:
        record = before
    else:
        try:
            await directory.users.replace(tenant, before, record)
        except Modified as error:
            raise PreconditionFailedException(detail=error.detail) from None
        except Conflict as error:
            raise UniquenessException(detail=error.detail) from None
    if (record.active is False) != (before.active is False):
        one = (record.id,)
        left = record.active is False
        audit_changes(request, MemberChanges((), one) if left else MemberChanges(one))
    return resource_response(request, await _resource(request, directory, tenant, record), context)


async def _record(directory: Directory, tenant: str, scim_id: str) -> UserRecord:
    user = decode_id(scim_id)
    records = [] if user is None else await directory.users.get_many(tenant, [user])
    if not records:
        raise NotFoundException(detail=f"no user with the id {scim_id[:100]!r}")
    return records[0]


async def _resource(
    request: Request, directory: Directory, tenant: str, record: UserRecord
) -> User:
    """A user, with its groups where they are asked for."""
    groups = None
    if wants(read_attributes(request, User), "groups", default=False):
        access = await directory.users.access(tenant, record.id)
        groups = sorted([*access.boards, *(ROLE_PREFIX + role for role in access.roles)])
    return user_resource(record, base_of(request), groups)


async def _candidates(directory: Directory, tenant: str, condition: Any) -> list[str] | None:
    """The only users that a filter may match; None if any may."""
    if (user := required_value(condition, "userName")) is not None:
        return [user]
    if (scim_id := required_value(condition, "id")) is not None:
        return [user] if (user := decode_id(scim_id)) is not None else []
    if (external := required_value(condition, "externalId")) is not None:
        user = await directory.users.find_external(tenant, external)
        return [] if user is None else [user]
    return None


async def _resources(
    directory: Directory, tenant: str, base: str, names: list[str] | None
) -> AsyncIterator[User]:
    if names is not None:
        for record in await directory.users.get_many(tenant, names):
            yield user_resource(record, base)
        return
    start, total = 0, 1
    while start < total:
        records, total = await directory.users.page(tenant, start, PAGE)
        for record in records:
            yield user_resource(record, base)
        start += PAGE
