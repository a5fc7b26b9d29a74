"""Groups of a tenant, which are its boards and roles, as SCIM resources."""

import asyncio
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from scim2_models import (
    Context,
    InvalidValueException,
    NotFoundException,
    SearchRequest,
    UniquenessException,
)

from shoal.contract.context import TenantContext, requires
from shoal.contract.errors import Invalid, NotFound
from shoal.tenants.directory import Directory
from shoal.tenants.members import MemberChanges, Members
from shoal.tenants.records import GroupRecord, now

from ..access import require_to_grant
from ..changes import audit_changes
from ..dependencies import Platform
from .filters import matching, required_value
from .membership import (
    MAX_MEMBERS,
    compared_members,
    member_documents,
    patch_members,
    take_members,
    too_many,
)
from .messages import (
    MAX_BYTES,
    ScimRoute,
    check_precondition,
    check_small,
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
    POLICY,
    ROLE_PREFIX,
    Group,
    Member,
    checked,
    decode_id,
    encode_id,
    group_resource,
)
from .users import base_of

router = APIRouter(prefix="/Groups", route_class=ScimRoute, include_in_schema=False)
Caller = Depends(requires("admin:tenant"))
MAX_LISTED = 20_000
"""The most members of all groups of a page; the page ends before the next group."""


@dataclass(frozen=True, slots=True)
class StoredGroup:
    """A group where it is stored."""

    directory: Directory
    tenant: str
    name: str

    @property
    def _members(self) -> Members:
        is_role = self.name.startswith(ROLE_PREFIX)
        return self.directory.role_members if is_role else self.directory.boards

    @property
    def _group(self) -> str:
        return self.name.removeprefix(ROLE_PREFIX)

    async def exists(self) -> bool:
        return await self._members.exists(self.tenant, self._group)

    async def members(self) -> list[str]:
        return await self._members.members(self.tenant, self._group)

    async def record(self) -> GroupRecord:
        return (await self.directory.users.groups(self.tenant, [self.name]))[0]

    async def require_to_give(self, ctx: TenantContext) -> None:
        """Refuse to add members where that gives users more than the caller may do.

        Raises:
            Forbidden: It names the rights that the caller lacks.
            SCIMException: There is no such role.
        """
        if not self.name.startswith(ROLE_PREFIX):
            return ctx.require("write:tenant")  # members see all of the board
        try:
            rights = await self.directory.roles.rights(self.tenant, self._group, user="anyone")
        except Invalid as error:
            raise InvalidValueException(detail=f"displayName: {error.detail}") from None
        require_to_grant(ctx, rights, "anyone")

    async def create(self, record: GroupRecord, users: list[str]) -> MemberChanges:
        changes = await self._members.replace(self.tenant, self._group, users)
        await self.directory.users.put_group(self.tenant, self.name, record)
        return changes

    async def change(
        self, record: GroupRecord, before: list[str], after: list[str]
    ) -> MemberChanges:
        add, remove = sorted({*after} - {*before}), sorted({*before} - {*after})
        changes = await self._members.change(self.tenant, self._group, add, remove)
        await self.directory.users.put_group(self.tenant, self.name, record)
        return changes

    async def delete(self) -> MemberChanges:
        changes = await self._members.delete(self.tenant, self._group)
        await self.directory.users.put_group(self.tenant, self.name, None)
        return changes


@router.get("")
async def list_groups(
    request: Request, platform: Platform, ctx: TenantContext = Caller
) -> Response:
    search = read_search(request, Group)
    start, count = page_of(search)
    directory, base = platform.directory, base_of(request)
    names = await _candidates(directory, ctx.tenant, search.filter and search.filter.ast)
    if search.filter is None:
        page, total = names[start : start + count], len(names)
    else:
        wanted = compared_members(search.filter.ast)
        resources = _resources(directory, ctx.tenant, base, names, wanted)
        matches = await matching(search.filter, resources)
        page, total = [str(group.display_name) for group in matches], len(matches)
        page = page[start : start + count]
    documents = await _documents(directory, ctx.tenant, base, page, search)
    return list_response(search, documents, total)


@router.post("")
async def create_group(
    request: Request, platform: Platform, ctx: TenantContext = Caller
) -> Response:
    document = await read_body(request, MAX_BYTES)
    ids = take_members(document) or []
    check_small(document)
    sent = read_resource(Group, document, Context.RESOURCE_CREATION_REQUEST)
    name = checked(sent.display_name, "displayName")
    stored = StoredGroup(platform.directory, ctx.tenant, name)
    await stored.require_to_give(ctx)
    users = await _check_members(platform.directory, ctx.tenant, ids, before=[])
    if await stored.exists():
        raise UniquenessException(detail=f"the group {name[:100]!r} exists already")
    record = GroupRecord(external_id=_external_id(sent))
    audit_changes(request, await stored.create(record, users))
    return await _response(request, stored, record, Context.RESOURCE_CREATION_RESPONSE, 201)


@router.get("/{id}")
async def get_group(
    id: str, request: Request, platform: Platform, ctx: TenantContext = Caller
) -> Response:
    stored = await _stored(platform.directory, ctx.tenant, id)
    record = await stored.record()
    return await _response(request, stored, record, Context.RESOURCE_QUERY_RESPONSE)


@router.put("/{id}")
async def replace_group(
    id: str, request: Request, platform: Platform, ctx: TenantContext = Caller
) -> Response:
    stored = await _stored(platform.directory, ctx.tenant, id)
    await stored.require_to_give(ctx)
    document = await read_body(request, MAX_BYTES)
    ids = take_members(document) or []
    check_small(document)
    sent = read_resource(Group, document, Context.RESOURCE_REPLACEMENT_REQUEST)
    before = await stored.members()
    sent.replace(group_resource(stored.name, await stored.record(), [], base_of(request)))
    context = Context.RESOURCE_REPLACEMENT_RESPONSE
    return await _store(request, stored, before, sent, ids, context)


@router.patch("/{id}")
async def patch_group(
    id: str, request: Request, platform: Platform, ctx: TenantContext = Caller
) -> Response:
    stored = await _stored(platform.directory, ctx.tenant, id)
    await stored.require_to_give(ctx)
    document = await read_body(request, MAX_BYTES)
    before = await stored.members()
    if len(before) > MAX_MEMBERS:
        raise too_many()
    name = next((name for name in document if name.lower() == "operations"), "Operations")
    ids, others = patch_members(document.get(name), list(map(encode_id, before)))
    group = group_resource(stored.name, await stored.record(), [], base_of(request))
    if others or not document.get(name):
        document[name] = others
        check_small(document)
        patch = await asyncio.to_thread(read_patch, Group, document)
        await asyncio.to_thread(partial(patch.patch, group, scim_policy=POLICY))
    return await _store(request, stored, before, group, ids, Context.RESOURCE_PATCH_RESPONSE)


@router.delete("/{id}")
async def delete_group(
    id: str, request: Request, platform: Platform, ctx: TenantContext = Caller
) -> Response:
    stored = await _stored(platform.directory, ctx.tenant, id)
    check_precondition(request, await _version(request, stored, await stored.members()))
    audit_changes(request, await stored.delete())
    return Response(status_code=204)


async def _store(
    request: Request,
    stored: StoredGroup,
    before: list[str],
    group: Group,
    ids: Collection[str],
    context: Context,
) -> Response:
    """Store a changed group, whose members have these ids, and answer with it."""
    check_precondition(request, await _version(request, stored, before))
    after = await _check_members(stored.directory, stored.tenant, ids, before)
    old = await stored.record()
    record = old.model_copy(update={"external_id": _external_id(group)})
    if record != old or set(after) != set(before):
        record = record.model_copy(update={"modified": now()})
        audit_changes(request, await stored.change(record, before, after))
    return await _response(request, stored, record, context)


async def _response(
    request: Request, stored: StoredGroup, record: GroupRecord, context: Context, status: int = 200
) -> Response:
    base, members = base_of(request), None
    if wants(read_attributes(request, Group), "members", default=True):
        members = await stored.members()
    group = group_resource(stored.name, record, members, base)
    documents = member_documents(members or [], base)
    return resource_response(request, group, context, status, documents)


async def _version(request: Request, stored: StoredGroup, members: list[str]) -> str | None:
    found = group_resource(stored.name, await stored.record(), members, base_of(request))
    return None if found.meta is None else found.meta.version


def _external_id(group: Group) -> str | None:
    return None if group.external_id is None else checked(group.external_id, "externalId")


async def _stored(directory: Directory, tenant: str, scim_id: str) -> StoredGroup:
    name = decode_id(scim_id)
    if name is not None:
        stored = StoredGroup(directory, tenant, name)
        if await stored.exists():
            return stored
    raise NotFoundException(detail=f"no group with the id {scim_id[:100]!r}")


async def _check_members(
    directory: Directory, tenant: str, ids: Collection[str], before: list[str]
) -> list[str]:
    """The users with these ids.

    Raises:
        SCIMException: There are too many, or a new one is no user of the tenant.
    """
    if len(ids) > MAX_MEMBERS:
        raise too_many()
    users = {scim_id: decode_id(scim_id) for scim_id in ids}
    new = {user for user in users.values() if user is not None} - set(before)
    known = {record.id for record in await directory.users.get_many(tenant, sorted(new))}
    for scim_id, user in users.items():
        if user is None or (user in new and user not in known):
            raise InvalidValueException(
                detail=f"members: no user with the id {scim_id[:100]!r} (groups cannot be members)"
            )
    return [user for user in users.values() if user is not None]


async def _candidates(directory: Directory, tenant: str, condition: Any) -> list[str]:
    """The names of the groups that a filter may match, sorted; else of all."""
    name = required_value(condition, "displayName")
    if name is None and (scim_id := required_value(condition, "id")) is not None:
        name = decode_id(scim_id) or ""
    if name is not None:
        exists = name and await StoredGroup(directory, tenant, name).exists()
        return [name] if exists else []
    boards = await directory.boards.list(tenant)
    roles = [ROLE_PREFIX + role for role in await directory.role_members.list(tenant)]
    return sorted([*(board for board in boards if not board.startswith(ROLE_PREFIX)), *roles])


async def _resources(
    directory: Directory, tenant: str, base: str, names: list[str], wanted: set[str]
) -> AsyncIterator[Group]:
    """Groups to try a filter on: of their members only those that it compares with."""
    records = await directory.users.groups(tenant, names)
    for name, record in zip(names, records, strict=True):
        group = group_resource(name, record, None, base)
        if wanted:
            try:
                members = await StoredGroup(directory, tenant, name).members()
            except NotFound:  # deleted meanwhile
                continue
            group.members = [
                Member(value=i, ref=None) for i in wanted & set(map(encode_id, members))
            ]
        yield group


async def _documents(
    directory: Directory, tenant: str, base: str, names: list[str], search: SearchRequest[Any]
) -> list[dict[str, Any]]:
    """Groups with their members, until there are too many for one answer."""
    found: list[dict[str, Any]] = []
    listed = 0
    with_members = wants(search, "members", default=True)
    for name, record in zip(names, await directory.users.groups(tenant, names), strict=True):
        members = None
        if with_members:
            try:
                members = await StoredGroup(directory, tenant, name).members()
            except NotFound:  # deleted meanwhile
                continue
            listed += len(members)
        group = group_resource(name, record, members, base)
        shown = member_documents(members or [], base)
        found.append(document_of(group, Context.RESOURCE_QUERY_RESPONSE, search, shown))
        if listed > MAX_LISTED:
            break
    return found
