"""Roles: named sets of rights that keys and tokens carry."""

from typing import Any

from fastapi import APIRouter, Depends, Request
from pydantic import Field

from shoal.contract.context import TenantContext, requires
from shoal.contract.errors import NotFound
from shoal.contract.names import RoleName
from shoal.contract.rights import RIGHTS, SERVICE_RIGHTS, Right
from shoal.tenants.members import MemberChanges
from shoal.tenants.records import PLATFORM, RoleRecord
from shoal.tenants.roles import NOTHING, OPERATE

from .access import require_to_grant
from .bodies import Body, Deleted
from .changes import audit_changes
from .dependencies import Platform

router = APIRouter()


class NewRole(Body):
    rights: list[Right] = Field(max_length=len(RIGHTS))


class RoleOfTenant(RoleRecord, json_schema_serialization_defaults_required=False):
    """A role; a built-in one has no `created`."""

    tenant: str | None = Field(
        ..., description="Whose it is: null for the built-in roles, `platform` the operator's."
    )


class Roles(Body):
    roles: list[RoleOfTenant]


@router.get("/roles", responses={200: {"model": Roles}})
async def list_roles(
    platform: Platform, ctx: TenantContext = Depends(requires("admin:tenant"))
) -> dict[str, Any]:
    """List the roles that a credential of this tenant may carry, with their rights."""
    return {"roles": list((await _known_roles(platform, ctx)).values())}


@router.get("/roles/{name}", responses={200: {"model": RoleOfTenant}})
async def get_role(
    name: RoleName, platform: Platform, ctx: TenantContext = Depends(requires("admin:tenant"))
) -> dict[str, Any]:
    """One role with its rights."""
    roles = await _known_roles(platform, ctx)
    if name not in roles:
        raise NotFound(f"no role {name!r}; the roles are {', '.join(roles)}")
    return roles[name]


@router.put("/roles/{name}", responses={200: {"model": RoleOfTenant}, 409: {}})
async def put_role(
    name: RoleName,
    body: NewRole,
    request: Request,
    platform: Platform,
    ctx: TenantContext = Depends(requires("admin:tenant")),
) -> dict[str, Any]:
    """Define a role, or replace its rights, with no more rights than your own.

    What credentials that carry it may do changes within a second. A role of the
    operator's is for every tenant that has none of that name.
    """
    rights = frozenset(body.rights)
    require_to_grant(ctx, rights, None)
    before = (await platform.directory.roles.list(ctx.tenant)).get(name)
    record = await platform.directory.roles.put(ctx.tenant, name, rights)
    had = NOTHING if before is None else before.rights
    changes = MemberChanges(tuple(sorted(rights - had)), tuple(sorted(had - rights)))
    audit_changes(request, changes)
    return {**record.public(), "tenant": ctx.tenant}


@router.delete("/roles/{name}", responses={200: {"model": Deleted}, 409: {}})
async def delete_role(
    name: RoleName, platform: Platform, ctx: TenantContext = Depends(requires("admin:tenant"))
) -> dict[str, Any]:
    """Delete a role. Within a second, credentials that carry it are refused.

    Where the operator has a role of that name, they have its rights instead.
    """
    instead = (await platform.directory.roles.list(PLATFORM)).get(name)
    if instead is not None and ctx.tenant != PLATFORM:
        require_to_grant(ctx, instead.rights - OPERATE, None)
    await platform.directory.roles.delete(ctx.tenant, name)
    return {"deleted": name}


async def _known_roles(platform: Platform, ctx: TenantContext) -> dict[str, dict[str, Any]]:
    """The built-in roles, the operator's, and the tenant's own, by name."""
    roles: dict[str, dict[str, Any]] = {
        name: {"name": name, "rights": sorted(rights), "tenant": None}
        for name, rights in SERVICE_RIGHTS.items()
    }
    for tenant in (PLATFORM, ctx.tenant):
        for name, record in (await platform.directory.roles.list(tenant)).items():
            roles[name] = {**record.public(), "tenant": tenant}
    return roles
